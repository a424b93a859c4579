"""The estimators' constructor: the network's hyperparameters, and how long to train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, make_dataclass
from typing import Any

from sklearn.base import BaseEstimator

from trainers.training.settings import DEFAULTS, Settings

__all__ = ["Parameters"]

#: Hyperparameter of the trainers that the estimators have under another name.
_LAYERS = "layers"

#: The constructor's network hyperparameters, which are those of `trainers.training.settings`: an
#: optimizer that is added there needs nothing here.
_Network: Any = make_dataclass(
    "_Network",
    [
        ("hidden_layer_sizes", int | Sequence[int], field(default=Settings().units)),
        ("_", KW_ONLY),
        *((key, Any, field(default=value)) for key, value in DEFAULTS.items() if key != _LAYERS),
    ],
    bases=(BaseEstimator,),
    eq=False,
    repr=False,
)


@dataclass(eq=False, repr=False)
class Parameters(_Network):  # type: ignore[misc] # scikit-learn is not typed
    """The constructor, which only stores its arguments, as scikit-learn requires."""

    _: KW_ONLY
    max_epochs: int = 100
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4
    warm_start: bool = False
    random_state: Any = None
