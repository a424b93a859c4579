"""Where in the unit cube the coarse stage looks: random, scrambled Sobol, or a grid."""

from __future__ import annotations

from typing import Protocol

from orchestrator.errors import SpecError
from orchestrator.samplers.grid import Grid
from orchestrator.samplers.random import Random
from orchestrator.samplers.sobol import Sobol
from orchestrator.space import Point, Space
from orchestrator.spec import SAMPLERS

__all__ = ["Grid", "Random", "Sampler", "Sobol", "make_sampler"]


class Sampler(Protocol):
    """A fixed sequence of points: a pure function of the space, the seed and the place in it."""

    def point(self, draw: int) -> Point | None:
        """The draw-th point (from 0), or None where the sequence has ended."""


class Allowed:
    """The points of a sequence that break no constraint, in its order."""

    PATIENCE = 10_000  #: points in a row that break one, before it is given up

    def __init__(self, sampler: Sampler, space: Space) -> None:
        self._sampler, self._space = sampler, space
        self._places: list[int] = []  # of the allowed points, as far as was asked

    def point(self, draw: int) -> Point | None:
        """The draw-th allowed point, or None where the sequence has ended."""
        while len(self._places) <= draw:
            first = self._places[-1] + 1 if self._places else 0
            for place in range(first, first + self.PATIENCE):
                point = self._sampler.point(place)
                if point is None:
                    return None
                if self._space.allows(self._space.config(point)):
                    self._places.append(place)
                    break
            else:
                raise SpecError(
                    f"constraints: {self.PATIENCE:,} draws in a row break one of "
                    f"{' | '.join(c.text for c in self._space.constraints)}; make them wider"
                )
        return self._sampler.point(self._places[draw])


def make_sampler(name: str, space: Space, *, seed: int, grid_levels: int) -> Sampler:
    """The sampler of that name.

    Raises:
        SpecError: If there is none.
    """
    sampler: Sampler
    match name:
        case "sobol":
            sampler = Sobol(space, seed=seed)
        case "random":
            sampler = Random(space, seed=seed)
        case "grid":
            sampler = Grid(space, levels=grid_levels)
        case _:
            raise SpecError(f"search.sampler needs one of {' | '.join(SAMPLERS)}, got {name!r}")
    return Allowed(sampler, space) if space.constraints else sampler
