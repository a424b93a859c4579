"""Random numbers that depend only on (the run's seed, a trial's id, a purpose).

So the same seed gives the same numbers in any order of events and in any process, and a single
trial can be trained again.
"""

from __future__ import annotations

import functools
from enum import IntEnum

import numpy as np

__all__ = ["Purpose", "derive_trial_seed", "draw_uniform", "make_generator"]


class Purpose(IntEnum):
    """The purpose of a random generator.

    A number is never reused for another purpose: existing logs hold results that depend on it.
    """

    SAMPLE = 0  #: the point of a coarse draw
    ZOOM = 1  #: the further points of a fine draw, if the first one is rejected
    TRAIN = 2  #: the seed that a trial hands to its trainer
    SCRAMBLE = 3  #: scrambling of a Sobol sequence
    SIMULATE = 4  #: synthetic losses of a simulated run
    PROPOSE = 5  #: candidates for a point that the model proposes
    CHOOSE = 6  #: choice of the results that the model holds
    FINE = 7  #: the first point of a fine draw


def make_generator(seed: int, trial: int, purpose: Purpose) -> np.random.Generator:
    """Make the generator of this seed, trial and purpose; takes about 20 us."""
    return np.random.default_rng((seed, trial, purpose))


def derive_trial_seed(seed: int, trial: int) -> int:
    """Derive the seed that a trial hands to its trainer; it fits into an int64 column."""
    return int(_draw_seeds(seed, trial // _SEEDS_PER_BLOCK)[trial % _SEEDS_PER_BLOCK])


def draw_uniform(seed: int, draw: int, purpose: Purpose, dimensions: int) -> np.ndarray:
    """Return point number `draw` of a uniform sequence in the unit cube, shape (dimensions,)."""
    point: np.ndarray = _draw_points(seed, draw // _POINTS_PER_BLOCK, purpose, dimensions)[
        draw % _POINTS_PER_BLOCK
    ]
    return point


# Many are drawn at once: a generator for each would be a third of a decision's cost.
_SEEDS_PER_BLOCK = 256
_POINTS_PER_BLOCK = 128


@functools.lru_cache(maxsize=16)
def _draw_seeds(seed: int, block: int) -> np.ndarray:
    return make_generator(seed, block, Purpose.TRAIN).integers(2**63, size=_SEEDS_PER_BLOCK)


@functools.lru_cache(maxsize=16)
def _draw_points(seed: int, block: int, purpose: Purpose, dimensions: int) -> np.ndarray:
    return make_generator(seed, block, purpose).random((_POINTS_PER_BLOCK, dimensions))
