from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from search_examples import CONDITIONAL, limit_examples, points, space_of, spaces

from orchestrator.search.surrogate.acquisition import (
    expected_improvement,
    propose_candidates,
    refine_candidates,
)
from orchestrator.space.space import Space


@given(mean=st.floats(-3, 3), deviation=st.floats(0.01, 3), best=st.floats(-3, 3))
@limit_examples(50)
def test_expected_improvement_is_the_integral_it_stands_for(
    mean: float, deviation: float, best: float
) -> None:
    low = min(best, mean) - 12 * deviation
    wanted, _ = quad(
        lambda f: (best - f) * norm.pdf(f, mean, deviation), low, best, points=[min(mean, best)]
    )
    improvement = expected_improvement(np.array([mean]), np.array([deviation]), best)
    assert improvement[0] == pytest.approx(wanted, abs=1e-6)
    assert improvement[0] > 0


@given(data=st.data(), space=spaces())
@limit_examples(40)
def test_many_points_are_put_in_order_as_one_by_one(data: st.DataObject, space: Space) -> None:
    several = np.array(data.draw(st.lists(points(space), min_size=1, max_size=5)))
    together = space.canonicalise(several)
    one_by_one = np.array([space.to_point(space.to_config(p)) for p in several])
    np.testing.assert_array_equal(np.isnan(together), np.isnan(one_by_one))
    # a value such as 1 - 1e-13 keeps three digits of its coordinate
    np.testing.assert_allclose(together, one_by_one, atol=5e-3)
    np.testing.assert_array_equal(space.canonicalise(np.nan_to_num(together, nan=0.5)), together)


@given(space=spaces(), seed=st.integers(0, 10**6))
@limit_examples(20)
def test_candidates_are_points_of_configurations(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    elites = space.canonicalise(rng.random((3, len(space))))
    candidates = propose_candidates(space, elites, rng)
    np.testing.assert_array_equal(
        candidates, space.canonicalise(np.nan_to_num(candidates, nan=0.5))
    )
    for point in candidates[:: len(candidates) // 7]:
        space.check_config(space.to_config(np.nan_to_num(point, nan=0.5)), source="candidate")


def test_local_search_finds_a_corner_and_never_loses_what_it_had() -> None:
    space = space_of("a: {linear: [0, 1]}\nb: {log: [1e-4, 1]}\nc: {linear: [0, 1]}")
    rng = np.random.default_rng(0)
    target = np.array([0.0, 1.0, 0.4])

    def value(p: np.ndarray) -> np.ndarray:
        return -np.abs(p - target).sum(axis=1)

    start = propose_candidates(space, rng.random((4, 3)), rng)
    refined = refine_candidates(
        space, start, value(start), value, elites=rng.random((4, 3)), rng=rng
    )[0]
    assert value(refined[None])[0] >= value(start).max()
    assert np.abs(refined - target).max() < 0.1


def test_conditional_children_become_active_with_their_parents() -> None:
    space = space_of(CONDITIONAL)
    rng = np.random.default_rng(0)
    candidates = propose_candidates(space, space.canonicalise(rng.random((1, len(space)))), rng)
    active = ~np.isnan(candidates)
    assert active.any(axis=0).all()  # every dimension is tried, whatever the elite had
