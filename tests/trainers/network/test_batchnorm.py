from __future__ import annotations

import numpy as np
import pytest
import textbook_network as textbook
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.network.arrays import Array
from trainers.network.batchnorm import BatchNorm, RunningStatistics
from trainers.network.row_broadcast import shorten_buffer


def fast_both_ways(
    z: Array, gamma: Array, beta: Array, dy: Array, *, negative: bool = False
) -> tuple[Array, ...]:
    """y, dz, d_gamma, d_beta, mean, variance; what comes in and out negated is turned back here."""
    d_gamma, d_beta, mean, spread = (np.empty_like(gamma) for _ in range(4))
    sign = -1 if negative else 1
    inside, out, gradient = z * sign, np.empty((1 + len(z), z.shape[1]), z.dtype), -dy
    norm = BatchNorm(
        gamma,
        beta,
        gamma_gradient=d_gamma,
        beta_gradient=d_beta,
        mean=mean,
        shifted_variance=spread,
        z=inside,
        out=out,
        gradient=gradient,
        negative=negative,
        epsilon=1e-5,
    )
    with shorten_buffer():
        for each in norm.forward:
            each()
        y = -out[1:]
        for each in norm.backward:
            each()
    return y, gradient * sign, d_gamma * len(z), d_beta * len(z), mean, spread - 1e-5


@given(
    rows=st.integers(2, 9),
    units=st.integers(1, 5),
    offset=st.sampled_from([0.0, 1e3]),
    negative=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_fast_batchnorm_equals_the_textbook_one(
    rows: int, units: int, offset: float, negative: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    z, dy = rng.normal(size=(2, rows, units))
    z += offset
    gamma, beta = rng.normal(size=(2, units))
    y, cache = textbook.batchnorm_forward(z, gamma, beta, 1e-5)
    dz, d_gamma, d_beta = textbook.batchnorm_backward(dy, cache)
    expected = (y, dz, d_gamma, d_beta, cache["mean"], cache["variance"])
    fast = fast_both_ways(z, gamma, beta, dy, negative=negative)
    for got, wanted in zip(fast, expected, strict=True):
        # Two rows that are close make dz a small difference of large numbers.
        np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-8)


@given(rows=st.integers(2, 40), units=st.integers(1, 6), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_batchs_own_deviation_and_mean_as_gamma_and_beta_give_back_z(
    rows: int, units: int, seed: int
) -> None:
    z = np.random.default_rng(seed).normal(3.0, 2.0, size=(rows, units))
    gamma, beta = np.sqrt(z.var(axis=0) + 1e-5), z.mean(axis=0)
    np.testing.assert_allclose(fast_both_ways(z, gamma, beta, z)[0], z, rtol=1e-9, atol=1e-9)


@given(rows=st.integers(2, 40), units=st.integers(1, 6), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_bias_before_batchnorm_has_no_effect_and_a_gradient_of_zero(
    rows: int, units: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    z, dy = rng.normal(size=(2, rows, units))
    gamma, beta, bias = rng.normal(size=(3, units))
    plain, shifted = (fast_both_ways(w, gamma, beta, dy) for w in (z, z + bias))
    np.testing.assert_allclose(shifted[0], plain[0], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(plain[1].sum(axis=0), 0.0, atol=1e-9 * (1 + abs(plain[1]).max()))


def test_a_large_mean_does_not_spoil_the_variance_in_float32() -> None:
    z = (1e4 + np.random.default_rng(0).normal(size=(64, 3))).astype(np.float32)
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    *_, variance = fast_both_ways(z, ones, zeros, np.zeros_like(z))
    np.testing.assert_allclose(variance, z.astype(np.float64).var(axis=0), rtol=1e-3)


def test_a_constant_column_becomes_the_shift() -> None:
    z = np.full((4, 2), 5.0)
    y, dz, *_ = fast_both_ways(z, np.ones(2), np.array([3.0, -1.0]), np.ones((4, 2)))
    np.testing.assert_allclose(y, [[3.0, -1.0]] * 4, atol=1e-9)
    np.testing.assert_allclose(dz, 0.0, atol=1e-9)


def batches_seen(batches: Array, decay: float) -> RunningStatistics:
    statistics = RunningStatistics(batches.shape[2], np.float64)
    for batch in batches:
        statistics.batch[0], statistics.batch[1] = batch.mean(axis=0), batch.var(axis=0) + 1e-5
        statistics.add(rows=len(batch), decay=decay, epsilon=1e-5)
    statistics.settle(decay=decay, epsilon=1e-5)
    return statistics


def test_early_running_statistics_are_the_plain_mean_over_the_batches() -> None:
    batches = np.random.default_rng(1).normal(3.0, 2.0, size=(200, 8, 4))
    statistics = batches_seen(batches, decay=0.999)
    np.testing.assert_allclose(statistics.running[0], batches.mean(axis=(0, 1)))
    unbiased = batches.var(axis=1, ddof=1).mean(axis=0)
    np.testing.assert_allclose(statistics.running[1], unbiased)


def test_late_running_statistics_keep_the_share_decay_of_the_old_value() -> None:
    batches = np.random.default_rng(2).normal(size=(130, 8, 4))
    before, after = batches_seen(batches[:-1], 0.9), batches_seen(batches, 0.9)
    expected = 0.9 * before.running[0] + 0.1 * batches[-1].mean(axis=0)
    np.testing.assert_allclose(after.running[0], expected)
    expected = 0.9 * before.running[1] + 0.1 * batches[-1].var(axis=0, ddof=1)
    np.testing.assert_allclose(after.running[1], expected)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_the_first_batch_replaces_the_start_values(decay: float) -> None:
    batch = np.random.default_rng(3).normal(size=(1, 6, 2))
    np.testing.assert_allclose(batches_seen(batch, decay).running[0], batch[0].mean(axis=0))
