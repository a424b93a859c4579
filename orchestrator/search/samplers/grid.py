"""Every combination of a few values of each hyperparameter, for comparison with other samplers.

Only active hyperparameters are combined, so no configuration is trained twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from orchestrator.space.domains import Choice, Config, Domain, Fixed, Integer, Point, Value
from orchestrator.space.space import Space

__all__ = ["Grid"]


class Grid:
    """Combinations of `levels` values of each dimension, its ends included.

    Of a choice, or of a range of at most `levels` integers, all values are combined.
    """

    def __init__(self, space: Space, *, levels: int) -> None:
        self._space = space
        self._levels = levels
        self._combinations = self._generate_combinations({})
        self._points: list[Point] = []

    def draw_point(self, number: int) -> Point | None:
        """Return the combination of this number; None after the last one."""
        while number >= len(self._points):
            point = next(self._combinations, None)
            if point is None:
                return None
            self._points.append(point)
        return self._points[number]

    def describe_point(self, number: int) -> str:
        """Describe the draw by its number and the name of the sequence."""
        return f"draw {number + 1} of the grid sequence"

    def _generate_combinations(self, config: Config) -> Iterator[Point]:
        """Generate all completions of these values; the last names change fastest."""
        d = self._space.find_next_open(config)
        if d is None:
            # an inactive dimension may have any coordinate, since it changes nothing
            yield np.nan_to_num(self._space.to_point(config), nan=0.5)
            return
        for value in _choose_values(d.parameter.domain, self._levels):
            yield from self._generate_combinations({**config, d.name: value})


def _choose_values(domain: Domain, levels: int) -> list[Value]:
    if isinstance(domain, Fixed):
        return [domain.value]
    if isinstance(domain, Choice):
        return list(dict.fromkeys(domain.options))
    if isinstance(domain, Integer) and domain.high - domain.low < levels:
        return list(range(domain.low, domain.high + 1))
    units = np.linspace(0, 1, levels) if levels > 1 else [0.5]
    return list(dict.fromkeys(domain.from_unit(float(u)) for u in units))
