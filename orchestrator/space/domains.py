"""The domains of hyperparameters, and the scale on which each is drawn.

All other code of the search works in the unit cube: one coordinate in [0, 1] for each dimension. A
domain is a pair of functions to and from [0, 1]; no other code uses logarithms of values.

Why scales matter: drawn linearly from [1e-4, 1], nine of ten learning rates lie above 0.1; drawn on
the log scale, every decade gets the same share. A decay near 1 needs the mirror image. From 0.9 to
0.9005 almost nothing changes; from 0.999 to 0.9995 the number of steps that it averages over
doubles. So r is uniform in 1 - 10^r (Andrew Ng, "Improving Deep Neural Networks", week 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeGuard

import numpy as np

from orchestrator.errors import SpecError
from orchestrator.quote import join_names, quote, shorten

__all__ = ["Choice", "Config", "Domain", "Fixed", "Integer", "Point", "Real", "Value", "is_number"]

Value = bool | int | float | str
Config = dict[str, Value]  #: name -> value; without inactive hyperparameters
Point = np.ndarray  #: a point in the unit cube: float64 in [0, 1], shape (dimensions,)

#: Largest bound of a range of reals. Differences, and powers of ten rounded up, stay below 1.8e308.
MAX_REAL = 1e300
#: Largest bound of a range of integers. A coordinate is a float64, rounded by 1.1e-16. On
#: log2 from 1 to 1e12, an integer read back from it is wrong by 0.006 of its bin, so it is exact.
MAX_INTEGER = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """A real number between two bounds, uniform on its scale.

    linear: v.  log: log10 v.  reverse_log: log10(1 - v), for a beta or a decay just below 1.
    """

    low: float
    high: float
    scale: Literal["linear", "log", "reverse_log"] = "linear"
    _ends: tuple[float, float] = field(init=False, repr=False, compare=False)  # on the scale

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise SpecError(f"needs finite bounds, got [{self.low}, {self.high}]")
        if max(abs(self.low), abs(self.high)) > MAX_REAL:
            raise SpecError(
                f"needs bounds between -{MAX_REAL:g} and {MAX_REAL:g}, "
                f"got [{self.low}, {self.high}]"
            )
        if not self.low < self.high:
            raise SpecError(f"needs low < high, got [{self.low}, {self.high}]")
        if self.scale == "log" and self.low <= 0:
            raise SpecError(
                f"a log scale needs bounds above 0, got [{self.low}, {self.high}]; "
                f"raise the low end, for example to {self.high / 1e4:g}, or use linear"
            )
        if self.scale == "reverse_log" and self.high >= 1:
            raise SpecError(
                f"a reverse_log scale (1 - 10^r) needs bounds below 1, "
                f"got [{self.low}, {self.high}]; lower the high end, for example to 0.999"
            )
        object.__setattr__(self, "_ends", (self._stretch(self.low), self._stretch(self.high)))
        if not self._ends[0] < self._ends[1]:
            raise SpecError(f"needs bounds further apart, got [{self.low}, {self.high}]")

    def _stretch(self, value: float) -> float:
        if self.scale == "log":
            return math.log10(value)
        if self.scale == "reverse_log":
            return -math.log10(1 - value)  # rises with the value, so that u = 0 is the low end
        return value

    def to_unit(self, value: Value) -> float:
        """Convert a value to its coordinate; outside [0, 1] if the value is out of bounds."""
        a, b = self._ends
        return (self._stretch(float(value)) - a) / (b - a)

    def from_unit(self, u: float) -> float:
        """Convert a coordinate to its value, which is never out of bounds."""
        a, b = self._ends
        x = a + u * (b - a)
        if self.scale == "log":
            x = 10**x
        elif self.scale == "reverse_log":
            x = 1 - 10**-x
        return min(max(x, self.low), self.high)

    def snap(self, u: np.ndarray) -> np.ndarray:
        """Return the coordinates unchanged: every real coordinate has its own value."""
        return u

    def contains(self, value: Value) -> bool:
        """Whether a value of a user's configuration lies in this domain."""
        return is_number(value) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.scale} [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Integer:
    """An integer between two bounds, both included.

    linear: every integer is equally likely. log2: every doubling is equally likely. On both scales
    [0, 1] is divided into one bin for each integer, and an integer's coordinate is the middle of
    its bin. On log2 the bin of v reaches from v - 1/2 to v + 1/2, so that the first and the last
    integer have whole bins.
    """

    low: int
    high: int
    scale: Literal["linear", "log2"] = "linear"

    def __post_init__(self) -> None:
        if max(abs(self.low), abs(self.high)) > MAX_INTEGER:
            raise SpecError(
                f"needs whole numbers between -{MAX_INTEGER:,} and {MAX_INTEGER:,}, "
                f"got [{quote(self.low)}, {quote(self.high)}]; search its logarithm instead"
            )
        if not self.low < self.high:
            raise SpecError(f"needs low < high, got [{self.low}, {self.high}]")
        if self.scale == "log2" and self.low < 1:
            raise SpecError(
                f"a log2 scale needs whole numbers above 0, got [{self.low}, {self.high}]; "
                f"raise the low end to 1, or use int"
            )

    def _edges(self) -> tuple[float, float]:
        return self.low - 0.5, self.high + 0.5

    def to_unit(self, value: Value) -> float:
        """Convert a value to its coordinate; outside [0, 1] if the value is out of bounds."""
        a, b = self._edges()
        if self.scale == "log2":
            return math.log(float(value) / a) / math.log(b / a)
        return (float(value) - a) / (b - a)

    def from_unit(self, u: float) -> int:
        """Convert a coordinate to its value, which is never out of bounds."""
        a, b = self._edges()
        x = a * (b / a) ** u if self.scale == "log2" else a + u * (b - a)
        return min(max(math.floor(x + 0.5), self.low), self.high)

    def to_values(self, u: np.ndarray) -> np.ndarray:
        """Convert many coordinates to values at once, as `from_unit` does."""
        a, b = self._edges()
        x = a * (b / a) ** u if self.scale == "log2" else a + u * (b - a)
        return np.clip(np.floor(x + 0.5), self.low, self.high)

    def snap(self, u: np.ndarray) -> np.ndarray:
        """Move coordinates to the middle of their value's bin."""
        a, b = self._edges()
        values = self.to_values(u)
        if self.scale == "log2":
            values = np.log(values / a) / math.log(b / a)
            return np.asarray(values)
        return (values - a) / (b - a)

    def contains(self, value: Value) -> bool:
        """Whether a value of a user's configuration lies in this domain."""
        return is_number(value) and self.low <= value <= self.high and float(value).is_integer()

    def __str__(self) -> str:
        return f"{'int' if self.scale == 'linear' else 'int_log2'} [{self.low}, {self.high}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A choice of several options without an order; each has an equal interval of [0, 1]."""

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise SpecError("a choice needs at least one option, got none")

    def to_unit(self, value: Value) -> float:
        """Convert an option to the middle of its interval."""
        return (self.find_index(value) + 0.5) / len(self.options)

    def from_unit(self, u: float) -> Value:
        """Return the option in whose interval the coordinate lies."""
        return self.options[min(int(u * len(self.options)), len(self.options) - 1)]

    def to_indexes(self, u: np.ndarray) -> np.ndarray:
        """Convert many coordinates to the indexes of their options."""
        return np.asarray(np.minimum((u * len(self.options)).astype(int), len(self.options) - 1))

    def snap(self, u: np.ndarray) -> np.ndarray:
        """Move coordinates to the middle of their option's interval."""
        return (self.to_indexes(u) + 0.5) / len(self.options)

    def find_index(self, value: Value) -> int:
        """Find the index of an option; 1, 1.0 and True are different options."""
        same = (i for i, o in enumerate(self.options) if o == value and type(o) is type(value))
        index = next(same, None)
        if index is None:
            raise SpecError(f"{quote(value)} is not one of {self}")
        return index

    def contains(self, value: Value) -> bool:
        """Whether a value of a user's configuration is one of the options."""
        return any(o == value and type(o) is type(value) for o in self.options)

    def __str__(self) -> str:
        return join_names(self.options, " | ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A value that is not searched; a spec can search it by writing a range instead."""

    value: Value

    def contains(self, value: Value) -> bool:
        """Whether a value of a user's configuration is the fixed value."""
        return value == self.value

    def __str__(self) -> str:
        return f"fixed at {shorten(str(self.value))}"


Domain = Real | Integer | Choice | Fixed


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
