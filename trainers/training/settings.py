"""A trial's hyperparameters: from a flat mapping to checked settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from trainers.errors import ConfigError
from trainers.hyperparameters import Choice, Hyperparameter, Number
from trainers.network.activations import ACTIVATIONS
from trainers.network.starts import STARTS
from trainers.training.optimizers import OPTIMIZERS
from trainers.training.schedules import SCHEDULES

__all__ = [
    "ADJUSTABLE",
    "DEFAULTS",
    "HYPERPARAMETERS",
    "Settings",
    "apply_changes",
    "read_settings",
]

_UNITS = re.compile(r"units_[1-9]\d*")
_DEFAULT_UNITS = 64
_UNITS_OF_A_LAYER = Number(default=_DEFAULT_UNITS, least=1, adjustable=False)

# `Settings.numbers` is handed to optimizers and schedules alone: a number of an activation or of a
# start would be checked and then have no effect.
assert not (ACTIVATIONS.numbers or STARTS.numbers)


def _declare(hyperparameter: Number | Choice[Any]) -> Any:
    """Make a field of the settings whose default and range are those of a hyperparameter."""
    return field(default=hyperparameter.default, metadata={"hyperparameter": hyperparameter})


def _list_option_defaults() -> dict[str, float]:
    """List the defaults of the numbers that single optimizers or schedules have."""
    numbers = {**OPTIMIZERS.numbers, **SCHEDULES.numbers}
    return {key: number.default for key, number in numbers.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The hyperparameters of one trial, checked.

    A field's default is that of the configuration's key of the same name. A number that only some
    optimizers or schedules have is declared with them and stands in `numbers`.

    Raises:
        ConfigError: If a value is outside its range or choices.
    """

    #: Learning rate of the first epoch, >= 0.
    learning_rate: float = _declare(Number(default=1e-3))
    #: Update rule, a name in `trainers.training.optimizers.OPTIMIZERS`.
    optimizer: str = _declare(OPTIMIZERS)
    #: Share of the OLD running mean and variance that a batch leaves in place, [0, 1).
    batchnorm_decay: float = _declare(Number(default=0.9, below=1.0))
    #: Number added to the variance in batch norm, in [1e-30, 1e30).
    batchnorm_epsilon: float = _declare(
        Number(default=1e-5, least=1e-30, below=1e30, adjustable=False)
    )
    #: Number of hidden layers, >= 1.
    layers: int = _declare(Number(default=2, least=1, adjustable=False))
    #: Units of each hidden layer, >= 1; keys units_1, units_2, ... in a configuration.
    units: tuple[int, ...] = (_DEFAULT_UNITS, _DEFAULT_UNITS)
    #: Examples in a batch, >= 2: one example has no batch variance.
    batch_size: int = _declare(Number(default=64, least=2))
    #: Course of the learning rate, a name in `trainers.training.schedules.SCHEDULES`.
    schedule: str = _declare(SCHEDULES)
    #: Multiple w of the weights W that is added to their gradient (gradient += w W), in [0, 1e30);
    #: weight matrices only.
    weight_decay: float = _declare(Number(default=0.0, below=1e30))
    #: Share of hidden activations DROPPED in training, [0, 1).
    dropout: float = _declare(Number(default=0.0, below=1.0))
    #: Activation of the hidden layers, a name in `trainers.network.activations.ACTIVATIONS`.
    activation: str = _declare(ACTIVATIONS)
    #: Start weights, a name in `trainers.network.starts.STARTS`; a configuration without the key
    #: has the start of its activation.
    start: str = _declare(STARTS)
    #: Values of the numbers that single optimizers and schedules have, by key: `adam_beta1`, ...
    numbers: Mapping[str, float] = field(default_factory=_list_option_defaults)

    def __post_init__(self) -> None:
        """Check every value against its choices or its range."""
        for key, hyperparameter in HYPERPARAMETERS.items():
            value = self.numbers[key] if key in self.numbers else getattr(self, key)
            hyperparameter.check(key, value)
        if len(self.units) != self.layers or min(self.units) < 1:
            raise ConfigError(
                f"units_1 to units_{self.layers} must be >= 1 each, got {list(self.units)}"
            )


def _list_hyperparameters() -> dict[str, Hyperparameter]:
    """List what the settings declare, a choice's numbers after it."""
    listed: dict[str, Hyperparameter] = {}
    for declared in fields(Settings):
        if hyperparameter := declared.metadata.get("hyperparameter"):
            listed[declared.name] = hyperparameter
            if isinstance(hyperparameter, Choice):
                listed |= hyperparameter.numbers
    return listed


#: Every hyperparameter by its key, besides units_1, units_2, ...
HYPERPARAMETERS: dict[str, Hyperparameter] = _list_hyperparameters()

#: Value of each key that a configuration leaves out. None: the start follows from the activation.
DEFAULTS: dict[str, object] = {
    **{key: hyperparameter.default for key, hyperparameter in HYPERPARAMETERS.items()},
    "start": None,
}

#: Keys that may change between epochs: the arrays and their meaning stay the same.
ADJUSTABLE: tuple[str, ...] = tuple(
    key for key, hyperparameter in HYPERPARAMETERS.items() if hyperparameter.adjustable
)


def read_settings(config: Mapping[str, object]) -> Settings:
    """Read the settings out of a flat mapping of hyperparameters.

    A key that is absent or None takes its default. A known key that the other choices make
    inactive (`momentum_beta` with adam, `units_3` with two layers) is checked and has no effect.

    Raises:
        ConfigError: If a key is unknown, or a value has the wrong type or range.
    """
    entries = {key: value for key, value in config.items() if value is not None}
    unknown = sorted(k for k in entries if k not in HYPERPARAMETERS and not _UNITS.fullmatch(k))
    if unknown:
        raise ConfigError(
            f"unknown hyperparameter {', '.join(unknown)}; "
            f"known are {', '.join(sorted(HYPERPARAMETERS))} and units_1, units_2, ..."
        )
    values: dict[str, Any] = {
        key: HYPERPARAMETERS.get(key, _UNITS_OF_A_LAYER).convert(key, value)
        for key, value in entries.items()
    }
    full = {**DEFAULTS, **values}
    layers = range(1, full["layers"] + 1)
    activation = ACTIVATIONS.find(full["activation"])
    settings = {f.name: full[f.name] for f in fields(Settings) if f.name in full}
    return Settings(
        **settings | {"start": full["start"] or activation.start},
        units=tuple(values.get(f"units_{i}", _DEFAULT_UNITS) for i in layers),
        numbers={key: full[key] for key in _list_option_defaults()},
    )


def apply_changes(config: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Return `config` with `changes` in it, which may touch only what can be adjusted. Pure.

    Raises:
        ConfigError: If `changes` has any other key.
    """
    if fixed := sorted(changes.keys() - set(ADJUSTABLE)):
        raise ConfigError(
            f"{', '.join(fixed)} cannot be changed once training has begun; "
            f"what can is {', '.join(ADJUSTABLE)}"
        )
    return {**config, **changes}
