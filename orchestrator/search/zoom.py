"""The fine stage: boxes around the best region, each narrower than the one before.

A zoom looks at the best trials so far and cuts every dimension to half its width around them, on
the dimension's own scale. Where the best value lies on the border of the box it was drawn from, the
optimum may lie beyond it: the box then keeps its width and moves (at the end of the range it stays
as wide as it was), because narrowing there would cut off what was just found.

Divergence teaches: a draw whose nearest neighbour diverged or failed is drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from orchestrator.search.draws import Draw
from orchestrator.search.events import Box
from orchestrator.search.random_streams import Purpose, stream, uniform
from orchestrator.search.surrogate.advisor import Forecast
from orchestrator.space.domains import Choice, Point
from orchestrator.space.space import Space

__all__ = ["BORDER", "ELITES", "SHRINK", "History", "Zoom", "draw_by_model", "draw_fine", "zoom_in"]

SHRINK = 0.5  #: a zoom halves each side; two zooms leave a quarter of each range
ELITES = 8  #: the trials that make a box, at most a quarter of those that have a result
BORDER = 0.05  #: this share of a box's side counts as its border
AGREE = 0.75  #: a choice is settled where this share of the elites made it
PATIENCE = 1_000  #: draws that break a constraint before the box is given up
REDRAWS = 8  #: how often a draw near a diverged trial is drawn again before it is let through


@dataclass(frozen=True, kw_only=True)
class Zoom:
    """A box that fine trials are drawn from, and the trials that made it."""

    number: int  #: 1, 2, …
    box: Box  #: in the space's order
    parents: tuple[int, ...]

    @cached_property
    def low(self) -> Point:
        """The box's lowest corner, shape (dimensions,)."""
        return np.array([low for low, _ in self.box.values()])

    @cached_property
    def high(self) -> Point:
        """Its highest one."""
        return np.array([high for _, high in self.box.values()])

    @cached_property
    def reason(self) -> str:
        """Where its draws come from, in words."""
        return f"from box {self.number} around trials {', '.join(map(str, self.parents))}"


def zoom_in(
    space: Space, *, points: Sequence[Point], trials: Sequence[int], number: int, previous: Box
) -> Zoom:
    """The next box, around the best trials, inside or beside the previous one.

    Args:
        space: The hyperparameters.
        points: The elites' coordinates, best first, shape (dimensions,) each, NaN where inactive.
        trials: Their ids, in the same order.
        number: The new box's number.
        previous: The box before; an empty one is the whole cube.
    """
    box: dict[str, tuple[float, float]] = {}
    for i, d in enumerate(space.dimensions):
        old = previous.get(d.name, (0.0, 1.0))
        active = [float(p[i]) for p in points if not np.isnan(p[i])]
        if not active:
            box[d.name] = old
        elif isinstance(d.domain, Choice):
            box[d.name] = _find_agreed_option(d.domain, active) or old
        else:
            box[d.name] = _narrow_side(active, old)
    return Zoom(number=number, box=box, parents=tuple(trials))


def _narrow_side(active: list[float], old: tuple[float, float]) -> tuple[float, float]:
    """The side of the new box: around the elites' median, with the best of them inside."""
    best, width = active[0], old[1] - old[0]
    if min(best - old[0], old[1] - best) < BORDER * width:
        middle = best  # on the border: the box moves there and stays as wide
    else:
        width *= SHRINK
        middle = min(max(float(np.median(active)), best - width / 2), best + width / 2)
    low = min(max(middle - width / 2, 0.0), 1.0 - width)
    return low, low + width


def _find_agreed_option(domain: Choice, active: list[float]) -> tuple[float, float] | None:
    """The share of the option that the elites agree on, or None."""
    options = [domain.index(domain.from_unit(u)) for u in active]
    winner = max(options, key=options.count)
    if options.count(winner) < AGREE * len(options):
        return None
    return winner / len(domain.options), (winner + 1) / len(domain.options)


def draw_fine(space: Space, zoom: Zoom, *, seed: int, trial: int, history: History) -> Draw | None:
    """A uniform point in the box, away from where trials diverged.

    None where the constraints leave nothing of the box.
    """
    redrawn = 0
    for u in _tries(len(space), seed=seed, trial=trial):
        point = zoom.low + u * (zoom.high - zoom.low)
        seen = space.point(space.config(point))
        if not space.allowed(seen[None])[0]:
            continue
        if redrawn == REDRAWS or not history.nearest_is_bad(seen):
            break
        redrawn += 1
    else:
        return None
    told = f"; drawn again {redrawn} times beside diverged trials" if redrawn else ""
    return Draw(
        point=point,
        stage="fine",
        reason=zoom.reason + told,
        zoom=zoom.number,
        box=zoom.box,
        parents=zoom.parents,
    )


def _tries(dimensions: int, *, seed: int, trial: int) -> Iterator[Point]:
    """Points in the unit cube; most draws need one, which is drawn with its neighbours'."""
    yield uniform(seed, trial, Purpose.FINE, dimensions)
    rng = stream(seed, trial, Purpose.ZOOM)
    for _ in range(PATIENCE - 1):
        yield rng.random(dimensions)


def draw_by_model(zoom: Zoom | None, forecast: Forecast) -> Draw:
    """The point that the model proposes, and whether it lies in the present box.

    The box does not bind the model: it says where the good trials are, and a draw outside it is one
    where the model saw a chance all the same.
    """
    told = "expected to improve most on the best so far"
    if zoom is None:
        return Draw(point=forecast.point, stage="coarse", reason=told, forecast=forecast)
    u = forecast.point
    inside = np.all(np.isnan(u) | (zoom.low <= u) & (u <= zoom.high))
    return Draw(
        point=forecast.point,
        stage="fine",
        reason=f"{told}; {'inside' if inside else 'outside'} box {zoom.number}",
        zoom=zoom.number,
        box=zoom.box,
        parents=zoom.parents,
        forecast=forecast,
    )


class History:
    """Where the last few hundred trials lay and which of them went bad: a bounded memory."""

    SIZE = 512

    def __init__(self, space: Space) -> None:
        self._points = np.full((self.SIZE, len(space)), np.nan)
        self._bad = np.zeros(self.SIZE, dtype=bool)
        self._choice = np.array(
            [isinstance(d.domain, Choice) for d in space.dimensions], dtype=bool
        )
        self._count = 0

    def add(self, point: Point, *, bad: bool) -> None:
        """Remember a trial's coordinates (NaN where inactive) and whether it went bad."""
        self._points[self._count % self.SIZE] = point
        self._bad[self._count % self.SIZE] = bad
        self._count += 1

    def nearest_is_bad(self, point: Point) -> bool:
        """Whether the nearest remembered trial diverged or failed.

        A dimension that is active in only one of the two counts as far apart as it can be, and so
        do two different options of a choice.
        """
        known = min(self._count, self.SIZE)
        if not self._bad[:known].any():
            return False
        old, bad = self._points[:known], self._bad[:known]
        gap = np.abs(old - point)
        apart = self._choice & (gap > 0) | (np.isnan(old) != np.isnan(point))
        distance = (np.where(apart, 1.0, np.nan_to_num(gap)) ** 2).sum(axis=1)
        # a trial that was well at first and diverged later stands there twice
        return bool(bad[distance == distance.min()].any())
