from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import textbook_network as textbook
from hypothesis import given, settings
from hypothesis import strategies as st
from trainer_examples import data_for

from trainers.network.arrays import Array
from trainers.network.backprop import Backprop
from trainers.network.losses import choose_loss, count_network_outputs
from trainers.network.network import Network


class Case:
    """A random float64 network with one batch, and its loss as a function of all parameters."""

    def __init__(
        self,
        *,
        outputs: int,
        widths: list[int],
        rows: int,
        activation: str,
        dropout: float = 0.0,
        weighted: bool = False,
    ) -> None:
        self.data = data_for(outputs, rows=rows, columns=widths[0], dtype="float64")
        task = self.data.task
        self.network = Network([*widths, count_network_outputs(task, outputs)], dtype=np.float64)
        rng = np.random.default_rng(len(widths) + rows)
        self.network.parameters[:] = rng.normal(size=self.network.parameters.size)
        self.backprop = Backprop(
            self.network,
            rows=rows,
            loss=choose_loss(task, outputs),
            activation=activation,
            epsilon=1e-5,
            dropout=dropout,
        )
        self.shares = rng.uniform(0.0, 2.0 / rows, rows) if weighted else np.full(rows, 1 / rows)
        y = self.data.y_train[None]
        self.targets = choose_loss(task, outputs).make_targets(y, self.shares[None], outputs)[0]

    def loss(self) -> float:
        # The same generator each time: dropout drops the same activations.
        self.backprop.begin(np.random.default_rng(5))
        return self.backprop(self.data.x_train, self.targets, self.shares)

    def gradient(self) -> Array:
        self.loss()
        return self.network.gradient.copy()

    def slope(self, direction: Array, step: float) -> float:
        """Central differences of fourth order: their error is of the order step**4."""
        start = self.network.parameters.copy()

        def loss_at(steps: float) -> float:
            self.network.parameters[:] = start + steps * step * direction
            return self.loss()

        near, far = loss_at(1) - loss_at(-1), loss_at(2) - loss_at(-2)
        self.network.parameters[:] = start
        return (8 * near - far) / (12 * step)


def relative_error(case: Case, seed: int) -> float:
    gradient = case.gradient()
    noise = np.random.default_rng(seed).normal(size=gradient.size)
    # Half along the gradient, so that the slope is not a small difference of large terms.
    direction = noise / np.linalg.norm(noise) + gradient / np.linalg.norm(gradient)
    exact = gradient @ direction
    # A step can cross the kink of a relu, or be too long for a steep one: the best counts.
    errors = [abs(case.slope(direction, 10.0**-k) - exact) for k in range(3, 9)]
    return float(min(errors) / abs(exact))


NETWORKS = given(
    outputs=st.integers(1, 5),
    widths=st.lists(st.integers(1, 7), min_size=2, max_size=5),
    rows=st.integers(3, 24),
    activation=st.sampled_from(["relu", "tanh"]),
    dropout=st.sampled_from([0.0, 0.0, 0.4]),
    weighted=st.booleans(),
    seed=st.integers(0, 2**16),
)


def check_the_slope(seed: int, **sizes: Any) -> None:
    case = Case(**sizes)
    assert relative_error(case, seed) < 1e-6


@NETWORKS
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_gradient_is_the_slope_of_the_loss_in_every_direction(**example: Any) -> None:
    check_the_slope(**example)


@pytest.mark.slow
@NETWORKS
@settings(max_examples=4000, deadline=None, derandomize=True)
def test_the_gradient_is_the_slope_of_the_loss_in_every_direction_of_thousands_of_networks(
    **example: Any,
) -> None:
    check_the_slope(**example)


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
