"""A scrambled Sobol sequence: it looks random, but has no holes and clusters.

Sobol' 1967; scrambled as in Matousek 1998 and Owen 1998, by scipy.stats.qmc.
"""

from __future__ import annotations

import numpy as np

from orchestrator.search.random_streams import Purpose, make_generator
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["Sobol"]

_BLOCK = 128  #: number of points made at once; a power of two keeps the sequence balanced


class Sobol:
    """Scrambled sequence with the dimensions of the space."""

    def __init__(self, space: Space, *, seed: int) -> None:
        from scipy.stats import qmc  # half a second that reading a spec need not wait for

        rng = make_generator(seed, 0, Purpose.SCRAMBLE)
        self._engine = qmc.Sobol(len(space), scramble=True, rng=rng) if len(space) else None
        self._points = np.empty((0, len(space)))

    def draw_point(self, number: int) -> Point:
        """Return the point of this number; the sequence never ends."""
        if self._engine is None:
            return np.empty(0)
        while number >= len(self._points):
            self._points = np.concatenate([self._points, self._engine.random(_BLOCK)])
        point: Point = self._points[number]
        return point

    def describe_point(self, number: int) -> str:
        """Describe the draw by its number and the name of the sequence."""
        return f"draw {number + 1} of the sobol sequence"
