"""Reading values back out of a saved state, with errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trainers.errors import StateError
from trainers.network.arrays import Array

__all__ = ["array", "count", "number", "text"]


def array(state: Mapping[str, object], key: str, *, like: Array) -> Array:
    """The array under `key`, which must have the shape and dtype of `like`."""
    value = np.asarray(_value(state, key))
    if value.shape != like.shape or value.dtype != like.dtype:
        raise StateError(
            f"state {key!r} must be {like.dtype} of shape {like.shape} for this configuration, "
            f"got {value.dtype} of shape {value.shape}"
        )
    return value


def number(state: Mapping[str, object], key: str) -> float:
    """The float under `key`; an array of one element will do."""
    return float(_one(state, key))


def count(state: Mapping[str, object], key: str) -> int:
    """The whole number >= 0 under `key`; an array of one element will do."""
    value = _one(state, key)
    if not (value >= 0 and value == value // 1):
        raise StateError(f"state {key!r} must be a whole number >= 0, got {value}")
    return int(value)


def text(state: Mapping[str, object], key: str) -> str:
    """The string under `key`; UTF-8 bytes will do."""
    value = _value(state, key)
    return value.decode() if isinstance(value, bytes) else str(value)


def _one(state: Mapping[str, object], key: str) -> float:
    value = np.asarray(_value(state, key))
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise StateError(f"state {key!r} must be one number, got {value.dtype} {value.shape}")
    # item() keeps an int an int: a float would lose the low digits of a 63-bit seed.
    only: float = value.item()
    return only


def _value(state: Mapping[str, object], key: str) -> object:
    if key not in state:
        raise StateError(f"state needs {key!r} for this configuration; it has {sorted(state)}")
    return state[key]
