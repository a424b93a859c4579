"""The errors that the trainers raise on purpose.

    TrainerError (a ValueError)
    ├── ConfigError   a hyperparameter is unknown, out of range, or fixed once training has begun
    ├── DataError     the arrays do not fit together
    └── StateError    a saved state is not of this network and optimizer

A network that diverges is a result and not an error: its metrics are nan.
"""

from __future__ import annotations

__all__ = ["ConfigError", "DataError", "StateError", "TrainerError"]


class TrainerError(ValueError):
    """The base class of all errors that the trainers raise on purpose."""


class ConfigError(TrainerError):
    """A hyperparameter cannot be used; nothing was changed."""


class DataError(TrainerError):
    """The data cannot be trained on."""


class StateError(TrainerError):
    """The state cannot be loaded; nothing was changed."""
