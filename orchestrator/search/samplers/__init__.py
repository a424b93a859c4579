"""Samplers: sequences of points in the unit cube, for the coarse stage.

Each sampler has a file of its own and one row in `SAMPLERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.errors import SpecError
from orchestrator.search.samplers.base import ConstrainedSampler, NoSampler, Sampler
from orchestrator.search.samplers.grid import Grid
from orchestrator.search.samplers.random import Random
from orchestrator.search.samplers.sobol import Sobol
from orchestrator.search.samplers.start_point import StartPoint
from orchestrator.space.space import Space

__all__ = ["SAMPLERS", "Sampler", "make_sampler"]

#: Name in a spec -> function that builds the sampler from (space, seed, levels of a grid).
SAMPLERS: dict[str, Callable[[Space, int, int], Sampler]] = {
    "sobol": lambda space, seed, _: Sobol(space, seed=seed),
    "random": lambda space, seed, _: Random(space, seed=seed),
    "grid": lambda space, _, levels: Grid(space, levels=levels),
    "none": lambda *_: NoSampler(),
}


def make_sampler(
    name: str, space: Space, *, seed: int, grid_levels: int, start_points: int = 0
) -> Sampler:
    """Build the sampler of this name; its first `start_points` points lean to the start point.

    Raises:
        SpecError: If there is no sampler of that name.
    """
    if name not in SAMPLERS:
        raise SpecError(f"search.sampler needs one of {' | '.join(SAMPLERS)}, got {name!r}")
    sampler = SAMPLERS[name](space, seed, grid_levels)
    if start_points and space.start_point is not None:
        sampler = StartPoint(sampler, space, count=start_points)
    return ConstrainedSampler(sampler, space) if space.constraints else sampler
