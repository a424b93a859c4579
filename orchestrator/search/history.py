"""Where recent trials lay and which of them went bad."""

from __future__ import annotations

import numpy as np

from orchestrator.space.domains import Choice, Point
from orchestrator.space.space import Space

__all__ = ["History"]


class History:
    """The last 512 trials: a bounded memory, so that a draw costs the same in a long search."""

    SIZE = 512

    def __init__(self, space: Space) -> None:
        self._points = np.full((self.SIZE, len(space)), np.nan)
        self._bad = np.zeros(self.SIZE, dtype=bool)
        self._is_choice = np.array(
            [isinstance(d.domain, Choice) for d in space.dimensions], dtype=bool
        )
        self._count = 0

    def add(self, point: Point, *, bad: bool) -> None:
        """Remember a trial's coordinates (NaN where inactive) and whether it went bad."""
        self._points[self._count % self.SIZE] = point
        self._bad[self._count % self.SIZE] = bad
        self._count += 1

    def nearest_is_bad(self, point: Point) -> bool:
        """Whether the nearest remembered trial diverged or failed.

        A dimension that is active in only one of the two counts as far apart as possible, and so
        do two different options of a choice.
        """
        filled = min(self._count, self.SIZE)
        if not self._bad[:filled].any():
            return False
        old, bad = self._points[:filled], self._bad[:filled]
        gap = np.abs(old - point)
        apart = self._is_choice & (gap > 0) | (np.isnan(old) != np.isnan(point))
        distance = (np.where(apart, 1.0, np.nan_to_num(gap)) ** 2).sum(axis=1)
        # a trial that was well at first and diverged later is remembered twice
        return bool(bad[distance == distance.min()].any())
