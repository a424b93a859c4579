"""The type names that every file here uses, and where their buffers come from."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Call", "State", "aligned", "call", "constant", "sign_mask"]

#: Shapes and dtypes stand in the docstrings: NumPy's static types cannot say them.
Array: TypeAlias = npt.NDArray[Any]

#: Flat and free of pickles, so that any array format can hold it.
State: TypeAlias = dict[str, np.ndarray[Any, Any] | float | int | str | bytes]

#: A NumPy call whose arguments are chosen once, because the buffers of a step never change.
Call: TypeAlias = Callable[[], object]

#: `call(np.add, a, b, c)` is prepared, `call(...)()` runs it. A small network's step is eighty
#: calls of half a microsecond: looking their arguments up again each time would cost a tenth of it.
call = functools.partial

_CACHE_LINE = 64


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """A new array of zeros whose first element starts a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.zeros(size + _CACHE_LINE, np.uint8)
    first = -room.ctypes.data % _CACHE_LINE
    return room[first : first + size].view(dtype).reshape(shape)


def constant(value: float, dtype: npt.DTypeLike) -> Array:
    """`value` as an array of no dimensions.

    NumPy needs 0.35 us more for a Python number, which it converts at every call.
    """
    return np.array(value, dtype)


def sign_mask(a: Array) -> tuple[Array, Call]:
    """`a` seen as integers, and the call that turns each into a mask: ones where it was negative.

    It shifts the sign bit through the whole word, in place. For a bitwise "and" with floats.
    """
    bits = a.view(f"i{a.dtype.itemsize}")
    sign = np.array(8 * a.dtype.itemsize - 1, bits.dtype)
    return bits, call(np.right_shift, bits, sign, bits)
