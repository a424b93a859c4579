"""The interface of a sampler, an empty sampler, and one that skips forbidden points."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from orchestrator.errors import SpecError
from orchestrator.quote import join_names
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
    BLOCK = 32  #: points examined at once: a third of the time of one by one

    def __init__(self, sampler: Sampler, space: Space) -> None:
        self._sampler, self._space = sampler, space
        self._positions: list[int] = []  # of the allowed points in the sampler's sequence, so far
        self._examined = 0  # points of the sampler's sequence that were examined
        self._has_ended = False  # whether the sampler's sequence ends there

    def draw_point(self, number: int) -> Point | None:
        """Return the allowed point of this number; None after the end of the sequence."""
        position = self._find_position(number)
        return None if position is None else self._sampler.draw_point(position)

    def describe_point(self, number: int) -> str:
        """Return the other sampler's description of the point."""
        return self._sampler.describe_point(self._find_position(number) or 0)

    def _find_position(self, number: int) -> int | None:
        """Find the position of this allowed point in the sampler's sequence."""
        while len(self._positions) <= number and not self._has_ended:
            self._examine_block()
        return self._positions[number] if number < len(self._positions) else None

    def _examine_block(self) -> None:
        """Examine the next points of the sampler's sequence.

        Raises:
            SpecError: If too many of them in a row break a constraint.
        """
        points: list[Point] = []
        for number in range(self._examined, self._examined + self.BLOCK):
            if (point := self._sampler.draw_point(number)) is None:
                self._has_ended = True
                break
            points.append(self._space.to_point(self._space.to_config(point)))
        if points:
            allowed = np.flatnonzero(self._space.allowed_mask(np.array(points)))
            self._positions += (self._examined + allowed).tolist()
        self._examined += len(points)
        last = self._positions[-1] if self._positions else -1
        if self._examined - 1 - last >= self.MAX_REJECTED and not self._has_ended:
            raise SpecError(
                f"constraints: {self.MAX_REJECTED:,} draws in a row break one of "
                f"{join_names((c.text for c in self._space.constraints), ' | ')}; make them wider"
            )
