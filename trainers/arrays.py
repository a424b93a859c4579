"""The two type names that every file here uses."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "State"]

#: Shapes and dtypes stand in the docstrings: NumPy's static types cannot say them.
Array: TypeAlias = npt.NDArray[Any]

#: Flat and free of pickles, so that any array format can hold it.
State: TypeAlias = dict[str, np.ndarray[Any, Any] | float | int | str | bytes]
