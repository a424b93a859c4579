"""Which hyperparameters there are, and on which scale each is drawn.

Everything above this file works in the unit cube: one coordinate in [0, 1] for each dimension. A
domain is a pair of functions to and from [0, 1]; nothing else knows about logarithms.

Why scales matter: drawn linearly from [1e-4, 1], nine of ten learning rates lie above 0.1; drawn on
the log scale every decade gets the same share. A decay near 1 needs the mirror image: going from
0.9 to 0.9005 changes nothing, going from 0.999 to 0.9995 doubles the number of steps it averages
over, so r is uniform in 1 - 10^r (Andrew Ng, "Improving Deep Neural Networks", week 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from orchestrator.errors import SpecError

__all__ = ["Choice", "Config", "Domain", "Fixed", "Integer", "Point", "Real", "Value", "is_number"]

Value = bool | int | float | str
Config = dict[str, Value]  #: flat; a hyperparameter that is not active is absent
Point = np.ndarray  #: shape (dimensions,), float64 in [0, 1]; a point in the unit cube


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """A real number between two bounds, uniform on its scale.

    linear: v.  log: log10 v.  reverse_log: log10(1 - v), for a beta or a decay just below 1.
    """

    low: float
    high: float
    scale: Literal["linear", "log", "reverse_log"] = "linear"
    _ends: tuple[float, float] = field(init=False, repr=False, compare=False)  # stretched

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise SpecError(f"needs finite bounds, got [{self.low}, {self.high}]")
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
        """The coordinate of a value; outside [0, 1] where the value is out of its bounds."""
        a, b = self._ends
        return (self._stretch(float(value)) - a) / (b - a)

    def from_unit(self, u: float) -> float:
        """The value at a coordinate, never outside the bounds."""
        a, b = self._ends
        x = a + u * (b - a)
        if self.scale == "log":
            x = 10**x
        elif self.scale == "reverse_log":
            x = 1 - 10**-x
        return min(max(x, self.low), self.high)

    def snap(self, u: np.ndarray) -> np.ndarray:
        """The coordinates of the values at these coordinates: they themselves."""
        return u

    def contains(self, value: Value) -> bool:
        """Whether a value given by hand lies in this domain."""
        return is_number(value) and self.low <= float(value) <= self.high

    def __str__(self) -> str:
        return f"{self.scale} [{self.low:g}, {self.high:g}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Integer:
    """A whole number between two bounds, both included.

    linear: every number is equally likely. log2: every doubling is. Either way the cube is cut
    into one bin a number, and a number's coordinate is the middle of its bin (on log2 the bins
    reach from v - 1/2 to v + 1/2, so that the first and the last number are not halved).
    """

    low: int
    high: int
    scale: Literal["linear", "log2"] = "linear"

    def __post_init__(self) -> None:
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
        """The coordinate of a value; outside [0, 1] where the value is out of its bounds."""
        a, b = self._edges()
        if self.scale == "log2":
            return math.log(float(value) / a) / math.log(b / a)
        return (float(value) - a) / (b - a)

    def from_unit(self, u: float) -> int:
        """The value at a coordinate, never outside the bounds."""
        a, b = self._edges()
        x = a * (b / a) ** u if self.scale == "log2" else a + u * (b - a)
        return min(max(math.floor(x + 0.5), self.low), self.high)

    def values(self, u: np.ndarray) -> np.ndarray:
        """`from_unit` of many coordinates at once."""
        a, b = self._edges()
        x = a * (b / a) ** u if self.scale == "log2" else a + u * (b - a)
        return np.clip(np.floor(x + 0.5), self.low, self.high)

    def snap(self, u: np.ndarray) -> np.ndarray:
        """The coordinates of the values at these coordinates."""
        a, b = self._edges()
        values = self.values(u)
        if self.scale == "log2":
            values = np.log(values / a) / math.log(b / a)
            return np.asarray(values)
        return (values - a) / (b - a)

    def contains(self, value: Value) -> bool:
        """Whether a value given by hand lies in this domain."""
        return (
            is_number(value) and float(value).is_integer() and self.low <= float(value) <= self.high
        )

    def __str__(self) -> str:
        return f"{'int' if self.scale == 'linear' else 'int_log2'} [{self.low}, {self.high}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several values without an order; each has an equal share of [0, 1]."""

    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise SpecError("a choice needs at least one option, got none")

    def to_unit(self, value: Value) -> float:
        """The middle of the option's share."""
        return (self.index(value) + 0.5) / len(self.options)

    def from_unit(self, u: float) -> Value:
        """The option whose share the coordinate lies in."""
        return self.options[min(int(u * len(self.options)), len(self.options) - 1)]

    def places(self, u: np.ndarray) -> np.ndarray:
        """The options' places at many coordinates at once."""
        return np.asarray(np.minimum((u * len(self.options)).astype(int), len(self.options) - 1))

    def snap(self, u: np.ndarray) -> np.ndarray:
        """The coordinates of the options at these coordinates."""
        return (self.places(u) + 0.5) / len(self.options)

    def index(self, value: Value) -> int:
        """The option's place; 1, 1.0 and True are different options."""
        same = (i for i, o in enumerate(self.options) if o == value and type(o) is type(value))
        place = next(same, None)
        if place is None:
            raise SpecError(f"{value!r} is not one of {_listed(self.options)}")
        return place

    def contains(self, value: Value) -> bool:
        """Whether a value given by hand is one of the options."""
        return any(o == value and type(o) is type(value) for o in self.options)

    def __str__(self) -> str:
        return _listed(self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A value that is not searched; it can be opened by giving it a scale."""

    value: Value

    def contains(self, value: Value) -> bool:
        """Whether a value given by hand is the fixed one."""
        return value == self.value

    def __str__(self) -> str:
        return f"fixed at {self.value}"


Domain = Real | Integer | Choice | Fixed


def is_number(value: Value) -> bool:
    """Whether a value is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(options: tuple[Value, ...]) -> str:
    return " | ".join(str(o) for o in options)
