"""One training step's forward and backward pass, into buffers that are allocated once."""

from __future__ import annotations

import math

import numpy as np

from trainers.activations import ACTIVATIONS
from trainers.arrays import Array
from trainers.batchnorm import BatchNorm
from trainers.dropout import Dropout
from trainers.losses import Loss
from trainers.network import Network

__all__ = ["Backprop"]


class Backprop:
    """Loss and gradients of a network for batches of `rows` examples.

    Args:
        network: Read and, in its gradients and batch statistics, written.
        rows: Examples in a batch, >= 2.
        loss: The loss for batches of that many rows.
        activation: "relu" or "tanh".
        epsilon: Of batch norm.
        dropout: Share of hidden activations dropped, [0, 1).
    """

    def __init__(
        self,
        network: Network,
        *,
        rows: int,
        loss: type[Loss],
        activation: str,
        epsilon: float,
        dropout: float,
    ) -> None:
        dtype = network.parameters.dtype
        self._layers = [
            _HiddenLayer(
                network, i, rows=rows, activation=activation, epsilon=epsilon, dropout=dropout
            )
            for i in range(1, network.hidden_layers + 1)
        ]
        self._loss = loss(rows, network.widths[-1], dtype)
        self._weight = network.parameter["output.weight"]
        self._bias = network.parameter["output.bias"]
        self._weight_gradient = network.gradient_of["output.weight"]
        self._bias_gradient = network.gradient_of["output.bias"]
        self._logits = np.empty((rows, network.widths[-1]), dtype)
        self._ones = np.ones(rows, dtype)

    def __call__(self, x: Array, targets: Array, rng: np.random.Generator) -> float:
        """The batch's mean loss; fills the network's gradients and batch statistics.

        A loss that is not finite is returned at once: the gradients are then not those of this
        batch and must not be used.

        Args:
            x: Shape (rows, D).
            targets: Shape (rows, K).
            rng: For dropout; not used without it.
        """
        a = x
        for layer in self._layers:
            a = layer.forward(a, rng)
        np.dot(a, self._weight, out=self._logits)
        np.add(self._logits, self._bias, out=self._logits)
        loss = self._loss(self._logits, targets)
        if not math.isfinite(loss):
            return loss
        np.dot(a.T, self._logits, out=self._weight_gradient)
        np.dot(self._ones, self._logits, out=self._bias_gradient)
        above, weight = self._logits, self._weight
        for layer in reversed(self._layers):
            np.dot(above, weight.T, out=layer.gradient)
            layer.backward()
            above, weight = layer.gradient, layer.weight
        return loss


class _HiddenLayer:
    """activation(batchnorm(a W)), then dropout if there is any."""

    def __init__(
        self,
        network: Network,
        number: int,
        *,
        rows: int,
        activation: str,
        epsilon: float,
        dropout: float,
    ) -> None:
        dtype, units = network.parameters.dtype, network.widths[number]
        name, columns = f"layer_{number}", network.units(number)
        self.weight = network.parameter[f"{name}.weight"]
        self._weight_gradient = network.gradient_of[f"{name}.weight"]
        self._norm = BatchNorm(
            network.parameter[f"{name}.gamma"],
            network.parameter[f"{name}.beta"],
            gamma_gradient=network.gradient_of[f"{name}.gamma"],
            beta_gradient=network.gradient_of[f"{name}.beta"],
            mean=network.statistics.batch[0, columns],
            variance=network.statistics.batch[1, columns],
            rows=rows,
            epsilon=epsilon,
        )
        self._activation = ACTIVATIONS[activation](rows, units, dtype)
        self._dropout = (
            Dropout(rows, units, dropped_share=dropout, dtype=dtype) if dropout > 0 else None
        )
        self._input = np.empty((rows, len(self.weight)), dtype)
        self._z = np.empty((rows, units), dtype)
        self._a = np.empty((rows, units), dtype)
        self.gradient = np.empty((rows, units), dtype)  #: by the output, then by a W

    def forward(self, a: Array, rng: np.random.Generator) -> Array:
        self._input = a
        np.dot(a, self.weight, out=self._z)
        self._norm.forward(self._z, self._a)
        self._activation.forward(self._a)
        return self._a if self._dropout is None else self._dropout.forward(self._a, rng)

    def backward(self) -> None:
        """Turn `gradient` from that by the output into that by a W; fill the parameters' own."""
        if self._dropout is not None:
            self._dropout.backward(self.gradient)
        self._activation.backward(self._a, self.gradient)
        # The activation has been used for the last time: its buffer is the scratch from here on.
        self._norm.backward(self._z, self.gradient, self._a)
        np.dot(self._input.T, self.gradient, out=self._weight_gradient)
