"""The points of recent trials, and which of them went bad."""

from __future__ import annotations

import numpy as np

from orchestrator.space.domains import Choice, Point
from orchestrator.space.space import Space

__all__ = ["History"]


class History:
    """Points of the last 512 trials; the limit keeps the cost of a draw constant."""

    SIZE = 512

    def __init__(self, space: Space) -> None:
        self._points = np.full((self.SIZE, len(space)), np.nan)
        self._bad = np.zeros(self.SIZE, dtype=bool)
        self._is_choice = np.array(
            [isinstance(d.domain, Choice) for d in space.dimensions], dtype=bool
        )
        self._count = 0

    def add(self, point: Point, *, bad: bool) -> None:
        """Add a trial's point (NaN where inactive) and whether the trial went bad."""
        self._points[self._count % self.SIZE] = point
        self._bad[self._count % self.SIZE] = bad
        self._count += 1

    def is_nearest_bad(self, point: Point) -> bool:
        """Whether the nearest of these trials diverged or failed.

        The distance in a dimension is 1, the largest one, if it is active in only one of the two
        points, or if they have different options of a choice.
        """
        filled = min(self._count, self.SIZE)
        if not self._bad[:filled].any():
            return False
        old, bad = self._points[:filled], self._bad[:filled]
        gap = np.abs(old - point)
        apart = self._is_choice & (gap > 0) | (np.isnan(old) != np.isnan(point))
        distance = (np.where(apart, 1.0, np.nan_to_num(gap)) ** 2).sum(axis=1)
        # a trial that had a result at first and diverged later is stored twice
        return bool(bad[distance == distance.min()].any())
