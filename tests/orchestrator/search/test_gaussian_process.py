from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_examples import limit_examples
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from orchestrator.search.surrogate import gaussian_process as surrogate
from orchestrator.search.surrogate.gaussian_process import Columns, Posterior, Prior, fit

NUMBERS = Columns(np.arange(3), np.ones(3, dtype=bool))
#: Two numbers and a choice of three options.
MIXED = Columns(np.array([0, 1, 2, 2, 2]), np.array([True, True, False, False, False]))


def draw_inputs(columns: Columns, n: int, rng: np.random.Generator) -> np.ndarray:
    hot = np.eye(3)[rng.integers(0, 3, n)] / np.sqrt(2)
    numbers = rng.random((n, int(columns.numeric.sum())))
    return np.hstack([numbers, hot]) if columns is MIXED else numbers


def draw_theta(columns: Columns, rng: np.random.Generator, spread: float) -> np.ndarray:
    prior = Prior.for_columns(columns)
    return prior.mean + spread * prior.deviation * rng.standard_normal(len(prior.mean))


def make_posterior(
    columns: Columns, n: int, rng: np.random.Generator
) -> tuple[Posterior, np.ndarray]:
    """Make a posterior of n random results; return it with the results."""
    posterior = Posterior(columns, draw_theta(columns, rng, 0.5))
    y = rng.standard_normal(n)
    posterior.add_inputs(draw_inputs(columns, n, rng), rng.random(n))
    posterior.condition_on(y)
    return posterior, y


columns_of_any_kind = st.sampled_from([NUMBERS, MIXED])


@given(
    columns=columns_of_any_kind,
    n=st.integers(2, 25),
    rungs=st.sampled_from([1, 4, 100]),
    seed=st.integers(0, 10**6),
)
@limit_examples(30)
def test_the_gradient_is_the_slope_of_the_density(
    columns: Columns, n: int, rungs: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = draw_inputs(columns, n, rng), rng.standard_normal(n)
    t = rng.choice(rng.random(rungs), n)
    theta = draw_theta(columns, rng, 0.5)
    density = surrogate._NegativeLogPosterior(columns, x, t, y)

    def loss(at: np.ndarray) -> float:
        return density(at)[0]

    gradient = density(theta)[1]
    direction = rng.standard_normal(len(theta))
    step = 1e-5
    slope = (loss(theta + step * direction) - loss(theta - step * direction)) / (2 * step)
    scale = np.abs(gradient) @ np.abs(direction)
    assert gradient @ direction == pytest.approx(slope, abs=1e-6 * scale)


@given(
    columns=columns_of_any_kind,
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    seed=st.integers(0, 10**6),
)
@limit_examples(30)
def test_results_may_come_in_any_portions(columns: Columns, sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    x, t, y = draw_inputs(columns, n, rng), rng.random(n), rng.standard_normal(n)
    theta = draw_theta(columns, rng, 0.5)
    at_once, bit_by_bit = Posterior(columns, theta), Posterior(columns, theta)
    at_once.add_inputs(x, t)
    for portion in np.split(np.arange(n), np.cumsum(sizes)[:-1]):
        bit_by_bit.add_inputs(x[portion], t[portion])
    points, end = draw_inputs(columns, 7, rng), np.ones(1)
    for posterior in (at_once, bit_by_bit):
        posterior.condition_on(y)
    a, b = at_once.predict_mean(points, end), bit_by_bit.predict_mean(points, end)
    np.testing.assert_allclose(a[0], b[0], atol=1e-6)
    np.testing.assert_allclose(
        at_once.predict_deviation(a[1]), bit_by_bit.predict_deviation(b[1]), atol=1e-6
    )


def test_at_one_epoch_and_without_warp_it_is_the_process_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, y, points = rng.random((30, 3)), rng.standard_normal(30), rng.random((50, 3))
    length, v, noise = np.array([0.5, 1.0, 2.0]), 1.7, 0.05
    theirs = GaussianProcessRegressor(
        ConstantKernel(v) * Matern(length, nu=2.5) + WhiteKernel(noise), optimizer=None, alpha=0.0
    ).fit(x, y)
    mean, deviation = theirs.predict(points, return_std=True)

    # a = b = 1 is no warp; with all inputs at one epoch, the factor of the epochs is 1
    named = np.log([*length, v, 0.5, 0.5, noise - surrogate._JITTER])
    ours = Posterior(NUMBERS, np.append(named, np.zeros(6)))
    ours.add_inputs(x, np.full(30, 0.4))
    ours.condition_on(y)
    our_mean, across = ours.predict_mean(points, np.full(1, 0.4))
    np.testing.assert_allclose(our_mean, mean, atol=1e-5)
    # theirs is of a new noisy result, ours of the function
    np.testing.assert_allclose(ours.predict_deviation(across) ** 2 + noise, deviation**2, atol=1e-5)


@given(columns=columns_of_any_kind, n=st.integers(1, 20), seed=st.integers(0, 10**6))
@limit_examples(30)
def test_a_pending_result_shrinks_the_uncertainty_and_keeps_the_mean(
    columns: Columns, n: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    posterior, y = make_posterior(columns, n, rng)
    points, end = draw_inputs(columns, 30, rng), np.ones(1)
    before, across = posterior.predict_mean(points, end)
    deviation = posterior.predict_deviation(across)
    posterior.add_pending(draw_inputs(columns, 4, rng), rng.random(4))
    assert len(posterior) == n + 4
    after, more = posterior.predict_mean(points, end)
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert (posterior.predict_deviation(more) <= deviation + 1e-6).all()

    posterior.truncate(n)
    posterior.condition_on(y)
    again, across = posterior.predict_mean(points, end)
    np.testing.assert_array_equal(again, before)
    np.testing.assert_array_equal(posterior.predict_deviation(across), deviation)


@given(
    columns=columns_of_any_kind,
    n=st.integers(1, 150),
    at=st.sampled_from([1, 200]),
    seed=st.integers(0, 10**6),
)
@limit_examples(30)
def test_the_approximate_mean_is_close_to_the_exact_mean(
    columns: Columns, n: int, at: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    posterior, _ = make_posterior(columns, n, rng)
    points, times = draw_inputs(columns, 200, rng), rng.random(at)
    mean, across = posterior.predict_mean(points, times)
    approximate, near = posterior.approximate_mean(points, times)
    np.testing.assert_allclose(near, across, atol=1e-5)
    np.testing.assert_allclose(
        approximate, mean, atol=1e-3 * max(1.0, np.abs(posterior._alpha).max())
    )


@given(columns=columns_of_any_kind, n=st.integers(1, 20), seed=st.integers(0, 10**6))
@limit_examples(30)
def test_the_quick_bound_is_never_below_the_deviation(columns: Columns, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    posterior, _ = make_posterior(columns, n, rng)
    _, across = posterior.predict_mean(draw_inputs(columns, 40, rng), np.ones(1))
    assert (posterior.bound_deviation(across) >= posterior.predict_deviation(across) - 1e-9).all()


@given(columns=columns_of_any_kind, n=st.integers(2, 30), seed=st.integers(0, 10**6))
@limit_examples(20)
def test_a_fit_is_never_worse_than_where_it_began(columns: Columns, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, t, y = draw_inputs(columns, n, rng), rng.random(n), rng.standard_normal(n)
    density, start = (
        surrogate._NegativeLogPosterior(columns, x, t, y),
        Prior.for_columns(columns).mean,
    )
    fitted = fit(columns, x, t, y, start=start, steps=8)
    assert density(fitted)[0] <= density(start)[0] + 1e-9


def test_a_fit_finds_out_which_coordinate_counts() -> None:
    rng = np.random.default_rng(3)
    x = rng.random((80, 3))
    y = np.sin(9 * x[:, 1])
    theta = fit(NUMBERS, x, np.ones(80), (y - y.mean()) / y.std(),
                start=Prior.for_columns(NUMBERS).mean, steps=40)  # fmt: skip
    assert theta[1] < theta[0] - 0.5 and theta[1] < theta[2] - 0.5
