from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.batches import ShuffledBatches, batch_bounds
from trainers.losses import target_rows


@given(examples=st.integers(2, 300), batch_size=st.integers(2, 350))
def test_bounds_cover_every_example_once_in_batches_of_two_or_more(
    examples: int, batch_size: int
) -> None:
    bounds = batch_bounds(examples, batch_size)
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(examples))
    assert all(2 <= stop - start <= batch_size + 1 for start, stop in bounds)
    assert all(stop - start == batch_size for start, stop in bounds[:-1])


def test_a_single_last_example_joins_the_batch_before_it() -> None:
    assert batch_bounds(9, 4) == [(0, 4), (4, 9)]
    assert batch_bounds(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert batch_bounds(3, 2) == [(0, 3)]


def test_a_batch_size_above_the_examples_gives_one_batch() -> None:
    assert batch_bounds(5, 100) == [(0, 5)]


@pytest.mark.parametrize("block_bytes", [1, 400, 2**20])
@pytest.mark.parametrize("rows", [2, 29, 33, 40])
def test_an_epoch_has_every_row_with_its_own_target_however_it_is_gathered(
    rows: int, block_bytes: int
) -> None:
    x = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    y = np.arange(rows) % 4
    batches = ShuffledBatches(
        x, y, rows_of_class=target_rows(4, x.dtype), batch_size=4, block_bytes=block_bytes
    )
    for _ in range(2):
        parts = [(a.copy(), b.copy()) for a, b in batches.epoch(np.random.default_rng(rows))]
        order = np.random.default_rng(rows).permutation(rows)
        assert (np.concatenate([a for a, _ in parts]) == x[order]).all()
        assert (np.concatenate([b for _, b in parts]).argmax(axis=1) == y[order]).all()


def test_targets_of_a_regression_are_the_values_themselves() -> None:
    x, y = np.zeros((6, 1)), np.arange(6.0)
    batches = ShuffledBatches(x, y, rows_of_class=None, batch_size=4)
    seen = np.concatenate([t.copy() for _, t in batches.epoch(np.random.default_rng(0))])
    assert sorted(seen[:, 0]) == list(y)
