from __future__ import annotations

import numpy as np
import pytest
import textbook_network as textbook
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.arrays import Array
from trainers.losses import (
    BinaryCrossEntropy,
    SoftmaxCrossEntropy,
    log_probabilities,
    loss_class,
    network_outputs,
    probabilities,
    target_rows,
)


def targets_for(y: Array, outputs: int) -> Array:
    return y[:, None] if outputs == 1 else target_rows(outputs, y.dtype)[y.astype(int)]


@given(outputs=st.integers(1, 6), rows=st.integers(1, 8), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_loss_and_its_gradient_equal_the_textbook(outputs: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    task = "regression" if outputs == 1 else "classification"
    width = network_outputs(task, outputs)
    p = rng.normal(0.0, 3.0, size=(rows, width))
    y = rng.normal(size=rows) if outputs == 1 else rng.integers(0, outputs, rows).astype(float)
    wanted_loss, wanted_gradient = textbook.loss_and_output_gradient(p, y, outputs)
    loss = loss_class(task, outputs)(rows, width, np.float64)(p, targets_for(y, outputs))
    assert loss == pytest.approx(wanted_loss, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(p, wanted_gradient, rtol=1e-9, atol=1e-12)


def test_cross_entropy_stays_finite_for_logits_whose_exponential_overflows() -> None:
    softmax = np.array([[1000.0, 0.0, -1000.0]])
    assert SoftmaxCrossEntropy(1, 3, np.float64)(softmax, np.array([[0.0, 1.0, 0.0]])) == 1000.0
    np.testing.assert_allclose(softmax, [[1.0, -1.0, 0.0]])
    binary = np.array([[1000.0], [-1000.0]])
    assert BinaryCrossEntropy(2, 1, np.float64)(binary, np.array([[0.0], [0.0]])) == 500.0
    np.testing.assert_allclose(binary, [[0.5], [0.0]])


@given(outputs=st.integers(2, 6), rows=st.integers(1, 8), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_probabilities_are_positive_and_each_row_sums_to_one(
    outputs: int, rows: int, seed: int
) -> None:
    width = network_outputs("classification", outputs)
    logits = np.random.default_rng(seed).normal(0.0, 5.0, size=(rows, width))
    p = probabilities(logits, outputs)
    assert p.shape == (rows, outputs)
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)


def test_one_logit_gives_the_sigmoid_as_the_second_column() -> None:
    np.testing.assert_allclose(
        probabilities(np.array([[0.0], [2.0]]), 2),
        [[0.5, 0.5], [1 / (1 + np.exp(2.0)), 1 / (1 + np.exp(-2.0))]],
    )


def test_log_probabilities_of_certain_errors_are_not_clipped() -> None:
    assert log_probabilities(np.array([[800.0]]), 2)[0, 0] == -800.0
    assert log_probabilities(np.array([[0.0, 800.0, 0.0]]), 3)[0, 0] == -800.0
