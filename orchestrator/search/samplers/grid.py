"""Every combination of a few values of each hyperparameter: here to be compared with.

It walks the values that are active beside each other, so it never trains the same config twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from orchestrator.space.domains import Choice, Config, Domain, Fixed, Integer, Point, Value
from orchestrator.space.space import Space

__all__ = ["Grid"]


class Grid:
    """`levels` values of each dimension, both ends included; all of a choice or a short range."""

    def __init__(self, space: Space, *, levels: int) -> None:
        self._space = space
        self._levels = levels
        self._walk = self._combinations({})
        self._points: list[Point] = []

    def point(self, number: int) -> Point | None:
        """The combination of this number, or None after the last one."""
        while number >= len(self._points):
            point = next(self._walk, None)
            if point is None:
                return None
            self._points.append(point)
        return self._points[number]

    def describe(self, number: int) -> str:
        """The number of the draw, and the name of the sequence."""
        return f"draw {number + 1} of the grid sequence"

    def _combinations(self, config: Config) -> Iterator[Point]:
        """All that these values can be completed to, the names that come last changing fastest."""
        d = self._space.next_open(config)
        if d is None:
            # what is not active has no coordinate; any will do, since it makes no difference
            yield np.nan_to_num(self._space.point(config), nan=0.5)
            return
        for value in _values(d.parameter.domain, self._levels):
            yield from self._combinations({**config, d.name: value})


def _values(domain: Domain, levels: int) -> list[Value]:
    if isinstance(domain, Fixed):
        return [domain.value]
    if isinstance(domain, Choice):
        return list(dict.fromkeys(domain.options))
    if isinstance(domain, Integer) and domain.high - domain.low < levels:
        return list(range(domain.low, domain.high + 1))
    units = np.linspace(0, 1, levels) if levels > 1 else [0.5]
    return list(dict.fromkeys(domain.from_unit(float(u)) for u in units))
