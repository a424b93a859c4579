"""Begin with what usually works: where a spec says so, the first points are there and around it.

Hvarfner, Stoll, Souza, Lindauer, Hutter & Nardi 2022, "πBO", arXiv:2204.11051, let such a belief
weigh less and less in a search; here it places the first few points, and the results weigh it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orchestrator.space.domains import Choice, Point
from orchestrator.space.space import Space

if TYPE_CHECKING:
    from orchestrator.search.samplers import Sampler

__all__ = ["StartPoint"]


class StartPoint:
    """A sequence whose first point is the usual one; of the next, every second lies half way there.

    Args:
        sampler: The sequence itself.
        space: Some of its parameters have a usual value.
        most: Points that lean to it; from there on it is the sequence alone.
    """

    def __init__(self, sampler: Sampler, space: Space, *, most: int) -> None:
        assert space.start_point is not None
        self.sampler, self._start_point, self._most = sampler, space.start_point, most
        self._choices = np.array([isinstance(d.domain, Choice) for d in space.dimensions])

    def point(self, draw: int) -> Point | None:
        """The draw-th point (from 0)."""
        if draw == 0:
            return self._start_point
        point = self.sampler.point(draw - 1)
        if point is None or not self.leans(draw):
            return point
        # half of the options' draws are the usual one, the others are drawn from all
        option = np.where(point < 0.5, self._start_point, 2 * point - 1)
        return np.where(self._choices, option, (point + self._start_point) / 2)

    def leans(self, draw: int) -> bool:
        """Whether that point lies half way."""
        return draw < self._most and draw % 2 == 1
