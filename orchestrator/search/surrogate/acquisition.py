"""The acquisition function: candidate points, and how much each may improve on the best so far.

The functions take and return arrays. Smaller losses are better.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from orchestrator.space.domains import Choice
from orchestrator.space.space import Space

__all__ = ["expected_improvement", "propose_candidates", "refine_candidates"]

RANDOM = 100  #: number of candidates over the whole cube
NEARBY = 80  #: number of candidates around the elites
NARROWEST, WIDEST = 0.01, 0.3  #: smallest and largest standard deviation of NEARBY from its elite
TO_EDGE = 0.3  #: share of the changed coordinates that move to an end of their range
CROSSED = 0.3  #: share of the changed coordinates that take the value of another elite
ROUNDS = (0.05,)  #: standard deviation of each round of local search around the best candidates
PARENTS, CHILDREN = 5, 16  #: best candidates of a round, and mutated copies of each of them

Array = np.ndarray


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Mean improvement on `best` of a normally distributed loss; always above 0.

    1e-9 standard deviations are added: where the improvement would vanish, the least certain point
    ranks first. Jones, Schonlau & Welch 1998, "Efficient Global Optimization of Expensive
    Black-Box Functions", equation 15.
    """
    z = (best - mean) / deviation
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.asarray(deviation * (np.maximum(z * ndtr(z) + density, 0.0) + 1e-9))


def propose_candidates(space: Space, elites: Array, rng: np.random.Generator) -> Array:
    """Draw points over the whole cube and around the elites, in canonical form.

    A good value often lies at an end of its range, which has almost no share of the cube's volume.
    So some coordinates are moved there; benchmarks/search_constants.py measures the effect.

    Args:
        space: The hyperparameters.
        elites: The best points so far, shape (elites, dimensions), NaN where inactive.
        rng: The random numbers of this draw.
    """
    d = len(space)
    anywhere = rng.random((RANDOM, d))
    at_edge = rng.random((RANDOM, d)) < 2 * TO_EDGE * rng.random((RANDOM, 1))
    ends = (rng.random((RANDOM, d)) < 0.5).astype(float)
    anywhere = np.where(at_edge & ~_choice_mask(space), ends, anywhere)
    deviation = WIDEST * (NARROWEST / WIDEST) ** rng.random((NEARBY, 1))
    around = elites[rng.integers(len(elites), size=NEARBY)]
    nearby = _mutate(space, around, elites, deviation=deviation, share=0.5, rng=rng)
    return space.canonicalise(np.vstack([anywhere, nearby]))


def refine_candidates(
    space: Space,
    points: Array,
    improvements: Array,
    compute_improvements: Callable[[Array], Array],
    *,
    elites: Array,
    rng: np.random.Generator,
) -> Array:
    """Search locally around the best of `points`.

    Args:
        space: The hyperparameters.
        points: Points to start from, shape (n, dimensions).
        improvements: Expected improvement of each point, shape (n,).
        compute_improvements: Returns the expected improvement of points of shape (m, dimensions).
        elites: The best points so far; children take some values from them.
        rng: The random numbers of this draw.

    Returns:
        The best points and their children, best first, shape (m, dimensions).
    """
    for deviation in ROUNDS:
        top = np.argsort(-improvements, kind="stable")[:PARENTS]
        parents = np.repeat(points[top], CHILDREN, axis=0)
        children = space.canonicalise(
            _mutate(space, parents, elites, deviation=deviation, share=0.4, rng=rng)
        )
        points = np.vstack([points[top], children])
        improvements = np.append(improvements[top], compute_improvements(children))
    ranked: Array = points[np.argsort(-improvements, kind="stable")]
    return ranked


def _mutate(
    space: Space,
    points: Array,
    elites: Array,
    *,
    deviation: Array | float,
    share: float,
    rng: np.random.Generator,
) -> Array:
    """Return the points with about `share` of their coordinates changed."""
    shape = points.shape
    inactive = np.isnan(points)
    points = np.where(inactive, rng.random(shape), points)  # a child may activate them
    change = rng.random(shape) < share
    moved = points + deviation * change * rng.standard_normal(shape)
    to_edge = change & (rng.random(shape) < TO_EDGE)
    moved = np.where(to_edge, (rng.random(shape) < 0.5).astype(float), moved)
    moved = np.where(change & _choice_mask(space), rng.random(shape), moved)
    mates = elites[rng.integers(len(elites), size=shape[0])]
    crossed = change & (rng.random(shape) < CROSSED) & ~np.isnan(mates)
    return np.clip(np.where(crossed, mates, moved), 0.0, 1.0)


def _choice_mask(space: Space) -> Array:
    return np.array([isinstance(d.domain, Choice) for d in space.dimensions], dtype=bool)
