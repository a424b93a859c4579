from __future__ import annotations

import hashlib
import itertools
import json

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy.stats import qmc
from search_examples import CONDITIONAL, limit_examples, run_in_another_process, space_of

from orchestrator.errors import SpecError
from orchestrator.search.samplers import SAMPLERS, Sampler, make_sampler
from orchestrator.search.samplers.grid import Grid
from orchestrator.search.samplers.random import Random
from orchestrator.search.samplers.sobol import Sobol
from orchestrator.space.domains import Choice, Integer, Real
from orchestrator.space.space import Dimension, Parameter, Space

DRAWING = [name for name in SAMPLERS if name != "none"]
every_sampler = pytest.mark.parametrize("name", DRAWING)


def make_small_sampler(name: str, *, seed: int = 0, text: str = CONDITIONAL) -> Sampler:
    return make_sampler(name, space_of(text), seed=seed, grid_levels=2)


def hash_points(name: str, *, seed: int) -> str:
    sampler = make_small_sampler(name, seed=seed)
    points = [sampler.draw_point(draw) for draw in (0, 1, 2, 40)]
    return hashlib.sha256(b"".join(p.tobytes() for p in points)).hexdigest()


def test_without_a_sampler_nothing_is_drawn() -> None:
    assert [make_small_sampler("none").draw_point(draw) for draw in range(3)] == [None] * 3


# ---------------------------------------------------------------------- what every one must keep


@every_sampler
@given(order=st.permutations(range(0, 260, 52)), seed=st.integers(0, 2**63 - 1))
@limit_examples(5)
def test_a_draw_is_a_point_of_the_cube_whatever_was_asked_before(
    name: str, order: list[int], seed: int
) -> None:
    sampler, other = make_small_sampler(name, seed=seed), make_small_sampler(name, seed=seed)
    first = {draw: sampler.draw_point(draw) for draw in order}
    for draw in sorted(order):
        point = first[draw]
        assert point is not None and point.shape == (len(space_of(CONDITIONAL)),)
        assert ((point >= 0) & (point <= 1)).all()
        assert np.array_equal(point, other.draw_point(draw)) and np.array_equal(
            point, sampler.draw_point(draw)
        )


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = "from test_samplers import *; print(*(hash_points(name, seed=7) for name in DRAWING))"
    drawn = [hash_points(name, seed=7) for name in DRAWING]
    assert run_in_another_process(code).split() == drawn


@pytest.mark.parametrize("name", ["sobol", "random"])
def test_another_seed_draws_others(name: str) -> None:
    assert len({hash_points(name, seed=seed) for seed in range(5)}) == 5


@every_sampler
def test_a_space_in_which_all_is_fixed_has_a_point_without_coordinates(name: str) -> None:
    point = make_small_sampler(name, text="rate: 0.1").draw_point(0)
    assert point is not None and point.shape == (0,)


def test_an_unknown_sampler_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(SpecError, match=r"sobol \| random \| grid \| none, got 'tpe'"):
        make_sampler("tpe", space_of(), seed=0, grid_levels=3)


# ---------------------------------------------------------------------- how well they fill


@pytest.mark.parametrize("draws", [64, 100, 200])
def test_sobol_leaves_smaller_holes_than_random_points(draws: int) -> None:
    text = "\n".join(f"p{i}: {{linear: [0, 1]}}" for i in range(5))

    def discrepancy(name: str, seed: int) -> float:
        sampler = make_small_sampler(name, seed=seed, text=text)
        return qmc.discrepancy(np.array([sampler.draw_point(d) for d in range(draws)]))

    sobol = [discrepancy("sobol", seed) for seed in range(5)]
    random = [discrepancy("random", seed) for seed in range(5)]
    assert max(sobol) < min(random) / 2


def test_sobol_puts_one_point_into_each_of_as_many_equal_shares() -> None:
    """The first 2^m points of a Sobol sequence: one in each 2^-m of every coordinate."""
    sampler = Sobol(space_of(CONDITIONAL), seed=3)
    points = np.array([sampler.draw_point(draw) for draw in range(256)])
    for column in points.T:
        assert sorted((column * 256).astype(int)) == list(range(256))


def test_random_draws_are_uniform_and_do_not_depend_on_their_neighbours() -> None:
    """Bounds at five standard deviations: a false alarm in a million seeds."""
    sampler = Random(space_of(), seed=0)
    points = np.array([sampler.draw_point(draw) for draw in range(3_000)])
    assert np.abs(points.mean(axis=0) - 0.5).max() < 5 / np.sqrt(12 * 3_000)
    for column in points.T:
        following = np.corrcoef(column[:-1], column[1:])[0, 1]
        assert abs(following) < 5 / np.sqrt(3_000)


# ---------------------------------------------------------------------- the grid


@st.composite
def grids(draw: st.DrawFn) -> tuple[Space, int]:
    """A small space with a condition and layers, and a number of levels."""
    low = draw(st.integers(1, 3))
    number = Integer(
        low=low,
        high=low + draw(st.integers(1, 9)),
        scale=draw(st.sampled_from(["linear", "log2"])),
    )
    kinds = Choice(options=tuple("abc"[: draw(st.integers(1, 3))]))
    parameters = [
        Parameter(name="kind", domain=kinds),
        Parameter(name="layers", domain=Integer(low=1, high=2)),
        Parameter(
            name="rate", domain=Real(low=1.0, high=100.0, scale="log"), when={"kind": ("a",)}
        ),
        Parameter(name="number", domain=number, per="layers" if draw(st.booleans()) else None),
    ]
    return Space(draw(st.permutations(parameters))), draw(st.integers(1, 4))


def list_points(grid: Grid) -> list[np.ndarray]:
    points = list(
        itertools.takewhile(lambda p: p is not None, map(grid.draw_point, itertools.count()))
    )
    assert grid.draw_point(len(points) + 5) is None
    return points


ONE_TO_FIVE = Space([Parameter(name="n", domain=Integer(low=1, high=5, scale="log2"))])


@given(grid=grids())
@example(grid=(ONE_TO_FIVE, 4))
@limit_examples(60)
def test_a_grid_never_tries_the_same_config_twice(grid: tuple[Space, int]) -> None:
    space, levels = grid
    configs = [space.to_config(point) for point in list_points(Grid(space, levels=levels))]
    assert len({json.dumps(c, sort_keys=True) for c in configs}) == len(configs)


@given(grid=grids())
@limit_examples(60)
def test_a_grid_covers_every_option_every_short_range_and_both_ends(
    grid: tuple[Space, int],
) -> None:
    space, levels = grid
    assume(levels > 1)
    configs = [space.to_config(point) for point in list_points(Grid(space, levels=levels))]
    for dimension in space.dimensions:
        seen = {config[dimension.name] for config in configs if dimension.name in config}
        assert required_values(dimension, levels) <= seen


def required_values(dimension: Dimension, levels: int) -> set[object]:
    domain = dimension.domain
    if isinstance(domain, Choice):
        return set(domain.options)
    if isinstance(domain, Integer) and domain.high - domain.low < levels:
        return set(range(domain.low, domain.high + 1))
    return {domain.low, domain.high}


@pytest.mark.timeout(3)
def test_a_grid_steps_over_what_is_not_active_without_looking_at_all_of_it() -> None:
    """With one layer of twenty, 3^19 combinations of the others' widths are the same config."""
    space = space_of("layers: {int: [1, 20]}\nwidth: {int: [4, 6], per: layers}")
    grid = Grid(space, levels=3)
    configs = [json.dumps(space.to_config(grid.draw_point(draw))) for draw in range(8)]
    assert len(set(configs)) == 8


def test_a_grid_tries_every_combination_that_differs() -> None:
    """Counted by hand: two kinds, of which a has three rates; one or two layers of two widths."""
    space = space_of(
        "kind: {choice: [a, b]}\n"
        "rate: {linear: [0, 1], when: {kind: a}}\n"
        "layers: {int: [1, 2]}\n"
        "width: {int: [4, 5], per: layers}\n"
    )
    assert len(list_points(Grid(space, levels=3))) == (3 + 1) * (2 + 4)
