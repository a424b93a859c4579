"""Points to try, drawn from the whole space, from a box, or by the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from orchestrator.search.events import Forecast
from orchestrator.search.history import History
from orchestrator.search.random_streams import Purpose, draw_uniform, make_generator
from orchestrator.search.samplers import Sampler
from orchestrator.search.zoom import Zoom
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["Draw", "draw_by_model", "draw_coarse", "draw_fine"]

MAX_DRAWS = 1_000  #: draws from one box; if all of them break a constraint, the box is given up
MAX_REDRAWS = 8  #: rejected draws near diverged trials; the next one is accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A point of the unit cube that a method proposes, and the reason."""

    point: Point
    stage: str  #: coarse | fine
    reason: str
    zoom: Zoom | None = None  #: the box of the fine stage; None in the coarse stage
    forecast: Forecast | None = None  #: None if no model proposed the point


def draw_coarse(sampler: Sampler, number: int) -> Draw | None:
    """Return the sampler's point of this number; None after the end of its sequence."""
    point = sampler.draw_point(number)
    if point is None:
        return None
    return Draw(point=point, stage="coarse", reason=sampler.describe_point(number))


def draw_fine(space: Space, zoom: Zoom, *, seed: int, trial: int, history: History) -> Draw | None:
    """Draw a uniform point in the box, away from diverged trials.

    The answer is None if every draw breaks a constraint.
    """
    redrawn = 0
    for u in _generate_points(len(space), seed=seed, trial=trial):
        point = zoom.low + u * (zoom.high - zoom.low)
        canonical = space.to_point(space.to_config(point))
        if not space.allowed_mask(canonical[None])[0]:
            continue
        if redrawn == MAX_REDRAWS or not history.is_nearest_bad(canonical):
            break
        redrawn += 1
    else:
        return None
    note = f"; drawn again {redrawn} times beside diverged trials" if redrawn else ""
    return Draw(point=point, stage="fine", reason=zoom.reason + note, zoom=zoom)


def _generate_points(dimensions: int, *, seed: int, trial: int) -> Iterator[Point]:
    """Generate uniform points in the unit cube; most draws need only the first, cheap one."""
    yield draw_uniform(seed, trial, Purpose.FINE, dimensions)
    rng = make_generator(seed, trial, Purpose.ZOOM)
    for _ in range(MAX_DRAWS - 1):
        yield rng.random(dimensions)


def draw_by_model(zoom: Zoom | None, point: Point, forecast: Forecast) -> Draw:
    """Return the model's point as a draw, with a note on whether it lies in the present box.

    The box does not bind the model. It shows where the good trials are; a draw outside of it is a
    point at which the model still expects an improvement.
    """
    reason = "expected to improve most on the best so far"
    if zoom is None:
        return Draw(point=point, stage="coarse", reason=reason, forecast=forecast)
    inside = np.all(np.isnan(point) | (zoom.low <= point) & (point <= zoom.high))
    where = f"{'inside' if inside else 'outside'} box {zoom.number}"
    return Draw(
        point=point, stage="fine", reason=f"{reason}; {where}", zoom=zoom, forecast=forecast
    )
