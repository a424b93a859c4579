"""From a table to the arrays that a trainer takes: split, fit on the training rows, encode."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.errors import DataError
from pipelines.data.columns import is_numeric
from pipelines.data.datasets import Table, compute_fingerprint
from pipelines.data.encode import encode_features, encode_target
from pipelines.data.fit_preprocessing import fit_preprocessing
from pipelines.data.preprocessing import Preprocessing
from pipelines.data.splits import infer_task, split_rows
from trainers.training.data import Data

__all__ = ["PreparedData", "prepare_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """A data set ready to train on, with the test rows apart."""

    data: Data  #: arrays that a trainer takes: training and validation rows
    x_test: npt.NDArray[np.float32]  #: test features (T, D); T is 0 without a test set
    y_test: npt.NDArray[Any]  #: test targets (T,), coded as data.y_train
    preprocessing: Preprocessing  #: how the rows were encoded
    task: str  #: task of the network, "classification" or "regression"
    fingerprint: str  #: fingerprint of the whole table, before the split
    notes: tuple[str, ...] = field(default=())  #: what was left out, for the user to read


def prepare_table(
    table: Table,
    *,
    task: str | None,
    seed: int,
    validation_share: float = 0.15,
    test_share: float = 0.15,
) -> PreparedData:
    """Split a table, fit the preprocessing on its training rows, and apply it to all parts.

    Args:
        table: The table, as `read_table` returns it.
        task: "classification" or "regression"; None decides by the values of the target.
        seed: Seed of the split; the same seed gives the same arrays.
        validation_share: Share of the table's rows for validation, in (0, 1).
        test_share: Share of the table's rows for the test, in [0, 1); not used if the table has a
            test set.

    Raises:
        DataError: If the task does not fit the target, or the rows do not suffice.
    """
    task = infer_task(table.target) if task is None else task
    _check_task(table, task)
    rows = split_rows(
        table, task=task, seed=seed, validation_share=validation_share, test_share=test_share
    )
    features, target = table.features.iloc[rows.train], table.target.iloc[rows.train]
    preprocessing = fit_preprocessing(features, target, task=task, image=table.image)
    y_train, x_train = (
        encode_target(preprocessing, target),
        encode_features(preprocessing, features),
    )
    del features  # a copy of the training rows
    if table.test_features is None or table.test_target is None:
        x_test, y_test = table.features.iloc[rows.test], table.target.iloc[rows.test]
    else:
        x_test, y_test = table.test_features, table.test_target
    return PreparedData(
        data=Data(
            task=task,
            outputs=preprocessing.outputs,
            x_train=x_train,
            y_train=y_train,
            x_validation=encode_features(preprocessing, table.features.iloc[rows.validation]),
            y_validation=encode_target(preprocessing, table.target.iloc[rows.validation]),
            target_mean=preprocessing.target_mean,
            target_scale=preprocessing.target_scale,
        ),
        x_test=encode_features(preprocessing, x_test),
        y_test=encode_target(preprocessing, y_test),
        preprocessing=preprocessing,
        task=task,
        fingerprint=compute_fingerprint(table),
        notes=table.notes,
    )


def _check_task(table: Table, task: str) -> None:
    if task not in ("classification", "regression"):
        raise DataError(f"a task is classification or regression, got --task {task!r}")
    if task == "regression" and not is_numeric(table.target):
        raise DataError(
            f"{table.source}: regression needs a target of numbers, got "
            f"{table.target_name!r} with {table.target.iloc[0]!r}; use --task classification"
        )
