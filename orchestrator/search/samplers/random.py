"""Independent uniform points.

Bergstra & Bengio 2012, "Random Search for Hyper-Parameter Optimization", JMLR 13: with a few
hyperparameters that matter and many that do not, n random points try n values of each of them
where a grid tries n^(1/d).
"""

from __future__ import annotations

from orchestrator.search.random_streams import Purpose, uniform
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["Random"]


class Random:
    """Uniform in the cube, any point at any time."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._dimensions = len(space)
        self._seed = seed

    def point(self, number: int) -> Point:
        """The point of this number; the sequence never ends."""
        return uniform(self._seed, number, Purpose.SAMPLE, self._dimensions)

    def describe(self, number: int) -> str:
        """The number of the draw, and the name of the sequence."""
        return f"draw {number + 1} of the random sequence"
