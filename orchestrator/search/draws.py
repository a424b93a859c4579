"""Points to try, and where each comes from: the whole space, a box, or the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from orchestrator.search.events import Forecast
from orchestrator.search.history import History
from orchestrator.search.random_streams import Purpose, stream, uniform
from orchestrator.search.samplers import Sampler
from orchestrator.search.zoom import Zoom
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["Draw", "draw_by_model", "draw_coarse", "draw_fine"]

PATIENCE = 1_000  #: draws in a row that break a constraint before a box is given up
REDRAWS = 8  #: draws beside a diverged trial that are drawn again before one is let through


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A point of the unit cube that a method proposes, and why."""

    point: Point
    stage: str  #: coarse | fine
    reason: str
    zoom: Zoom | None = None  #: the box of the fine stage; None in the coarse stage
    forecast: Forecast | None = None  #: None where no model proposed the point


def draw_coarse(sampler: Sampler, number: int) -> Draw | None:
    """The sampler's point of this number, over the whole space; None if the sequence has ended."""
    point = sampler.point(number)
    if point is None:
        return None
    return Draw(point=point, stage="coarse", reason=sampler.describe(number))


def draw_fine(space: Space, zoom: Zoom, *, seed: int, trial: int, history: History) -> Draw | None:
    """A uniform point in the box, away from where trials diverged.

    None where the constraints leave nothing of the box.
    """
    redrawn = 0
    for u in _uniform_points(len(space), seed=seed, trial=trial):
        point = zoom.low + u * (zoom.high - zoom.low)
        canonical = space.point(space.config(point))
        if not space.allowed(canonical[None])[0]:
            continue
        if redrawn == REDRAWS or not history.nearest_is_bad(canonical):
            break
        redrawn += 1
    else:
        return None
    again = f"; drawn again {redrawn} times beside diverged trials" if redrawn else ""
    return Draw(point=point, stage="fine", reason=zoom.reason + again, zoom=zoom)


def _uniform_points(dimensions: int, *, seed: int, trial: int) -> Iterator[Point]:
    """Points in the unit cube; most draws need one, which is drawn with its neighbours'."""
    yield uniform(seed, trial, Purpose.FINE, dimensions)
    rng = stream(seed, trial, Purpose.ZOOM)
    for _ in range(PATIENCE - 1):
        yield rng.random(dimensions)


def draw_by_model(zoom: Zoom | None, point: Point, forecast: Forecast) -> Draw:
    """The point that the model proposes, and whether it lies in the present box.

    The box does not bind the model: it says where the good trials are, and a draw outside the box
    is one where the model saw a chance all the same.
    """
    reason = "expected to improve most on the best so far"
    if zoom is None:
        return Draw(point=point, stage="coarse", reason=reason, forecast=forecast)
    inside = np.all(np.isnan(point) | (zoom.low <= point) & (point <= zoom.high))
    where = f"{'inside' if inside else 'outside'} box {zoom.number}"
    return Draw(
        point=point, stage="fine", reason=f"{reason}; {where}", zoom=zoom, forecast=forecast
    )
