"""Random numbers that depend on nothing but (the run's seed, a trial, a purpose).

So the same seed gives the same answer whatever else happens, in which order, in which process; and
a trial can be trained again alone.
"""

from __future__ import annotations

import functools
from enum import IntEnum

import numpy as np

__all__ = ["Purpose", "derive_trial_seed", "stream", "uniform"]


class Purpose(IntEnum):
    """What a stream is for. A number is never used for a second purpose: logs hold its fruit."""

    SAMPLE = 0  #: a coarse draw
    ZOOM = 1  #: a fine draw that is drawn again
    TRAIN = 2  #: the trial's own seed
    SCRAMBLE = 3  #: of a Sobol sequence
    SIMULATE = 4  #: made-up losses of a simulated run
    PROPOSE = 5  #: candidates for a draw that the model makes
    CHOOSE = 6  #: which results the model holds
    FINE = 7  #: a fine draw


def stream(seed: int, trial: int, purpose: Purpose) -> np.random.Generator:
    """A generator of its own for this seed, trial and purpose (about 20 us)."""
    return np.random.default_rng((seed, trial, purpose))


def derive_trial_seed(seed: int, trial: int) -> int:
    """The seed a trial hands to its trainer; fits into an int64 column."""
    return int(_trial_seeds(seed, trial // _SEEDS)[trial % _SEEDS])


def uniform(seed: int, draw: int, purpose: Purpose, dimensions: int) -> np.ndarray:
    """The draw-th point of a sequence of uniform ones in the unit cube, shape (dimensions,)."""
    point: np.ndarray = _points(seed, draw // _POINTS, purpose, dimensions)[draw % _POINTS]
    return point


# Drawn many at once: a stream for each would be a third of a decision's cost.
_SEEDS = 256
_POINTS = 128


@functools.lru_cache(maxsize=16)
def _trial_seeds(seed: int, block: int) -> np.ndarray:
    return stream(seed, block, Purpose.TRAIN).integers(2**63, size=_SEEDS)


@functools.lru_cache(maxsize=16)
def _points(seed: int, block: int, purpose: Purpose, dimensions: int) -> np.ndarray:
    return stream(seed, block, purpose).random((_POINTS, dimensions))
