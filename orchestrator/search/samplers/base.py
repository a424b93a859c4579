"""What the coarse stage asks of a sampler, and samplers around another one."""

from __future__ import annotations

from typing import Protocol

from orchestrator.errors import SpecError
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["Allowed", "NoSampler", "Sampler"]


class Sampler(Protocol):
    """A fixed sequence of points: a pure function of the space, the seed and the number."""

    def point(self, number: int) -> Point | None:
        """The point of this number, from 0, or None where the sequence has ended."""

    def describe(self, number: int) -> str:
        """Where the point of this number comes from, in words."""


class NoSampler:
    """A sequence without points: only the initial configurations are tried."""

    def point(self, number: int) -> Point | None:
        """None, always."""

    def describe(self, number: int) -> str:
        """The empty text: there is no point to describe."""
        return ""


class Allowed:
    """The points of another sampler that break no constraint, in its order."""

    PATIENCE = 10_000  #: points in a row that break a constraint before the search is given up

    def __init__(self, sampler: Sampler, space: Space) -> None:
        self._sampler, self._space = sampler, space
        self._numbers: list[int] = []  # of the allowed points in the whole sequence, so far

    def point(self, number: int) -> Point | None:
        """The allowed point of this number, or None where the sequence has ended."""
        place = self._place(number)
        return None if place is None else self._sampler.point(place)

    def describe(self, number: int) -> str:
        """The description that the sampler itself gives of the point."""
        return self._sampler.describe(self._place(number) or 0)

    def _place(self, number: int) -> int | None:
        """The number of that point in the whole sequence."""
        while len(self._numbers) <= number:
            place = self._next_place(self._numbers[-1] + 1 if self._numbers else 0)
            if place is None:
                return None
            self._numbers.append(place)
        return self._numbers[number]

    def _next_place(self, first: int) -> int | None:
        for place in range(first, first + self.PATIENCE):
            point = self._sampler.point(place)
            if point is None or self._space.allows(self._space.config(point)):
                return None if point is None else place
        raise SpecError(
            f"constraints: {self.PATIENCE:,} draws in a row break one of "
            f"{' | '.join(c.text for c in self._space.constraints)}; make them wider"
        )
