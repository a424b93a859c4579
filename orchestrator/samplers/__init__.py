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


def make_sampler(name: str, space: Space, *, seed: int, grid_levels: int) -> Sampler:
    """The sampler of that name.

    Raises:
        SpecError: If there is none.
    """
    match name:
        case "sobol":
            return Sobol(space, seed=seed)
        case "random":
            return Random(space, seed=seed)
        case "grid":
            return Grid(space, levels=grid_levels)
    raise SpecError(f"search.sampler needs one of {' | '.join(SAMPLERS)}, got {name!r}")
