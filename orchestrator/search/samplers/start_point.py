"""A sampler that begins with values that usually work: its first points lie at or near them.

Hvarfner, Stoll, Souza, Lindauer, Hutter & Nardi 2022, "πBO", arXiv:2204.11051, reduce the weight of
such a prior during a search. Here it only places the first few points; after that, results decide.
"""

from __future__ import annotations

import numpy as np

from orchestrator.search.samplers.base import Sampler
from orchestrator.space.domains import Choice, Point
from orchestrator.space.space import Space

__all__ = ["StartPoint"]


class StartPoint:
    """A sequence that begins at the start point; every second next point lies half way to it.

    Args:
        sampler: The sequence that is changed.
        space: The space; at least one of its parameters has a `start_at`.
        count: Number of points among which some lie half way; later points are not changed.
    """

    def __init__(self, sampler: Sampler, space: Space, *, count: int) -> None:
        assert space.start_point is not None
        self._sampler, self._start_point, self._count = sampler, space.start_point, count
        self._is_choice = np.array([isinstance(d.domain, Choice) for d in space.dimensions])

    def draw_point(self, number: int) -> Point | None:
        """Return the point of this number, from 0."""
        if number == 0:
            return self._start_point
        point = self._sampler.draw_point(number - 1)
        if point is None or not self._is_half_way(number):
            return point
        # half of a choice's draws take the start option; the other half are drawn from all options
        option = np.where(point < 0.5, self._start_point, 2 * point - 1)
        return np.where(self._is_choice, option, (point + self._start_point) / 2)

    def describe_point(self, number: int) -> str:
        """Describe the origin of the point, in words."""
        if number == 0:
            return "the values that usually work"
        half_way = " half way to the values that usually work" if self._is_half_way(number) else ""
        return f"{self._sampler.describe_point(number - 1)}{half_way}"

    def _is_half_way(self, number: int) -> bool:
        """Whether the point of this number lies half way to the start point."""
        return number < self._count and number % 2 == 1
