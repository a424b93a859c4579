from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator.errors import DataError
from pipelines.data.datasets import Table, read_table
from pipelines.data.splits import infer_task, split_rows


def table_of(target: Any, *, own_test: bool = False) -> Table:
    series = pd.Series(target, name="y")
    features = pd.DataFrame({"x": np.arange(len(series), dtype=float)})
    return Table(
        features=features,
        target=series,
        target_name="y",
        test_features=features if own_test else None,
        test_target=series if own_test else None,
        source="made up",
        has_header=True,
    )


labels = st.lists(st.integers(0, 4), min_size=20, max_size=200)
shares = st.floats(0.05, 0.4)


@settings(max_examples=60)
@given(target=labels, seed=st.integers(0, 2**32), validation=shares, test=shares)
def test_each_row_is_in_one_part_and_each_class_is_learnt(
    target: list[int], seed: int, validation: float, test: float
) -> None:
    assume(round(validation * len(target)) + round(test * len(target)) <= len(target) - 10)
    parts = split_rows(
        table_of(target),
        task="classification",
        seed=seed,
        validation_share=validation,
        test_share=test,
    )
    rows = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(rows.tolist()) == list(range(len(target)))
    assert len(parts.validation) == max(1, round(validation * len(target)))
    assert len(parts.test) == max(1, round(test * len(target)))
    assert set(np.array(target)[parts.train]) == set(target)


@settings(max_examples=60)
@given(target=labels, seed=st.integers(0, 1000))
def test_the_parts_keep_the_shares_of_the_classes(target: list[int], seed: int) -> None:
    parts = split_rows(table_of(target), task="classification", seed=seed)
    values = np.array(target)
    for part in (parts.validation, parts.test):
        for label in set(target):
            of_class = values == label
            wanted = of_class.mean() * len(part)
            rare = of_class.sum() < 3
            assert rare or abs((values[part] == label).sum() - wanted) <= 2


@given(seed=st.integers(0, 1000), common=st.integers(20, 60))
@settings(max_examples=30)
def test_a_class_with_fewer_than_three_rows_is_for_training(seed: int, common: int) -> None:
    target = ["a"] * common + ["b"] * common + ["rare"] * 2 + ["single"]
    parts = split_rows(table_of(target), task="classification", seed=seed)
    held_out = {target[i] for i in np.concatenate([parts.validation, parts.test])}
    assert held_out == {"a", "b"}


def test_more_classes_than_rows_to_draw_do_not_crash() -> None:
    target = [i % 10 for i in range(40)]
    parts = split_rows(table_of(target), task="classification", seed=0)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (28, 6, 6)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_seed_decides_the_split(task: str) -> None:
    table = read_table("digits")
    first, again, other = (split_rows(table, task=task, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.train, again.train)
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(np.sort(first.validation), np.sort(other.validation))


def test_every_row_is_held_out_about_equally_often() -> None:
    table = table_of([0] * 30 + [1] * 10)
    counts = np.zeros(40)
    for seed in range(400):
        counts[split_rows(table, task="classification", seed=seed).validation] += 1
    # 6 of 40 rows each time: 60 of 400 expected, a standard deviation of about 7
    assert counts.min() > 25
    assert counts.max() < 95


def test_a_table_with_its_own_test_set_gives_no_rows_to_test() -> None:
    parts = split_rows(table_of([0, 1] * 20, own_test=True), task="classification", seed=0)
    assert len(parts.test) == 0
    assert len(parts.train) + len(parts.validation) == 40


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.1), (0.5, 0.5), (0.1, -0.1)])
def test_shares_that_leave_nothing_are_refused(validation: float, test: float) -> None:
    with pytest.raises(DataError, match="sum below 1"):
        split_rows(
            table_of([0, 1] * 20),
            task="regression",
            seed=0,
            validation_share=validation,
            test_share=test,
        )


def test_a_target_of_names_is_refused_as_classes() -> None:
    with pytest.raises(DataError, match="0 are free"):
        split_rows(table_of([f"name {i}" for i in range(40)]), task="classification", seed=0)


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (["a", "b"] * 10, "classification"),
        ([True, False] * 10, "classification"),
        (np.arange(40, dtype=np.uint8), "classification"),
        ([0, 1] * 5, "classification"),
        ([1.0, 2.0, 3.0] * 10, "classification"),
        ([0.5, 1.5] * 10, "regression"),
        (list(range(20)), "regression"),
        (list(range(30)) * 20, "regression"),
        (np.linspace(0, 1, 50), "regression"),
    ],
)
def test_the_task_is_told_from_the_target(target: Any, task: str) -> None:
    assert infer_task(pd.Series(target)) == task


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("digits", "classification"),
        ("wine", "classification"),
        ("breast_cancer", "classification"),
        ("diabetes", "regression"),
    ],
)
def test_the_task_of_a_built_in_set_is_known(name: str, task: str) -> None:
    assert infer_task(read_table(name).target) == task
