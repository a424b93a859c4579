"""Boxes around the best region, each narrower than the previous one.

A zoom halves the width of every dimension around the best trials so far, on the dimension's own
scale. If the best value lies on the border of the previous box, the optimum may lie outside of it.
Then the box keeps its width and moves (at the end of the range it stays in place), because a
narrower box could exclude the best value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from orchestrator.search.events import Box
from orchestrator.space.domains import Choice, Point
from orchestrator.space.space import Space

__all__ = ["BORDER", "ELITES", "SHRINK", "Zoom", "zoom_in"]

SHRINK = 0.5  #: a zoom halves each side; two zooms leave a quarter of each range
ELITES = 8  #: number of trials that a box is made from; at most a quarter of those with a result
BORDER = 0.05  #: share of a box's side that counts as its border, at each end
AGREEMENT = 0.75  #: a choice is fixed if this share of the elites has the same option


@dataclass(frozen=True, kw_only=True)
class Zoom:
    """A box that fine trials are drawn from, and the trials that it was made from."""

    number: int  #: number of the box, from 1
    box: Box  #: sides of the box: one entry for each dimension, in the space's order
    parents: tuple[int, ...]  #: ids of the trials that the box was made from, best first

    @cached_property
    def low(self) -> Point:
        """Lowest corner of the box, shape (dimensions,)."""
        return np.array([low for low, _ in self.box.values()])

    @cached_property
    def high(self) -> Point:
        """Highest corner of the box, shape (dimensions,)."""
        return np.array([high for _, high in self.box.values()])

    @cached_property
    def reason(self) -> str:
        """Reason of a draw from this box, in words."""
        return f"from box {self.number} around trials {', '.join(map(str, self.parents))}"


def zoom_in(
    space: Space, *, points: Sequence[Point], trials: Sequence[int], number: int, previous: Box
) -> Zoom:
    """Make the next box, around the best trials, inside or beside the previous one.

    Args:
        space: The hyperparameters.
        points: The elites' coordinates, best first, shape (dimensions,) each, NaN where inactive.
        trials: The elites' ids, in the same order.
        number: The new box's number.
        previous: The previous box; an empty one is the whole cube.
    """
    box: dict[str, tuple[float, float]] = {}
    for i, d in enumerate(space.dimensions):
        old = previous.get(d.name, (0.0, 1.0))
        active = [float(p[i]) for p in points if not np.isnan(p[i])]
        if not active:
            box[d.name] = old
        elif isinstance(d.domain, Choice):
            box[d.name] = _find_agreed_option(d.domain, active) or old
        else:
            box[d.name] = _narrow_side(active, old)
    return Zoom(number=number, box=box, parents=tuple(trials))


def _narrow_side(active: list[float], old: tuple[float, float]) -> tuple[float, float]:
    """Compute a side of the new box: around the elites' median, with the best value inside."""
    best, width = active[0], old[1] - old[0]
    if min(best - old[0], old[1] - best) < BORDER * width:
        middle = best  # on the border: the box moves there and keeps its width
    else:
        width *= SHRINK
        middle = min(max(float(np.median(active)), best - width / 2), best + width / 2)
    low = min(max(middle - width / 2, 0.0), 1.0 - width)
    return low, low + width


def _find_agreed_option(domain: Choice, active: list[float]) -> tuple[float, float] | None:
    """Return the interval of the option that the elites agree on, or None."""
    options = [domain.find_index(domain.from_unit(u)) for u in active]
    winner = max(options, key=options.count)
    if options.count(winner) < AGREEMENT * len(options):
        return None
    return winner / len(domain.options), (winner + 1) / len(domain.options)
