"""One training step's forward and backward pass, into buffers that are allocated once."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trainers.network.activations import activation_calls
from trainers.network.arrays import Array, Call, aligned, call, constant
from trainers.network.batchnorm import BatchNorm
from trainers.network.dropout import Dropout
from trainers.network.losses import Loss
from trainers.network.network import Network

__all__ = ["Backprop", "Workspace"]


class Workspace:
    """The memory of a step, for batches of up to `rows` examples: three activations' worth.

    A hidden layer keeps its normalised input and its output until the backward pass has used them.
    A gradient is used up by the layer below, so every second layer has the same buffer for it.
    Dropout has two arrays a layer of its own.

    Args:
        widths: Columns of x, units of each hidden layer, width of the output layer.
        rows: Examples in the largest batch.
        dtype: Of every array here.
    """

    def __init__(self, widths: tuple[int, ...], *, rows: int, dtype: npt.DTypeLike) -> None:
        hidden = widths[1:-1]
        # One row more for the epsilon of batch norm.
        sizes = [rows * units for units in hidden] + [(1 + rows) * units for units in hidden]
        sizes += [rows * max(hidden[i::2]) for i in range(min(2, len(hidden)))]
        self.memory = aligned((sum(sizes),), dtype)  #: all of it, for whoever comes between steps
        ends = np.cumsum(sizes)
        pieces = [self.memory[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        self._inputs, pieces = pieces[: len(hidden)], pieces[len(hidden) :]
        self._outputs, self._gradients = pieces[: len(hidden)], pieces[len(hidden) :]

    def layer(self, index: int, *, rows: int, units: int) -> tuple[Array, Array, Array]:
        """Input, output with a row above it, and gradient of the hidden layer `index`, from 0."""
        return (
            self._inputs[index][: rows * units].reshape(rows, units),
            self._outputs[index][: (1 + rows) * units].reshape(1 + rows, units),
            self._gradients[index % 2][: rows * units].reshape(rows, units),
        )


class Backprop:
    """Loss and gradients of a network for batches of `rows` examples.

    Args:
        network: Read and, in its gradients and batch statistics, written.
        rows: Examples in a batch, >= 2.
        loss: The loss.
        activation: "relu" or "tanh".
        epsilon: Of batch norm.
        dropout: Share of hidden activations dropped, [0, 1).
        workspace: May serve several of these, one after the other; by default a new one.
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
        workspace: Workspace | None = None,
    ) -> None:
        dtype = network.parameters.dtype
        workspace = workspace or Workspace(network.widths, rows=rows, dtype=dtype)
        shares = np.full(rows, 1.0 / rows, dtype)
        self._shares, self._logits = shares, aligned((network.widths[-1], rows), dtype)
        layers = []
        for i, units in enumerate(network.widths[1:-1]):
            buffers = workspace.layer(i, rows=rows, units=units)
            layers.append(_HiddenLayer(network, i + 1, buffers, activation, epsilon, dropout))
        self._first, last = layers[0], layers[-1]
        self._begin = [layer.begin for layer in layers]
        self._dropouts = [layer.dropout for layer in layers if layer.dropout is not None]
        weight, bias = network.parameter["output.weight"], network.parameter["output.bias"]
        self._forward = [*self._first.forward]
        for below, layer in pairwise(layers):
            self._forward += [call(below.output.dot, layer.weight, layer.input), *layer.forward]
        # Outputs lie on their side, see trainers.network.losses; a hidden layer's output is -a. A
        # column is broadcast by a product, which is quicker than NumPy's way.
        self._loss = loss(self._logits)
        biases = self._loss.residual
        self._forward += [
            call(weight.T.dot, last.output.T, self._logits),
            call(bias[:, None].dot, np.ones((1, rows), dtype), biases),
            call(np.subtract, biases, self._logits, self._logits),
        ]
        above = self._loss.residual.T
        self._backward: list[Call] = [
            call(last.output.T.dot, above, network.gradient_of["output.weight"]),
            call(above.T.dot, -shares, network.gradient_of["output.bias"]),
        ]
        for i, layer in reversed(list(enumerate(layers))):
            self._backward += [call(above.dot, weight.T, layer.gradient), *layer.backward]
            if i > 0:
                self._backward.append(
                    call(layers[i - 1].output.T.dot, layer.gradient, layer.weight_gradient)
                )
            above, weight = layer.gradient, layer.weight
        # Gradients of gamma, beta and the bias are means over the batch until here.
        vectors = network.gradient[network.weight_count :]
        self._backward.append(call(np.multiply, vectors, constant(rows, dtype), vectors))

    def begin(self, rng: np.random.Generator) -> None:
        """Begin a run of steps whose dropout draws from `rng`; the workspace may have been used."""
        for dropout in self._dropouts:
            dropout.rng = rng
        for each in self._begin:
            each()

    def __call__(self, x: Array, targets: Array, shares: Array | None = None) -> float:
        """The batch's loss; fills the network's gradients and batch statistics.

        A loss that is not finite is returned at once: the gradients are then not those of this
        batch and must not be used.

        Args:
            x: Shape (rows, D).
            targets: What the loss class makes of the batch, shape (K, rows).
            shares: Each example's share in the loss, shape (rows,); None is 1 / rows.
        """
        first = self._first
        x.dot(first.weight, first.input)
        for each in self._forward:
            each()
        loss = self._loss(targets, self._shares if shares is None else shares)
        if not math.isfinite(loss):
            return loss
        for each in self._backward:
            each()
        x.T.dot(first.gradient, first.weight_gradient)
        return loss


class _HiddenLayer:
    """-activation(batchnorm(a W)), then dropout if there is any, as prepared calls."""

    def __init__(
        self,
        network: Network,
        number: int,
        buffers: tuple[Array, Array, Array],
        activation: str,
        epsilon: float,
        dropout: float,
    ) -> None:
        name, columns = f"layer_{number}", network.units(number)
        self.weight = network.parameter[f"{name}.weight"]
        self.weight_gradient = network.gradient_of[f"{name}.weight"]
        self.input, below, self.gradient = buffers
        self.output = below[1:]
        norm = BatchNorm(
            network.parameter[f"{name}.gamma"],
            network.parameter[f"{name}.beta"],
            gamma_gradient=network.gradient_of[f"{name}.gamma"],
            beta_gradient=network.gradient_of[f"{name}.beta"],
            mean=network.statistics.batch[0, columns],
            spread=network.statistics.batch[1, columns],
            z=self.input,
            out=below,
            gradient=self.gradient,
            negative=number > 1,
            epsilon=epsilon,
        )
        self.begin = norm.begin
        forward, backward = activation_calls(activation, self.output, self.gradient)
        #: From `input` (the product with the weight) to `output`.
        self.forward = [*norm.forward, *forward]
        #: `gradient` turns from that by `output` into that by `input`.
        self.backward = [*backward, *norm.backward]
        self.dropout = None
        if dropout > 0:
            self.dropout = Dropout(self.output, self.gradient, dropped_share=dropout)
            self.forward += self.dropout.forward
            self.backward = [*self.dropout.backward, *self.backward]
            self.output = self.dropout.output
