"""The interface of a sampler, an empty sampler, and one that skips forbidden points."""

from __future__ import annotations

from typing import Protocol

from orchestrator.errors import SpecError
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["ConstrainedSampler", "NoSampler", "Sampler"]


class Sampler(Protocol):
    """A fixed sequence of points: a pure function of the space, the seed and the number."""

    def draw_point(self, number: int) -> Point | None:
        """Return the point of this number, from 0; None after the end of the sequence."""

    def describe_point(self, number: int) -> str:
        """Describe the origin of the point of this number, in words."""


class NoSampler:
    """A sequence without points: only the initial configurations are tried."""

    def draw_point(self, number: int) -> Point | None:
        """Return None, always."""

    def describe_point(self, number: int) -> str:
        """Return the empty text: there is no point to describe."""
        return ""


class ConstrainedSampler:
    """The points of another sampler that break no constraint, in the same order."""

    MAX_REJECTED = 10_000  #: points that break a constraint, in a row, before the search gives up

    def __init__(self, sampler: Sampler, space: Space) -> None:
        self._sampler, self._space = sampler, space
        self._positions: list[
            int
        ] = []  # positions of the allowed points in the sampler's sequence, so far

    def draw_point(self, number: int) -> Point | None:
        """Return the allowed point of this number; None after the end of the sequence."""
        position = self._find_position(number)
        return None if position is None else self._sampler.draw_point(position)

    def describe_point(self, number: int) -> str:
        """Return the other sampler's description of the point."""
        return self._sampler.describe_point(self._find_position(number) or 0)

    def _find_position(self, number: int) -> int | None:
        """Find the position of this allowed point in the sampler's sequence."""
        while len(self._positions) <= number:
            position = self._find_next_position(self._positions[-1] + 1 if self._positions else 0)
            if position is None:
                return None
            self._positions.append(position)
        return self._positions[number]

    def _find_next_position(self, first: int) -> int | None:
        for position in range(first, first + self.MAX_REJECTED):
            point = self._sampler.draw_point(position)
            if point is None or self._space.satisfies_constraints(self._space.to_config(point)):
                return None if point is None else position
        raise SpecError(
            f"constraints: {self.MAX_REJECTED:,} draws in a row break one of "
            f"{' | '.join(c.text for c in self._space.constraints)}; make them wider"
        )
