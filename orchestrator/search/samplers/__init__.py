"""Where in the unit cube the coarse stage looks: random, scrambled Sobol, a grid, or nowhere."""

from __future__ import annotations

from typing import Protocol

from orchestrator.errors import SpecError
from orchestrator.search.samplers.grid import Grid
from orchestrator.search.samplers.random import Random
from orchestrator.search.samplers.sobol import Sobol
from orchestrator.search.samplers.start_point import StartPoint
from orchestrator.search.spec import SAMPLERS
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["Grid", "NoSampler", "Random", "Sampler", "Sobol", "StartPoint", "make_sampler", "told"]


class Sampler(Protocol):
    """A fixed sequence of points: a pure function of the space, the seed and the place in it."""

    def point(self, draw: int) -> Point | None:
        """The draw-th point (from 0), or None where the sequence has ended."""


class NoSampler:
    """Nothing but what is given."""

    def point(self, draw: int) -> Point | None:
        """None."""


class Allowed:
    """The points of a sequence that break no constraint, in its order."""

    PATIENCE = 10_000  #: points in a row that break one, before it is given up

    def __init__(self, sampler: Sampler, space: Space) -> None:
        self.sampler, self._space = sampler, space
        self._places: list[int] = []  # of the allowed points, as far as was asked

    def point(self, draw: int) -> Point | None:
        """The draw-th allowed point, or None where the sequence has ended."""
        place = self.place(draw)
        return None if place is None else self.sampler.point(place)

    def place(self, draw: int) -> int | None:
        """The place of that point in the whole sequence."""
        while len(self._places) <= draw:
            first = self._places[-1] + 1 if self._places else 0
            for place in range(first, first + self.PATIENCE):
                point = self.sampler.point(place)
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
        return self._places[draw]


def told(sampler: Sampler, draw: int) -> str:
    """Where the draw-th point comes from, in words."""
    if isinstance(sampler, Allowed):
        return told(sampler.sampler, sampler.place(draw) or 0)
    if isinstance(sampler, StartPoint):
        if draw == 0:
            return "the values that usually work"
        half_way = " half way to the values that usually work" if sampler.leans(draw) else ""
        return f"{told(sampler.sampler, draw - 1)}{half_way}"
    return f"draw {draw + 1} of the {type(sampler).__name__.lower()} sequence"


def make_sampler(
    name: str, space: Space, *, seed: int, grid_levels: int, start_points: int = 0
) -> Sampler:
    """The sampler of that name; its first `start_points` points lean to the space's start point.

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
        case "none":
            sampler = NoSampler()
        case _:
            raise SpecError(f"search.sampler needs one of {' | '.join(SAMPLERS)}, got {name!r}")
    if start_points and space.start_point is not None:
        sampler = StartPoint(sampler, space, most=start_points)
    return Allowed(sampler, space) if space.constraints else sampler
