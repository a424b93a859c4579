"""A search begins where the spec says that values usually work, and looks around it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_examples import space_of, spec_of

from orchestrator.errors import SpecError
from orchestrator.search.budget import Budget
from orchestrator.search.events import SessionStarted
from orchestrator.search.samplers import make_sampler
from orchestrator.search.search import Search
from orchestrator.search.spec import SearchSpec

LEANING = 12
SPACE = """
rate: {log: [1e-4, 1], start_at: 1e-2}
kind: {choice: [a, b, c], start_at: b}
beta: {reverse_log: [0.9, 0.999], when: {kind: a}, start_at: 0.99}
units: {int_log2: [8, 512], start_at: 64}
free: {linear: [0, 1]}
"""


@given(st.integers(0, 2**32))
def test_the_first_point_is_the_usual_one_and_those_that_lean_lie_nearer(seed: int) -> None:
    space = space_of(SPACE)
    leaning = make_sampler("sobol", space, seed=seed, grid_levels=3, start_points=LEANING)
    plain = make_sampler("sobol", space, seed=seed, grid_levels=3)
    first = leaning.draw_point(0)
    assert first is not None
    assert space.to_config(first) == pytest.approx(
        {"rate": 1e-2, "kind": "b", "units": 64, "free": 0.5}
    )
    numbers = [space.index[n] for n in ("rate", "units", "free")]
    for draw in range(1, 2 * LEANING):
        mine, other = leaning.draw_point(draw), plain.draw_point(draw - 1)
        assert mine is not None and other is not None
        assert ((mine >= 0) & (mine <= 1)).all()
        if draw < LEANING and draw % 2:
            gap, whole = abs(mine - first)[numbers], abs(other - first)[numbers]
            np.testing.assert_allclose(gap, whole / 2)
        else:
            np.testing.assert_array_equal(mine, other)


def test_every_option_can_still_be_drawn() -> None:
    space = space_of(SPACE)
    kinds = set()
    for seed in range(40):
        sampler = make_sampler("sobol", space, seed=seed, grid_levels=3, start_points=LEANING)
        point = sampler.draw_point(1)
        assert point is not None
        kinds.add(space.to_config(point)["kind"])
    assert kinds == {"a", "b", "c"}


@pytest.mark.parametrize("method", ["asha", "random", "sobol", "hyperband", "median"])
def test_the_published_methods_do_not_lean(method: str) -> None:
    with_start, plain = space_of(SPACE), space_of(re.sub(r", start_at: [\w.-]+", "", SPACE))
    spec = SearchSpec(method=method, sampler="random", pruning="none", rungs=(9,), zooms=0)
    configs = []
    for space in (with_start, plain):
        search = Search(space, spec, seed=1, max_epochs=9)
        search.apply(SessionStarted(budget=Budget(trials=20)))
        configs.append([search.suggest()[-1].config for _ in range(20)])
    assert configs[0] == configs[1]


def test_each_first_trial_says_where_it_comes_from() -> None:
    search = Search(space_of(SPACE), SearchSpec(rungs=(1, 4, 10, 27)), seed=1, max_epochs=27)
    search.apply(SessionStarted(budget=Budget(trials=100)))
    reasons = [search.suggest()[-1].reason for _ in range(4)]
    assert reasons == [
        "the values that usually work",
        "draw 1 of the sobol sequence half way to the values that usually work",
        "draw 2 of the sobol sequence",
        "draw 3 of the sobol sequence half way to the values that usually work",
    ]


def test_a_usual_point_that_breaks_a_constraint_is_left_out() -> None:
    space = spec_of(SPACE, constraints=["units < 60"]).parameters()
    sampler = make_sampler("sobol", space, seed=0, grid_levels=3, start_points=LEANING)
    for draw in range(20):
        point = sampler.draw_point(draw)
        assert point is not None
        assert space.to_config(point)["units"] < 60


def test_a_usual_value_outside_its_range_is_refused() -> None:
    with pytest.raises(SpecError, match=r"space\.rate: start_at needs a value of log .*, got 2"):
        space_of("rate: {log: [1e-4, 1], start_at: 2}")
