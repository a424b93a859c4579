"""Where to look next: points of the cube, and how much each may improve on the best so far.

Arrays in, arrays out. Smaller is better, as everywhere inside.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from orchestrator.space.domains import Choice
from orchestrator.space.space import Space

__all__ = ["candidates", "expected_improvement", "refine_candidates"]

RANDOM = 100  #: candidates over the whole cube
NEARBY = 80  #: candidates around the elites
NARROWEST, WIDEST = 0.01, 0.3  #: how far those lie from their elite, as a standard deviation
TO_EDGE = 0.3  #: of the coordinates that change, so many go to an end of their range …
CROSSED = 0.3  #: … and of the rest so many take another elite's value
ROUNDS = (0.05,)  #: deviations of the rounds of local search around the best candidates
KEPT, CHILDREN = 5, 16  #: in a round: so many best candidates, each with so many children

Array = np.ndarray


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """By how much a normal result comes out below `best`, on average; always above 0.

    Where nothing is to be gained, and the figure would vanish, what is least known is best. Jones,
    Schonlau & Welch 1998, "Efficient Global Optimization of Expensive Black-Box Functions",
    equation 15.
    """
    z = (best - mean) / deviation
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.asarray(deviation * (np.maximum(z * ndtr(z) + density, 0.0) + 1e-9))


def candidates(space: Space, elites: Array, rng: np.random.Generator) -> Array:
    """Points over the whole cube and around the elites, as their configurations have them.

    A good value often lies at an end of its range, where next to none of a cube's volume is: so
    a part of the coordinates is put there; benchmarks/search_constants.py measures what it brings.

    Args:
        space: The hyperparameters.
        elites: The best points so far, shape (elites, dimensions), NaN where inactive.
        rng: The random numbers of this draw.
    """
    d = len(space)
    anywhere = rng.random((RANDOM, d))
    at_edge = rng.random((RANDOM, d)) < 2 * TO_EDGE * rng.random((RANDOM, 1))
    ends = (rng.random((RANDOM, d)) < 0.5).astype(float)
    anywhere = np.where(at_edge & ~_choices(space), ends, anywhere)
    spread = WIDEST * (NARROWEST / WIDEST) ** rng.random((NEARBY, 1))
    around = elites[rng.integers(len(elites), size=NEARBY)]
    nearby = _changed(space, around, elites, spread=spread, share=0.5, rng=rng)
    return space.canonical(np.vstack([anywhere, nearby]))


def refine_candidates(
    space: Space,
    points: Array,
    worth: Array,
    value: Callable[[Array], Array],
    *,
    elites: Array,
    rng: np.random.Generator,
) -> Array:
    """What local search around the best of `points` finds, best first, shape (found, dimensions).

    Args:
        space: The hyperparameters.
        points: Where to start, shape (n, dimensions).
        worth: What each is worth, shape (n,).
        value: What any points are worth.
        elites: The best points so far, to take values from.
        rng: The random numbers of this draw.
    """
    for spread in ROUNDS:
        top = np.argsort(-worth, kind="stable")[:KEPT]
        parents = np.repeat(points[top], CHILDREN, axis=0)
        children = space.canonical(
            _changed(space, parents, elites, spread=spread, share=0.4, rng=rng)
        )
        points = np.vstack([points[top], children])
        worth = np.append(worth[top], value(children))
    found: Array = points[np.argsort(-worth, kind="stable")]
    return found


def _changed(
    space: Space,
    points: Array,
    elites: Array,
    *,
    spread: Array | float,
    share: float,
    rng: np.random.Generator,
) -> Array:
    """The points with about `share` of their coordinates changed."""
    shape = points.shape
    inactive = np.isnan(points)
    points = np.where(inactive, rng.random(shape), points)  # a child may make them active
    change = rng.random(shape) < share
    moved = points + spread * change * rng.standard_normal(shape)
    to_edge = change & (rng.random(shape) < TO_EDGE)
    moved = np.where(to_edge, (rng.random(shape) < 0.5).astype(float), moved)
    moved = np.where(change & _choices(space), rng.random(shape), moved)
    mates = elites[rng.integers(len(elites), size=shape[0])]
    crossed = change & (rng.random(shape) < CROSSED) & ~np.isnan(mates)
    return np.clip(np.where(crossed, mates, moved), 0.0, 1.0)


def _choices(space: Space) -> Array:
    return np.array([isinstance(d.domain, Choice) for d in space.dimensions], dtype=bool)
