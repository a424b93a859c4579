from __future__ import annotations

import numpy as np
import pytest
import textbook_network as textbook
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.network.arrays import Array
from trainers.network.losses import (
    BinaryCrossEntropy,
    Loss,
    SoftmaxCrossEntropy,
    choose_loss,
    compute_log_probabilities,
    compute_probabilities,
    count_network_outputs,
)


def loss_and_gradient(
    made: type[Loss], p: Array, y: Array, shares: Array | None = None
) -> tuple[float, Array]:
    shares = np.full(len(p), 1 / len(p)) if shares is None else shares
    loss = made(np.ascontiguousarray(p.T))
    with np.errstate(over="ignore", divide="ignore"):  # as in training
        value = loss(made.make_targets(y[None], shares[None], p.shape[1])[0], shares)
    return value, -loss.residual.T


@given(outputs=st.integers(1, 6), rows=st.integers(1, 8), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_loss_and_its_gradient_equal_the_textbook(outputs: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    task = "regression" if outputs == 1 else "classification"
    width = count_network_outputs(task, outputs)
    p = rng.normal(0.0, 3.0, size=(rows, width))
    y = rng.normal(size=rows) if outputs == 1 else rng.integers(0, outputs, rows).astype(float)
    wanted_loss, wanted_gradient = textbook.loss_and_output_gradient(p, y, outputs)
    loss, gradient = loss_and_gradient(choose_loss(task, outputs), p, y)
    assert loss == pytest.approx(wanted_loss, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-9, atol=1e-12)


@given(outputs=st.integers(1, 4), rows=st.integers(1, 5), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_whole_number_as_share_is_that_example_so_many_times(
    outputs: int, rows: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    made = choose_loss("regression" if outputs == 1 else "classification", outputs)
    p = rng.normal(size=(rows, 1 if outputs == 2 else outputs))
    y = rng.normal(size=rows) if outputs == 1 else rng.integers(0, outputs, rows)
    times = rng.integers(0, 4, rows)
    weighted, gradient = loss_and_gradient(made, p, y, times.astype(float))
    alike = np.repeat(p, times, 0), np.repeat(y, times), np.ones(times.sum())
    repeated, _ = loss_and_gradient(made, *alike)
    assert weighted == pytest.approx(repeated, rel=1e-12, abs=1e-12)
    each = np.concatenate([loss_and_gradient(made, p[[i]], y[[i]])[1] for i in range(rows)])
    np.testing.assert_allclose(gradient, each * times[:, None], atol=1e-12)


def test_cross_entropy_stays_finite_for_logits_whose_exponential_overflows() -> None:
    softmax = np.array([[1000.0, 0.0, -1000.0]])
    loss, gradient = loss_and_gradient(SoftmaxCrossEntropy, softmax, np.array([1]))
    assert loss == 1000.0
    np.testing.assert_allclose(gradient, [[1.0, -1.0, 0.0]])
    binary = np.array([[1000.0], [-1000.0]])
    loss, gradient = loss_and_gradient(BinaryCrossEntropy, binary, np.array([0, 0]))
    assert loss == 500.0
    np.testing.assert_allclose(gradient, [[0.5], [0.0]])


@given(
    size=st.sampled_from([1.0, 50.0, 59.0, 61.0, 100.0, 1e4]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_softmax_is_the_same_wherever_the_logits_lie(size: float, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, y = rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    wanted_loss, wanted_gradient = textbook.loss_and_output_gradient(p, y, 4)
    offsets = rng.uniform(-size, size, size=(6, 1))
    moved = (p + offsets).astype(dtype)
    share = np.full(6, 1 / 6, dtype)
    loss, gradient = loss_and_gradient(SoftmaxCrossEntropy, moved, y, share)
    rounding = 20 * size * float(np.finfo(dtype).eps)
    assert loss == pytest.approx(wanted_loss, abs=rounding)
    np.testing.assert_allclose(gradient, wanted_gradient, atol=rounding)


@given(outputs=st.integers(2, 6), rows=st.integers(1, 8), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_probabilities_are_positive_and_each_row_sums_to_one(
    outputs: int, rows: int, seed: int
) -> None:
    width = count_network_outputs("classification", outputs)
    logits = np.random.default_rng(seed).normal(0.0, 5.0, size=(rows, width))
    p = compute_probabilities(logits, outputs)
    assert p.shape == (rows, outputs)
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)


def test_one_logit_gives_the_sigmoid_as_the_second_column() -> None:
    np.testing.assert_allclose(
        compute_probabilities(np.array([[0.0], [2.0]]), 2),
        [[0.5, 0.5], [1 / (1 + np.exp(2.0)), 1 / (1 + np.exp(-2.0))]],
    )


def test_log_probabilities_of_certain_errors_are_not_clipped() -> None:
    assert compute_log_probabilities(np.array([[800.0]]), 2)[0, 0] == -800.0
    assert compute_log_probabilities(np.array([[0.0, 800.0, 0.0]]), 3)[0, 0] == -800.0
