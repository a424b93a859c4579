from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.batchnorm_mlp import BatchNormClassifier, BatchNormRegressor
from trainers.config import Settings
from trainers.data import Data
from trainers.work import epoch_work


def work(*units: int, batch_size: int = 64, examples: int = 1000, optimizer: str = "adam") -> float:
    settings = Settings(units=units, layers=len(units), batch_size=batch_size, optimizer=optimizer)
    return epoch_work(settings, columns=20, outputs=3, examples=examples)


sizes = st.integers(1, 1000)


@given(units=st.lists(sizes, min_size=1, max_size=4), batch=st.integers(2, 999), more=sizes)
def test_work_grows_with_the_network_and_the_data_and_shrinks_with_the_batch(
    units: list[int], batch: int, more: int
) -> None:
    least = work(*units, batch_size=batch)
    assert least > 0
    assert work(*units, units[-1], batch_size=batch) > least
    assert work(units[0] + more, *units[1:], batch_size=batch) > least
    assert work(*units, batch_size=batch, examples=1000 + more) > least
    assert work(*units, batch_size=batch + more) <= least


def test_a_batch_beyond_the_data_costs_no_more_than_all_of_it() -> None:
    assert work(8, batch_size=5000) == work(8, batch_size=1000)


def test_a_simpler_optimizer_costs_less() -> None:
    costs = [work(300, 300, optimizer=o) for o in ("sgd", "momentum", "rmsprop", "adam")]
    assert costs == sorted(costs) and len(set(costs)) == 4


@pytest.mark.parametrize(
    ("trainer", "task"),
    [(BatchNormClassifier, "classification"), (BatchNormRegressor, "regression")],
)
def test_a_trainer_says_what_an_epoch_costs_without_being_made(trainer: type, task: str) -> None:
    x = np.zeros((50, 4), dtype=np.float32)
    classes = 2 if task == "classification" else 1
    y = np.arange(50) % 2 if classes == 2 else np.linspace(-1, 1, 50, dtype=np.float32)
    data = Data(task=task, outputs=classes, x_train=x, y_train=y, x_validation=x, y_validation=y)
    small, large = (trainer.work({"layers": 1, "units_1": u}, data) for u in (8, 512))
    assert 0 < small < large
