"""Independent uniform points.

Bergstra & Bengio 2012, "Random Search for Hyper-Parameter Optimization", JMLR 13: of d
hyperparameters, often only a few matter. n random points try n values of each of them; a grid of n
points tries n^(1/d).
"""

from __future__ import annotations

from orchestrator.search.random_streams import Purpose, draw_uniform
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["Random"]


class Random:
    """Uniform points in the cube; each one follows from its number alone."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._dimensions = len(space)
        self._seed = seed

    def draw_point(self, number: int) -> Point:
        """Return the point of this number; the sequence never ends."""
        return draw_uniform(self._seed, number, Purpose.SAMPLE, self._dimensions)

    def describe_point(self, number: int) -> str:
        """Describe the draw by its number and the name of the sequence."""
        return f"draw {number + 1} of the random sequence"
