from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from trainer_examples import blobs, waves

from trainers.errors import DataError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "ranking"}, "classification or regression"),
        ({"outputs": 1}, "outputs >= 2"),
        ({"outputs": 2}, r"0\.\.1"),
        ({"target_scale": 0.0}, "target_scale"),
        ({"x_train": np.zeros((1, 5), np.float32), "y_train": np.zeros(1, int)}, "2 rows"),
        ({"x_train": np.zeros((65, 5))}, "x_validation must have"),
        ({"x_train": np.zeros((65, 5), int)}, "float32"),
        ({"x_train": np.zeros(65, np.float32)}, "shape"),
        ({"x_train": np.full((65, 5), np.nan, np.float32)}, "impute"),
        ({"x_train": np.full((65, 5), 1e30, np.float32)}, "scale it"),
        ({"x_validation": np.full((40, 5), np.inf, np.float32)}, "impute"),
        ({"weights_train": np.ones(65)}, "float32"),
        ({"weights_train": np.full(65, 2, np.float32)}, "1 on average"),
        ({"weights_train": np.linspace(-1, 3, 65, dtype=np.float32)}, ">= 0"),
        ({"x_validation": np.zeros((40, 4), np.float32)}, "5 columns"),
        ({"x_validation": np.zeros((0, 5), np.float32), "y_validation": []}, "1 row"),
        ({"y_train": np.zeros(64, int)}, r"\(65,\)"),
        ({"y_train": np.zeros(65)}, "class indices"),
        ({"y_train": np.full(65, -1)}, "class indices"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error_that_says_what_is_needed(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        dataclasses.replace(blobs(), **changes)


def test_a_regression_needs_finite_targets_and_one_output() -> None:
    with pytest.raises(DataError, match="finite"):
        dataclasses.replace(waves(), y_train=np.full(65, np.inf, np.float32))
    with pytest.raises(DataError, match="scale it"):
        dataclasses.replace(waves(), y_train=np.full(65, 1e30, np.float32))
    with pytest.raises(DataError, match="outputs=1"):
        dataclasses.replace(waves(), outputs=2)


def test_data_survives_pickling_to_a_worker() -> None:
    copy = pickle.loads(pickle.dumps(blobs()))
    assert (copy.x_train == blobs().x_train).all()
