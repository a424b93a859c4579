"""Values read back out of a saved state, with errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trainers.errors import StateError
from trainers.network.arrays import Array

__all__ = ["read_array", "read_count", "read_number", "read_text"]


def read_array(state: Mapping[str, object], key: str, *, example: Array) -> Array:
    """Read the array under `key`, which must have the shape and dtype of `example`."""
    value = np.asarray(_read_value(state, key))
    if value.shape != example.shape or value.dtype != example.dtype:
        raise StateError(
            f"state {key!r} must be {example.dtype} of shape {example.shape} for this "
            f"configuration, got {value.dtype} of shape {value.shape}"
        )
    return value


def read_number(state: Mapping[str, object], key: str) -> float:
    """Read the float under `key`; an array of one element is accepted."""
    return float(_read_scalar(state, key))


def read_count(state: Mapping[str, object], key: str) -> int:
    """Read the whole number >= 0 under `key`; an array of one element is accepted."""
    value = _read_scalar(state, key)
    if not (value >= 0 and value == value // 1):
        raise StateError(f"state {key!r} must be a whole number >= 0, got {value}")
    return int(value)


def read_text(state: Mapping[str, object], key: str) -> str:
    """Read the string under `key`; UTF-8 bytes are accepted."""
    value = _read_value(state, key)
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_scalar(state: Mapping[str, object], key: str) -> float:
    value = np.asarray(_read_value(state, key))
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise StateError(f"state {key!r} must be one number, got {value.dtype} {value.shape}")
    # item() keeps an int an int: a float would lose the low digits of a 63-bit seed.
    scalar: float = value.item()
    return scalar


def _read_value(state: Mapping[str, object], key: str) -> object:
    if key not in state:
        raise StateError(f"state needs {key!r} for this configuration; it has {sorted(state)}")
    return state[key]
