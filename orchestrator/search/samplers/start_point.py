"""Begin with values that usually work: the first points of a search lie there and around it.

Hvarfner, Stoll, Souza, Lindauer, Hutter & Nardi 2022, "πBO", arXiv:2204.11051, let such a belief
weigh less and less in a search; here it places the first few points, and the results weigh it.
"""

from __future__ import annotations

import numpy as np

from orchestrator.search.samplers.base import Sampler
from orchestrator.space.domains import Choice, Point
from orchestrator.space.space import Space

__all__ = ["StartPoint"]


class StartPoint:
    """A sequence that begins at the start point; every second of the next lies half way to it.

    Args:
        sampler: The sequence itself.
        space: The space; at least one of its parameters has a `start_at`.
        count: Number of points that lean to the start point; the rest are the sampler's own.
    """

    def __init__(self, sampler: Sampler, space: Space, *, count: int) -> None:
        assert space.start_point is not None
        self._sampler, self._start_point, self._count = sampler, space.start_point, count
        self._choices = np.array([isinstance(d.domain, Choice) for d in space.dimensions])

    def point(self, number: int) -> Point | None:
        """The point of this number, from 0."""
        if number == 0:
            return self._start_point
        point = self._sampler.point(number - 1)
        if point is None or not self._leans(number):
            return point
        # half of a choice's draws take the start option, the others are drawn from all options
        option = np.where(point < 0.5, self._start_point, 2 * point - 1)
        return np.where(self._choices, option, (point + self._start_point) / 2)

    def describe(self, number: int) -> str:
        """Where the point comes from, in words."""
        if number == 0:
            return "the values that usually work"
        half_way = " half way to the values that usually work" if self._leans(number) else ""
        return f"{self._sampler.describe(number - 1)}{half_way}"

    def _leans(self, number: int) -> bool:
        """Whether the point of this number lies half way to the start point."""
        return number < self._count and number % 2 == 1
