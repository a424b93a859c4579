"""Declarations of hyperparameters: numbers with a range, and choices with a registry of options.

A choice (`optimizer`, `schedule`, `activation`, `start`) is one `Choice`, and each of its options
is one entry, added where the option's code stands:

    @OPTIMIZERS.add("adam", adam_beta1=Number(default=0.9, below=1.0, argument="beta1"))
    class Adam(Optimizer): ...

From these entries follow the checked settings (`trainers.training.settings`), the messages about
wrong values, what may be adjusted, and the constructor of the scikit-learn estimators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Generic, TypeAlias, TypeGuard, TypeVar

from trainers.errors import ConfigError

__all__ = ["Choice", "Hyperparameter", "Number"]

Entry = TypeVar("Entry")
Decorated = TypeVar("Decorated")

#: Bound below which a float holds every whole number.
_EXACT_FLOATS = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A hyperparameter that is a number in [least, below); an int default makes it whole."""

    default: float | int  #: value where a configuration has none
    least: float = 0.0  #: smallest value allowed
    below: float = math.inf  #: bound that no value reaches; infinity: any finite value
    argument: str = ""  #: argument of the option's code that receives the value
    adjustable: bool = True  #: whether the value may change between two epochs of a training

    def convert(self, key: str, value: object) -> float | int:
        """Turn a user's value into a plain float or int.

        Raises:
            ConfigError: If the value is no number, or has a fraction where a whole one is needed.
        """
        if not isinstance(self.default, int):
            if _is_number(value):
                return _to_float(value)
            raise ConfigError(f"{key} must be a number, got {value!r}")
        # 64.0 is what a table of numbers makes of 64.
        whole = _to_float(value) if _is_number(value) else math.inf
        if abs(whole) < _EXACT_FLOATS and whole.is_integer():
            return int(whole)
        raise ConfigError(f"{key} must be a whole number, got {value!r}")

    def check(self, key: str, value: float) -> None:
        """Refuse a value outside the range.

        Raises:
            ConfigError: If the value lies outside, or is nan.
        """
        if not (self.least <= value < self.below):
            bound = "finite" if self.below == math.inf else f"< {self.below:g}"
            raise ConfigError(f"{key} must be >= {self.least:g} and {bound}, got {value!r}")


class Choice(Generic[Entry]):
    """A hyperparameter whose value is a name: the registry of the names and what they stand for.

    Args:
        key: Name of the hyperparameter.
        default: The option of a configuration that names none.
        adjustable: Whether the value may change between two epochs of a training.
    """

    def __init__(self, key: str, *, default: str, adjustable: bool = False) -> None:
        self.key, self.default, self.adjustable = key, default, adjustable
        self._entries: dict[str, Entry] = {}
        self._numbers: dict[str, dict[str, Number]] = {}

    def add(self, name: str, **numbers: Number) -> Callable[[Decorated], Decorated]:
        """Add an option, as a decorator of its code.

        Args:
            name: The option's name in a configuration.
            numbers: The numbers that only this option uses, by their hyperparameter's name.
        """

        def register(entry: Decorated) -> Decorated:
            assert name not in self._entries, f"{self.key} {name} is there already"
            for key, number in numbers.items():
                assert number.argument, f"{key} needs the argument that receives its value"
                assert self.numbers.get(key, number) == number, f"{key} is declared twice"
            self._entries[name] = entry  # type: ignore[assignment] # keeps the decorated type
            self._numbers[name] = numbers
            return entry

        return register

    def __iter__(self) -> Iterator[str]:
        """Iterate over the options' names, in the order in which they were added."""
        return iter(self._entries)

    def find(self, name: object) -> Entry:
        """Return what an option's name stands for.

        Raises:
            ConfigError: If there is no such option; the message lists those that there are.
        """
        if name not in self._entries:
            raise ConfigError(f"{self.key} must be one of {', '.join(self)}, got {name!r}")
        return self._entries[str(name)]

    def convert(self, key: str, value: object) -> str:
        """Turn a user's value into a plain string.

        Raises:
            ConfigError: If the value is no string.
        """
        if isinstance(value, str):
            return str(value)
        raise ConfigError(f"{key} must be a string, got {value!r}")

    def check(self, key: str, value: object) -> None:
        """Refuse a name that is no option.

        Raises:
            ConfigError: If there is no such option.
        """
        self.find(value)

    @property
    def numbers(self) -> dict[str, Number]:
        """The numbers of all options, by the hyperparameter's name."""
        return {key: number for name in self for key, number in self.find_numbers(name).items()}

    def find_numbers(self, name: str) -> dict[str, Number]:
        """Return the numbers that an option uses, by the hyperparameter's name."""
        return self._numbers[name]

    def select_arguments(self, name: str, values: Mapping[str, float]) -> dict[str, float]:
        """Select the numbers that an option uses from `values`, by the names of its arguments."""
        return {number.argument: values[key] for key, number in self.find_numbers(name).items()}


#: Declaration of a hyperparameter: a number, or a choice of names.
Hyperparameter: TypeAlias = Number | Choice[Any]


def _to_float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_number(value: object) -> TypeGuard[Real]:
    return isinstance(value, Real) and not isinstance(value, bool)
