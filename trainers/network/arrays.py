"""Type names, buffers and prepared calls, which every file of the network uses."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "Call",
    "State",
    "allocate",
    "make_constant",
    "prepare_call",
    "prepare_sign_mask",
]

#: An array; docstrings give shape and dtype, which NumPy's static types cannot express.
Array: TypeAlias = npt.NDArray[Any]

#: A trainer's saved state: flat and without pickles, so that any array format can hold it.
State: TypeAlias = dict[str, np.ndarray[Any, Any] | float | int | str | bytes]

#: A NumPy call whose arguments are chosen once, because the buffers of a step never change.
Call: TypeAlias = Callable[[], object]

#: Prepares a call: `prepare_call(np.add, a, b, c)` is one, `prepare_call(...)()` runs it. A small
#: network's step is eighty calls of half a microsecond: looking their arguments up again each time
#: would cost a tenth of it.
prepare_call = functools.partial

_CACHE_LINE = 64


def allocate(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Allocate an array of zeros whose first element starts a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.zeros(size + _CACHE_LINE, np.uint8)
    first = -room.ctypes.data % _CACHE_LINE
    return room[first : first + size].view(dtype).reshape(shape)


def make_constant(value: float, dtype: npt.DTypeLike) -> Array:
    """Make `value` an array of no dimensions.

    NumPy needs 0.35 us more for a Python number, which it converts at every call.
    """
    return np.array(value, dtype)


def prepare_sign_mask(a: Array) -> tuple[Array, Call]:
    """View `a` as integers, and prepare the call that makes masks of them: ones where negative.

    The call shifts the sign bit through the whole word, in place. The masks are for a bitwise "and"
    with floats.
    """
    bits = a.view(f"i{a.dtype.itemsize}")
    sign = np.array(8 * a.dtype.itemsize - 1, bits.dtype)
    return bits, prepare_call(np.right_shift, bits, sign, bits)
