from __future__ import annotations

import numpy as np
import pytest
import textbook_network as textbook
from hypothesis import given, settings
from hypothesis import strategies as st
from trainer_examples import data_for

from trainers.arrays import Array
from trainers.backprop import Backprop
from trainers.losses import loss_class, network_outputs
from trainers.network import Network


class Case:
    """A random float64 network with one batch, and its loss as a function of all parameters."""

    def __init__(
        self, *, outputs: int, widths: list[int], rows: int, activation: str, dropout: float = 0.0
    ) -> None:
        self.data = data_for(outputs, rows=rows, columns=widths[0], dtype="float64")
        task = self.data.task
        self.network = Network([*widths, network_outputs(task, outputs)], dtype=np.float64)
        rng = np.random.default_rng(len(widths) + rows)
        self.network.parameters[:] = rng.normal(size=self.network.parameters.size)
        self.backprop = Backprop(
            self.network,
            rows=rows,
            loss=loss_class(task, outputs),
            activation=activation,
            epsilon=1e-5,
            dropout=dropout,
        )
        y, shares = self.data.y_train[None], np.full((1, rows), 1 / rows)
        self.targets = loss_class(task, outputs).targets(y, shares, outputs)[0]

    def loss(self) -> float:
        # The same generator each time: dropout drops the same activations.
        self.backprop.begin(np.random.default_rng(5))
        return self.backprop(self.data.x_train, self.targets)

    def gradient(self) -> Array:
        self.loss()
        return self.network.gradient.copy()

    def slope(self, direction: Array, step: float) -> float:
        start = self.network.parameters.copy()
        self.network.parameters[:] = start + step * direction
        above = self.loss()
        self.network.parameters[:] = start - step * direction
        below = self.loss()
        self.network.parameters[:] = start
        return (above - below) / (2 * step)


def relative_error(case: Case, seed: int) -> float:
    gradient = case.gradient()
    noise = np.random.default_rng(seed).normal(size=gradient.size)
    # Half along the gradient, so that the slope is not a small difference of large terms.
    direction = noise / np.linalg.norm(noise) + gradient / np.linalg.norm(gradient)
    exact = gradient @ direction
    # A step can cross the kink of a relu, or be too long for a steep normalisation: the best of
    # three counts.
    errors = [abs(case.slope(direction, step) - exact) for step in (1e-4, 1e-5, 1e-6)]
    return float(min(errors) / abs(exact))


@given(
    outputs=st.integers(1, 4),
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    rows=st.integers(3, 12),
    activation=st.sampled_from(["relu", "tanh"]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_the_gradient_is_the_slope_of_the_loss_in_every_direction(
    outputs: int, widths: list[int], rows: int, activation: str, seed: int
) -> None:
    case = Case(outputs=outputs, widths=widths, rows=rows, activation=activation)
    assert relative_error(case, seed) < 1e-6


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_gradient_is_the_slope_of_the_loss_with_dropout_too(activation: str) -> None:
    case = Case(outputs=3, widths=[5, 8, 6], rows=9, activation=activation, dropout=0.4)
    assert relative_error(case, seed=1) < 1e-6


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_loss_and_gradients_equal_the_textbook_pass(outputs: int, activation: str) -> None:
    case = Case(outputs=outputs, widths=[4, 7, 3], rows=10, activation=activation)
    loss, gradients, _ = textbook.train_pass(
        case.network.parameter,
        case.data.x_train,
        case.data.y_train,
        outputs=outputs,
        activation=activation,
        epsilon=1e-5,
    )
    assert case.loss() == pytest.approx(loss, rel=1e-12)
    for name, wanted in gradients.items():
        np.testing.assert_allclose(
            case.network.gradient_of[name], wanted, rtol=1e-9, atol=1e-12, err_msg=name
        )


def test_a_bias_before_batchnorm_would_change_nothing() -> None:
    rng = np.random.default_rng(4)
    z, bias, gamma, beta = rng.normal(size=(9, 3)), rng.normal(size=3), np.ones(3), np.zeros(3)
    plain, _ = textbook.batchnorm_forward(z, gamma, beta, 1e-5)
    shifted, cache = textbook.batchnorm_forward(z + bias, gamma, beta, 1e-5)
    np.testing.assert_allclose(shifted, plain, atol=1e-12)
    dz, *_ = textbook.batchnorm_backward(rng.normal(size=(9, 3)), cache)
    np.testing.assert_allclose(dz.sum(axis=0), 0.0, atol=1e-12)
