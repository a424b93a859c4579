"""Independent uniform points.

Bergstra & Bengio 2012, "Random Search for Hyper-Parameter Optimization", JMLR 13: with a few
hyperparameters that matter and many that do not, n random points try n values of each of them
where a grid tries n^(1/d).
"""

from __future__ import annotations

import numpy as np

from orchestrator.space import Point, Space
from orchestrator.streams import Purpose, stream

__all__ = ["Random"]


_BLOCK = 128  #: points drawn at once


class Random:
    """Uniform in the cube, any draw at any time: each block of draws has a stream of its own."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._dimensions = len(space)
        self._seed = seed
        self._block, self._points = -1, np.empty((0, len(space)))

    def point(self, draw: int) -> Point:
        """The draw-th point; the sequence never ends."""
        block, place = divmod(draw, _BLOCK)
        if block != self._block:
            rng = stream(self._seed, block, Purpose.SAMPLE)
            self._block, self._points = block, rng.random((_BLOCK, self._dimensions))
        point: Point = self._points[place]
        return point
