"""Every combination of a few values of each hyperparameter: here to be compared with.

Two inactive coordinates make no difference to a config, so only the combinations that differ are
tried: a grid never trains the same config twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from orchestrator.space import Choice, Integer, Point, Real, Space

__all__ = ["Grid"]


class Grid:
    """`levels` values of each dimension, both ends included; all of a choice or a short range."""

    def __init__(self, space: Space, *, levels: int) -> None:
        self._space = space
        self._walk = self._distinct([_levels(d.domain, levels) for d in space.dimensions])
        self._points: list[Point] = []

    def point(self, draw: int) -> Point | None:
        """The draw-th combination, or None after the last one."""
        while draw >= len(self._points):
            point = next(self._walk, None)
            if point is None:
                return None
            self._points.append(point)
        return self._points[draw]

    def _distinct(self, values: list[list[float]]) -> Iterator[Point]:
        first = np.array([v[0] for v in values])
        for combination in itertools.product(*values):
            point = np.array(combination)
            config = self._space.config(point)
            idle = [d.name not in config for d in self._space.dimensions]
            if np.array_equal(point[idle], first[idle]):
                yield point


def _levels(domain: Real | Integer | Choice, levels: int) -> list[float]:
    if isinstance(domain, Choice):
        return [domain.to_unit(option) for option in domain.options]
    if isinstance(domain, Integer) and domain.high - domain.low < levels:
        return [domain.to_unit(v) for v in range(domain.low, domain.high + 1)]
    return [float(u) for u in np.linspace(0, 1, levels)] if levels > 1 else [0.5]
