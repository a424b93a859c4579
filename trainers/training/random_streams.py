"""Random numbers: one independent stream for each purpose and epoch."""

from __future__ import annotations

import operator

import numpy as np

from trainers.errors import ConfigError

__all__ = ["check_seed", "make_generator"]

#: Number of each purpose; it never changes: another number is another result for the same seed.
_PURPOSES = {"start": 0, "shuffle": 1, "dropout": 2}


def make_generator(seed: int, purpose: str, *, epoch: int = 0) -> np.random.Generator:
    """Make the generator for one purpose ("start", "shuffle" or "dropout") in one epoch.

    Each epoch's stream follows from (seed, purpose, epoch), so the whole state of the random
    numbers between two epochs is two integers: the seed and the count of finished epochs. The
    spawn key, unlike a longer entropy, cannot collide with the words of a large seed.
    """
    key = (_PURPOSES[purpose], epoch)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def check_seed(seed: int) -> int:
    """Return `seed` as a Python int in [0, 2**63), which every file format can hold.

    Raises:
        ConfigError: If the seed is no whole number, or lies outside.
    """
    try:
        value = operator.index(seed)
    except TypeError:
        raise ConfigError(f"seed must be a whole number, got {seed!r}") from None
    if not 0 <= value < 2**63:
        raise ConfigError(f"seed must be in [0, 2**63), got {value}")
    return value
