"""Small data sets and short cuts that several tests of the trainers share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainers.network.arrays import Array, State
from trainers.training.data import Data
from trainers.training.trainer import BatchNormClassifier, BatchNormRegressor

Trainer = BatchNormClassifier | BatchNormRegressor


def blobs(*, classes: int = 3, rows: int = 65, columns: int = 5, dtype: str = "float32") -> Data:
    """Classes around random centres, in read-only arrays as workers see them."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(classes, columns)) * 2
    y = rng.integers(0, classes, rows + 40)
    x = (centres[y] + rng.normal(size=(rows + 40, columns))).astype(dtype)
    return _split("classification", classes, x, y, rows)


def waves(*, rows: int = 65, columns: int = 5, dtype: str = "float32") -> Data:
    """A smooth function of two columns plus a little noise."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(rows + 40, columns)).astype(dtype)
    y = np.sin(x[:, 0]) + 0.5 * x[:, -1] + 0.05 * rng.normal(size=len(x))
    return _split("regression", 1, x, ((y - y.mean()) / y.std()).astype(dtype), rows)


def data_for(outputs: int, **sizes: Any) -> Data:
    """Regression data for one output, else blobs of that many classes."""
    return waves(**sizes) if outputs == 1 else blobs(classes=outputs, **sizes)


def trainer(
    config: Mapping[str, object] | None = None, *, data: Data, seed: int = 0, max_epochs: int = 20
) -> Trainer:
    """The trainer that fits the data's task."""
    made = BatchNormRegressor if data.task == "regression" else BatchNormClassifier
    return made(config or {}, seed=seed, data=data, max_epochs=max_epochs)


def after(epochs: int, trained: Trainer) -> Trainer:
    """`trained`, after so many epochs more."""
    for _ in range(epochs):
        trained.epoch()
    return trained


def digest(state: State) -> str:
    """A hash of every bit of a state."""
    total = hashlib.sha256()
    for key in sorted(state):
        value = state[key]
        content = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
        total.update(key.encode() + content)
    return total.hexdigest()


def _split(task: str, outputs: int, x: Array, y: Array, rows: int) -> Data:
    for array in (x, y):
        array.setflags(write=False)
    return Data(
        task=task,
        outputs=outputs,
        x_train=x[:rows],
        y_train=y[:rows],
        x_validation=x[rows:],
        y_validation=y[rows:],
        target_mean=3.0 if outputs == 1 else 0.0,
        target_scale=2.0 if outputs == 1 else 1.0,
    )
