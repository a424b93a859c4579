from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.network.losses import HalfSquaredError, SoftmaxCrossEntropy
from trainers.training.batches import ShuffledBatches, compute_batch_bounds


@given(examples=st.integers(2, 300), batch_size=st.integers(2, 350))
def test_bounds_cover_every_example_once_in_batches_of_two_or_more(
    examples: int, batch_size: int
) -> None:
    bounds = compute_batch_bounds(examples, batch_size)
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(examples))
    assert all(2 <= stop - start <= batch_size + 1 for start, stop in bounds)
    assert all(stop - start == batch_size for start, stop in bounds[:-1])


def test_a_single_last_example_joins_the_batch_before_it() -> None:
    assert compute_batch_bounds(9, 4) == [(0, 4), (4, 9)]
    assert compute_batch_bounds(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert compute_batch_bounds(3, 2) == [(0, 3)]


def test_a_batch_size_above_the_examples_gives_one_batch() -> None:
    assert compute_batch_bounds(5, 100) == [(0, 5)]


@pytest.mark.parametrize("block_bytes", [1, 400, 2**20])
@pytest.mark.parametrize("rows", [2, 29, 33, 40])
def test_an_epoch_has_every_row_with_its_own_target_however_it_is_gathered(
    rows: int, block_bytes: int
) -> None:
    x = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    y = np.arange(rows) % 4
    batches = ShuffledBatches(
        x,
        y,
        loss=SoftmaxCrossEntropy,
        classes=4,
        batch_size=4,
        weights=np.linspace(0.5, 1.5, rows, dtype=np.float32),
        block_bytes=block_bytes,
    )
    for _ in range(2):
        parts = [
            (a.copy(), b.copy(), np.copy(c) * len(a))
            for a, b, c in batches.draw_epoch(np.random.default_rng(rows))
        ]
        order = np.random.default_rng(rows).permutation(rows)
        assert (np.concatenate([a for a, _, _ in parts]) == x[order]).all()
        assert (np.concatenate([b for _, b, _ in parts], axis=1).argmax(axis=0) == y[order]).all()
        weights = np.concatenate([c for _, _, c in parts])
        np.testing.assert_allclose(weights, np.linspace(0.5, 1.5, rows)[order], rtol=1e-6)


def test_targets_of_a_regression_are_the_values_themselves() -> None:
    x, y = np.zeros((6, 1)), np.arange(6.0)
    batches = ShuffledBatches(x, y, loss=HalfSquaredError, classes=1, batch_size=4)
    parts = [(t[0].copy(), shares) for _, t, shares in batches.draw_epoch(np.random.default_rng(0))]
    assert sorted(np.concatenate([t for t, _ in parts])) == list(y)
    assert all(shares is None for _, shares in parts)
