from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_examples import CONDITIONAL, limit_examples, space_of

from orchestrator.search.draws import draw_fine
from orchestrator.search.history import History
from orchestrator.search.zoom import BORDER, SHRINK, Zoom, zoom_in
from orchestrator.space.domains import Choice, Point
from orchestrator.space.space import Space

SPACE = space_of(CONDITIONAL)
SQUARE = space_of("x: {linear: [0, 1]}\ny: {linear: [0, 1]}")
ROUNDING = 1e-12


@st.composite
def elites(draw: st.DrawFn, space: Space = SPACE) -> list[Point]:
    """Points of one to eight trials, NaN where a dimension is inactive."""
    size = len(space)
    coordinates = st.lists(st.floats(0, 1), min_size=size, max_size=size)
    drawn = draw(st.lists(coordinates, min_size=1, max_size=8))
    return [space.to_point(space.to_config(np.array(u))) for u in drawn]


def make_zoom(points: list[Point], previous: dict | None = None, *, space: Space = SPACE) -> Zoom:
    trials = range(10, 10 + len(points))
    return zoom_in(space, points=points, trials=list(trials), number=1, previous=previous or {})


def active_values(points: list[Point], i: int) -> list[float]:
    """Active values of the elites in this dimension, best first."""
    return [float(p[i]) for p in points if not math.isnan(p[i])]


# ---------------------------------------------------------------------- boxes


@given(rounds=st.lists(elites(), min_size=1, max_size=6))
@limit_examples(60)
def test_every_box_lies_in_the_cube_and_holds_the_best_value(rounds: list[list[Point]]) -> None:
    box: dict[str, tuple[float, float]] = {}
    for points in rounds:
        box_zoom = make_zoom(points, box)
        box = dict(box_zoom.box)
        assert list(box) == [d.name for d in SPACE.dimensions]
        for i, d in enumerate(SPACE.dimensions):
            low, high = box[d.name]
            assert 0 <= low < high <= 1
            best = active_values(points, i)[:1]
            if best and not isinstance(d.domain, Choice):
                assert low - ROUNDING <= best[0] <= high + ROUNDING


@given(first=elites(), second=elites())
@limit_examples(60)
def test_a_box_halves_unless_the_best_value_lies_on_its_border_or_beyond(
    first: list[Point], second: list[Point]
) -> None:
    before = make_zoom(first).box
    after = make_zoom(second, dict(before)).box
    for i, d in enumerate(SPACE.dimensions):
        if isinstance(d.domain, Choice):
            continue
        low, high = before[d.name]
        width, now = high - low, after[d.name][1] - after[d.name][0]
        best = active_values(second, i)
        if not best:
            assert after[d.name] == before[d.name]
        elif low + BORDER * width + ROUNDING < best[0] < high - BORDER * width - ROUNDING:
            assert now == pytest.approx(SHRINK * width)
        elif not low + BORDER * width - ROUNDING <= best[0] <= high - BORDER * width + ROUNDING:
            assert now == pytest.approx(width)


@given(edge=st.sampled_from([0.0, 1.0]), inside=st.floats(0, 0.01), rounds=st.integers(1, 5))
@limit_examples(30)
def test_a_best_value_at_the_end_of_the_range_is_never_cut_off(
    edge: float, inside: float, rounds: int
) -> None:
    best = abs(edge - inside)
    box: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        box = dict(make_zoom([np.array([best, 0.5])], box, space=SQUARE).box)
        assert box["x"] == (0.0, 1.0)
    assert box["y"][1] - box["y"][0] == pytest.approx(SHRINK**rounds)


def test_a_box_follows_an_optimum_that_lies_beyond_it() -> None:
    """Elites always at the right border of the box: it walks there and does not shrink."""
    box = {"x": (0.0, 0.25), "y": (0.4, 0.6)}
    for _ in range(12):
        best = min(box["x"][1], 0.8)
        box = dict(make_zoom([np.array([best, 0.5])], box, space=SQUARE).box)
    assert box["x"][0] < 0.8 < box["x"][1]
    assert box["x"][1] - box["x"][0] <= 0.25


@given(options=st.lists(st.sampled_from("ab"), min_size=1, max_size=8))
@limit_examples(60)
def test_a_choice_that_three_quarters_of_the_elites_made_is_settled(options: list[str]) -> None:
    space = space_of("kind: {choice: [a, b, c]}")
    points = [space.to_point({"kind": option}) for option in options]
    box = make_zoom(points, space=space).box["kind"]
    winner = max("ab", key=options.count)
    if 4 * options.count(winner) < 3 * len(options):
        assert box == (0.0, 1.0)
    else:
        middle = (box[0] + box[1]) / 2
        assert space.to_config(np.array([middle])) == {"kind": winner}
        assert box[1] - box[0] == pytest.approx(1 / 3)


@given(options=st.lists(st.sampled_from("abc"), min_size=1, max_size=8), seed=st.integers(0, 99))
@limit_examples(60)
def test_every_draw_from_a_settled_choice_is_that_choice(options: list[str], seed: int) -> None:
    space = space_of("kind: {choice: [a, b, c]}")
    box_zoom = make_zoom([space.to_point({"kind": options[0]})], space=space)
    draw = draw_fine(space, box_zoom, seed=seed, trial=1, history=History(space))
    assert space.to_config(draw.point) == {"kind": options[0]}


def test_a_box_names_its_parents_best_first() -> None:
    points = [np.array([0.5, 0.5]), np.array([0.4, 0.5])]
    box_zoom = zoom_in(SQUARE, points=points, trials=[9, 2], number=3, previous={})
    assert (box_zoom.number, box_zoom.parents) == (3, (9, 2))


# ---------------------------------------------------------------------- draws


@given(points=elites(), seed=st.integers(0, 2**63 - 1), trial=st.integers(0, 10**6))
@limit_examples(60)
def test_every_draw_lies_in_its_box_and_says_where_it_comes_from(
    points: list[Point], seed: int, trial: int
) -> None:
    box_zoom = make_zoom(points)
    draw = draw_fine(SPACE, box_zoom, seed=seed, trial=trial, history=History(SPACE))
    for d, u in zip(SPACE.dimensions, draw.point, strict=True):
        assert box_zoom.box[d.name][0] <= u <= box_zoom.box[d.name][1]
    assert (draw.stage, draw.zoom) == ("fine", box_zoom)
    assert draw.reason
    again = draw_fine(SPACE, box_zoom, seed=seed, trial=trial, history=History(SPACE))
    assert np.array_equal(draw.point, again.point)


WHOLE = Zoom(number=1, box={"x": (0.0, 1.0), "y": (0.0, 1.0)}, parents=(0,))


def draw_points(history: History, count: int = 400, *, space: Space = SQUARE, box: Zoom = WHOLE):
    return [
        draw_fine(space, box, seed=5, trial=trial, history=history).point for trial in range(count)
    ]


def test_draws_keep_away_from_where_a_trial_diverged() -> None:
    """Half the square lies nearer to the bad one: a blind draw lands there in one case of two.

    With eight redraws it should be one of 2^9; twenty of 400 has a chance below 1e-15.
    """
    history = History(SQUARE)
    history.add(np.array([0.25, 0.5]), bad=True)
    history.add(np.array([0.75, 0.5]), bad=False)
    left = sum(point[0] < 0.5 for point in draw_points(history))
    assert left < 20


def test_where_all_diverged_draws_go_on() -> None:
    history = History(SQUARE)
    history.add(np.array([0.5, 0.5]), bad=True)
    assert len(draw_points(history, 5)) == 5


def test_a_trial_that_diverges_later_on_counts_as_bad() -> None:
    """The trial had a result in the first rung, so it is stored twice; the later entry counts."""
    history = History(SQUARE)
    history.add(np.array([0.25, 0.5]), bad=False)
    history.add(np.array([0.75, 0.5]), bad=False)
    history.add(np.array([0.25, 0.5]), bad=True)
    assert history.is_nearest_bad(np.array([0.25, 0.5]))
    assert not history.is_nearest_bad(np.array([0.75, 0.5]))


@given(points=elites(), bad=st.lists(st.booleans(), min_size=8, max_size=8), query=elites())
@limit_examples(60)
def test_the_nearest_one_decides_and_what_is_idle_in_one_of_two_is_far_apart(
    points: list[Point], bad: list[bool], query: list[Point]
) -> None:
    history = History(SPACE)
    for point, went_bad in zip(points, bad, strict=False):
        history.add(point, bad=went_bad)
    gaps = [squared_distance(point, query[0]) for point in points]
    nearest = {b for gap, b in zip(gaps, bad, strict=False) if gap <= min(gaps) + ROUNDING}
    assert history.is_nearest_bad(query[0]) in nearest


def squared_distance(a: Point, b: Point) -> float:
    """Compute the squared distance with a plain loop over the coordinates."""
    total = 0.0
    for d, u, v in zip(SPACE.dimensions, a, b, strict=True):
        if math.isnan(u) and math.isnan(v):
            continue
        if math.isnan(u) or math.isnan(v):
            total += 1.0
        elif isinstance(d.domain, Choice):
            total += float(u != v)
        else:
            total += (u - v) ** 2
    return total


def test_a_choice_that_only_one_of_two_has_sets_them_apart() -> None:
    text = "kind: {choice: [a, b]}\nsub: {choice: [x, y], when: {kind: a}}\n"
    space = space_of(text + "u: {linear: [0, 1]}\nv: {linear: [0, 1]}")
    history = History(space)
    history.add(space.to_point({"kind": "a", "sub": "x", "u": 0.0, "v": 0.0}), bad=True)  # at 1 + 1
    history.add(space.to_point({"kind": "b", "u": 1.0, "v": 0.5}), bad=False)  # at 1 + 1/4
    assert not history.is_nearest_bad(space.to_point({"kind": "b", "u": 0.0, "v": 0.0}))


def test_the_memory_of_where_trials_went_bad_is_bounded_and_forgets_the_oldest() -> None:
    history = History(SQUARE)
    history.add(np.array([0.1, 0.1]), bad=True)
    for _ in range(History.SIZE - 1):
        history.add(np.array([0.9, 0.9]), bad=False)
    assert history.is_nearest_bad(np.array([0.1, 0.1]))
    history.add(np.array([0.9, 0.9]), bad=False)
    assert not history.is_nearest_bad(np.array([0.1, 0.1]))
