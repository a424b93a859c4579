"""The split of a table's rows into training, validation and test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from orchestrator.errors import DataError
from pipelines.data.datasets import Table

__all__ = ["Split", "infer_task", "split_rows"]

Rows = npt.NDArray[np.int64]

#: Largest number of classes that are whole numbers; with more values they are amounts, as an age.
MAX_CLASSES = 20
#: Least mean number of rows of such a class; with fewer the numbers are amounts.
ROWS_PER_CLASS = 5
#: Least number of rows of a class that can be in training, validation and test.
FEW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Row numbers of a table, in random order; no row is in two parts."""

    train: Rows  #: rows that a model learns from
    validation: Rows  #: rows that choose among models
    test: Rows  #: rows that judge the chosen model; empty if the table has a test set


def infer_task(target: pd.Series[Any]) -> str:
    """Infer "classification" or "regression" from the values of the target.

    Text, bools and bytes (the labels of an IDX file) are classes. Whole numbers, 3.0 among them,
    are classes if there are two of them, or at most 20 that occur 5 times or more on average.
    All else is regression.
    """
    if target.dtype == bool or target.dtype == np.uint8:
        return "classification"
    if not pd.api.types.is_numeric_dtype(target.dtype):
        return "classification"
    values = target.to_numpy(dtype="float64")
    distinct = len(np.unique(values))
    few = distinct <= 2 or distinct <= min(MAX_CLASSES, len(values) / ROWS_PER_CLASS)
    return "classification" if few and bool((values % 1 == 0).all()) else "regression"


def split_rows(
    table: Table, *, task: str, seed: int, validation_share: float = 0.15, test_share: float = 0.15
) -> Split:
    """Split the table's rows at random; for classification each part has the shares of the classes.

    Every class has a row in training, whatever the shares; a class with fewer than 3 rows is in
    training alone. The other rows of a class are shared out in proportion, up to rounding. The
    same table, seed and shares give the same split.

    Raises:
        DataError: If the shares leave nothing for training, or the rows do not suffice for them.
    """
    test_share = 0.0 if table.test_features is not None else test_share
    if not (validation_share > 0 <= test_share and validation_share + test_share < 1):
        raise DataError(
            "a split needs validation_share > 0, test_share >= 0 and a sum below 1, got "
            f"validation_share={validation_share}, test_share={test_share}"
        )
    rows = len(table.target)
    rng = np.random.default_rng(seed)
    classes = pd.factorize(table.target)[0] if task == "classification" else np.zeros(rows, int)
    order = rng.permutation(rows)
    order = order[np.argsort(classes[order], kind="stable")]  # by class, at random within each
    reserved = _mark_for_training(classes[order])
    free = order[~reserved]
    n_validation = max(1, round(validation_share * rows))
    n_test = math.ceil(test_share) * max(1, round(test_share * rows))
    if n_validation + n_test > len(free):
        raise DataError(
            f"{table.source}: validation and test need {n_validation + n_test} of {rows} rows, but "
            f"only {len(free)} are free: a row of each class of {table.target_name!r}, and all of "
            f"a class with fewer than {FEW}, are for training; give more rows or smaller shares"
        )
    in_test = _mark_evenly(len(free), n_test, rng)
    free, test = free[~in_test], free[in_test]
    in_validation = _mark_evenly(len(free), n_validation, rng)
    train = np.concatenate([order[reserved], free[~in_validation]])
    return Split(
        train=rng.permutation(train).astype(np.int64),
        validation=rng.permutation(free[in_validation]).astype(np.int64),
        test=rng.permutation(test).astype(np.int64),
    )


def _mark_for_training(classes: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mark, in rows sorted by class, one row of each class, and all rows of a rare one."""
    first = np.concatenate([[True], classes[1:] != classes[:-1]])
    counts = np.bincount(classes)
    return np.asarray(first | (counts[classes] < FEW))


def _mark_evenly(rows: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Mark `count` of `rows` at equal distances from a random start: systematic sampling.

    A run of n rows holds n * count / rows marks, rounded up or down. That stratifies without
    failing where scikit-learn's splitters do: fewer rows to draw than there are classes.
    """
    marks = np.zeros(rows, dtype=bool)
    if count:
        marks[(rng.integers(rows) + np.arange(count) * rows) // count] = True
    return marks
