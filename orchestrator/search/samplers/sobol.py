"""A scrambled Sobol sequence: random to look at, but without holes and clusters.

Sobol' 1967; scrambling by Owen 1998 as scipy.stats.qmc does it.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from orchestrator.search.random_streams import Purpose, stream
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["Sobol"]

_BLOCK = 128  #: points made at once; a power of two keeps the sequence balanced


class Sobol:
    """The scrambled sequence in as many dimensions as the space has."""

    def __init__(self, space: Space, *, seed: int) -> None:
        rng = stream(seed, 0, Purpose.SCRAMBLE)
        self._engine = qmc.Sobol(len(space), scramble=True, rng=rng) if len(space) else None
        self._points = np.empty((0, len(space)))

    def point(self, number: int) -> Point:
        """The point of this number; the sequence never ends."""
        if self._engine is None:
            return np.empty(0)
        while number >= len(self._points):
            self._points = np.concatenate([self._points, self._engine.random(_BLOCK)])
        point: Point = self._points[number]
        return point

    def describe(self, number: int) -> str:
        """The number of the draw, and the name of the sequence."""
        return f"draw {number + 1} of the sobol sequence"
