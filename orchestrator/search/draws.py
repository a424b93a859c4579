"""The coarse stage: the whole cube, drawn from by a sampler."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.search.events import Box
from orchestrator.search.samplers import Sampler, told
from orchestrator.search.surrogate.advisor import Forecast
from orchestrator.space.domains import Point

__all__ = ["Draw", "draw_coarse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A point to try, and where it comes from."""

    point: Point
    stage: str  #: coarse | fine | given
    reason: str
    zoom: int | None = None
    box: Box | None = None
    parents: tuple[int, ...] | None = None
    forecast: Forecast | None = None  #: where a model proposed it


def draw_coarse(sampler: Sampler, draw: int) -> Draw | None:
    """The draw-th point over the whole space, or None where the sampler has no more."""
    point = sampler.point(draw)
    if point is None:
        return None
    return Draw(point=point, stage="coarse", reason=told(sampler, draw))
