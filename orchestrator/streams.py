"""Random numbers that depend on nothing but (the run's seed, a trial, a purpose).

So the same seed gives the same answer whatever else happens, in which order, in which process; and
a trial can be trained again alone.
"""

from __future__ import annotations

import functools
from enum import IntEnum

import numpy as np

__all__ = ["Purpose", "stream", "trial_seed"]


class Purpose(IntEnum):
    """What a stream is for. A number is never used for a second purpose: logs hold its fruit."""

    SAMPLE = 0  #: a coarse draw
    ZOOM = 1  #: a fine draw
    TRAIN = 2  #: the trial's own seed
    SCRAMBLE = 3  #: of a Sobol sequence
    SIMULATE = 4  #: made-up losses of a simulated run
    PROPOSE = 5  #: candidates for a draw that the model makes
    CHOOSE = 6  #: which results the model holds


def stream(seed: int, trial: int, purpose: Purpose) -> np.random.Generator:
    """A generator of its own for this seed, trial and purpose (about 20 us)."""
    return np.random.default_rng((seed, trial, purpose))


def trial_seed(seed: int, trial: int) -> int:
    """The seed a trial hands to its trainer; fits into an int64 column."""
    return int(_trial_seeds(seed, trial // _BLOCK)[trial % _BLOCK])


_BLOCK = 256  #: seeds drawn at once: a stream for each would be a third of a decision's cost


@functools.lru_cache(maxsize=16)
def _trial_seeds(seed: int, block: int) -> np.ndarray:
    return stream(seed, block, Purpose.TRAIN).integers(2**63, size=_BLOCK)
