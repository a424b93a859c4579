"""A trial's hyperparameters: from a flat mapping to checked settings."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from trainers.errors import ConfigError
from trainers.training.schedules import SCHEDULES

__all__ = ["ADJUSTABLE", "Settings", "adjusted", "read_settings"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("sgd", "momentum", "rmsprop", "adam"),
    "schedule": SCHEDULES,
    "activation": ("relu", "tanh"),
    "start": ("he", "xavier"),
}

#: Least value, whether it is allowed itself, and the bound that no value reaches.
_RANGES: dict[str, tuple[float, bool, float]] = {
    "learning_rate": (0.0, True, math.inf),
    "momentum_beta": (0.0, True, 1.0),
    "rmsprop_decay": (0.0, True, 1.0),
    "rmsprop_epsilon": (1e-30, True, 1e30),
    "adam_beta1": (0.0, True, 1.0),
    "adam_beta2": (0.0, True, 1.0),
    "adam_epsilon": (1e-30, True, 1e30),
    "batchnorm_decay": (0.0, True, 1.0),
    "batchnorm_epsilon": (1e-30, True, 1e30),
    "layers": (1, True, math.inf),
    "batch_size": (2, True, math.inf),  # one example has no batch variance
    "schedule_rate": (0.0, True, math.inf),
    "weight_decay": (0.0, True, 1e30),
    "dropout": (0.0, True, 1.0),
}

_UNITS = re.compile(r"units_[1-9]\d*")
_DEFAULT_UNITS = 64
_DEFAULT_START = {"relu": "he", "tanh": "xavier"}

#: May change between epochs: the arrays and their meaning stay the same.
ADJUSTABLE = (
    "learning_rate",
    "momentum_beta",
    "rmsprop_decay",
    "rmsprop_epsilon",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "batchnorm_decay",
    "batch_size",
    "schedule",
    "schedule_rate",
    "weight_decay",
    "dropout",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The hyperparameters of one trial, checked; a field's default is that of the config key.

    Raises:
        ConfigError: If a value is outside its range or choices.
    """

    learning_rate: float = 1e-3  #: of the first epoch, >= 0
    optimizer: str = "adam"  #: sgd, momentum, rmsprop or adam
    momentum_beta: float = 0.9  #: share of the OLD velocity kept, [0, 1)
    rmsprop_decay: float = 0.9  #: share of the OLD mean square kept, [0, 1)
    rmsprop_epsilon: float = 1e-8  #: added to the root, in [1e-30, 1e30)
    adam_beta1: float = 0.9  #: share of the OLD mean gradient kept, [0, 1)
    adam_beta2: float = 0.999  #: share of the OLD mean square kept, [0, 1)
    adam_epsilon: float = 1e-8  #: added to the root, in [1e-30, 1e30)
    batchnorm_decay: float = 0.9  #: share of the OLD running value kept, [0, 1)
    batchnorm_epsilon: float = 1e-5  #: added to the variance, in [1e-30, 1e30)
    layers: int = 2  #: hidden layers, >= 1
    units: tuple[int, ...] = (_DEFAULT_UNITS, _DEFAULT_UNITS)  #: keys units_1, units_2, ...
    batch_size: int = 64  #: examples, >= 2
    schedule: str = "constant"  #: constant, inverse, exponential or cosine
    schedule_rate: float = 0.0  #: k of the schedule, per epoch, >= 0
    weight_decay: float = 0.0  #: gradient += weight_decay W, weight matrices only, >= 0
    dropout: float = 0.0  #: share of hidden activations DROPPED, [0, 1)
    activation: str = "relu"  #: relu or tanh
    start: str = "he"  #: he or xavier; the key's default is xavier for tanh

    def __post_init__(self) -> None:
        """Check every value against its choices or its range."""
        for key, choices in _CHOICES.items():
            if (choice := getattr(self, key)) not in choices:
                raise ConfigError(f"{key} must be one of {', '.join(choices)}, got {choice!r}")
        for key, (least, allowed, bound) in _RANGES.items():
            value = getattr(self, key)
            if not (least <= value < bound) or (value == least and not allowed):
                sign = ">=" if allowed else ">"
                below = "finite" if bound == math.inf else f"< {bound:g}"
                raise ConfigError(f"{key} must be {sign} {least:g} and {below}, got {value!r}")
        if len(self.units) != self.layers or min(self.units) < 1:
            raise ConfigError(
                f"units_1 to units_{self.layers} must be >= 1 each, got {list(self.units)}"
            )


def read_settings(config: Mapping[str, object]) -> Settings:
    """The settings that a flat mapping of hyperparameters gives.

    A key that is absent or None takes its default. A known key that the other choices make
    inactive (`momentum_beta` with adam, `units_3` with two layers) is checked and has no effect.

    Raises:
        ConfigError: If a key is unknown, or a value has the wrong type or range.
    """
    given = {key: value for key, value in config.items() if value is not None}
    scalars = {f.name: f.default for f in dataclasses.fields(Settings) if f.name != "units"}
    unknown = sorted(key for key in given if key not in scalars and not _UNITS.fullmatch(key))
    if unknown:
        raise ConfigError(
            f"unknown hyperparameter {', '.join(unknown)}; "
            f"known are {', '.join(sorted(scalars))} and units_1, units_2, ..."
        )
    values = {
        key: _converted(key, value, like=scalars.get(key, _DEFAULT_UNITS))
        for key, value in given.items()
    }
    layers = values.get("layers", scalars["layers"])
    assert isinstance(layers, int)
    units = tuple(values.get(f"units_{i}", _DEFAULT_UNITS) for i in range(1, layers + 1))
    start = _DEFAULT_START.get(str(values.get("activation", "relu")), "he")
    chosen = {key: value for key, value in values.items() if key in scalars}
    return Settings(**{"start": start, **chosen, "units": units})  # type: ignore[arg-type]


def adjusted(config: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """`config` with `changes` in it, which may only touch what can change between epochs. Pure.

    Raises:
        ConfigError: If `changes` has any other key.
    """
    if fixed := sorted(changes.keys() - set(ADJUSTABLE)):
        raise ConfigError(
            f"{', '.join(fixed)} cannot be changed once training has begun; "
            f"what can is {', '.join(ADJUSTABLE)}"
        )
    return {**config, **changes}


def _converted(key: str, value: object, *, like: object) -> float | int | str:
    if isinstance(like, str):
        if isinstance(value, str):
            return str(value)
        kind = "a string"
    elif isinstance(like, int):
        # 64.0 is what a table of numbers makes of 64.
        whole = _float(value) if _is_number(value) else math.inf
        if abs(whole) < 2**53 and whole.is_integer():
            return int(whole)
        kind = "a whole number"
    else:
        if _is_number(value):
            return _float(value)
        kind = "a number"
    raise ConfigError(f"{key} must be {kind}, got {value!r}")


def _float(value: numbers.Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_number(value: object) -> TypeGuard[numbers.Real]:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
