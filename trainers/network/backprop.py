"""One training step's forward and backward pass, into buffers that are allocated once."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trainers.network.activations import ACTIVATIONS
from trainers.network.arrays import Array, Call, allocate, make_constant, prepare_call
from trainers.network.batchnorm import BatchNorm
from trainers.network.dropout import Dropout
from trainers.network.losses import Loss
from trainers.network.network import Network

__all__ = ["Backprop", "Workspace"]


class Workspace:
    """The memory of a step, for batches of up to `rows` examples: three activations' worth.

    A hidden layer keeps its normalised input and its output until the backward pass has used them.
    A gradient is used up by the layer below, so every second layer has the same buffer for it.
    Dropout allocates two arrays more for each layer.

    Args:
        widths: Columns of x, units of each hidden layer, width of the output layer.
        rows: Examples in the largest batch.
        dtype: Type of every array here.
    """

    def __init__(self, widths: tuple[int, ...], *, rows: int, dtype: npt.DTypeLike) -> None:
        hidden = widths[1:-1]
        # One row more for the epsilon of batch norm.
        sizes = [rows * units for units in hidden] + [(1 + rows) * units for units in hidden]
        sizes += [rows * max(hidden[i::2]) for i in range(min(2, len(hidden)))]
        #: All of the memory, free for other uses between steps.
        self.memory = allocate((sum(sizes),), dtype)
        ends = np.cumsum(sizes)
        pieces = [self.memory[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        self._inputs, pieces = pieces[: len(hidden)], pieces[len(hidden) :]
        self._outputs, self._gradients = pieces[: len(hidden)], pieces[len(hidden) :]

    def view_layer(self, index: int, *, rows: int, units: int) -> tuple[Array, Array, Array]:
        """View the buffers of the hidden layer `index`, from 0: input, output, gradient.

        The output has one row more, above the others.
        """
        return (
            self._inputs[index][: rows * units].reshape(rows, units),
            self._outputs[index][: (1 + rows) * units].reshape(1 + rows, units),
            self._gradients[index % 2][: rows * units].reshape(rows, units),
        )


class Backprop:
    """Loss and gradients of a network for batches of `rows` examples.

    Args:
        network: Parameters are read, gradients and batch statistics are written.
        rows: Examples in a batch, >= 2.
        loss: Class of the loss.
        activation: One of `trainers.network.activations.ACTIVATIONS`.
        epsilon: Added to the variance in batch norm.
        dropout: Share of hidden activations dropped, [0, 1).
        workspace: Buffers, which several objects can use one after the other; by default new ones.
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
        self._shares, self._logits = shares, allocate((network.widths[-1], rows), dtype)
        layers = []
        for i, units in enumerate(network.widths[1:-1]):
            buffers = workspace.view_layer(i, rows=rows, units=units)
            layers.append(_HiddenLayer(network, i + 1, buffers, activation, epsilon, dropout))
        self._first, last = layers[0], layers[-1]
        self._begin = [layer.begin for layer in layers]
        self._dropouts = [layer.dropout for layer in layers if layer.dropout is not None]
        weight, bias = network.parameter["output.weight"], network.parameter["output.bias"]
        self._forward = [*self._first.forward]
        for below, layer in pairwise(layers):
            product = prepare_call(below.output.dot, layer.weight, layer.input)
            self._forward += [product, *layer.forward]
        # Outputs lie on their side, see trainers.network.losses; a hidden layer's output is -a. A
        # column is broadcast by a product, which is quicker than NumPy's way.
        self._loss = loss(self._logits)
        biases = self._loss.residual
        self._forward += [
            prepare_call(weight.T.dot, last.output.T, self._logits),
            prepare_call(bias[:, None].dot, np.ones((1, rows), dtype), biases),
            prepare_call(np.subtract, biases, self._logits, self._logits),
        ]
        above = self._loss.residual.T
        self._backward: list[Call] = [
            prepare_call(last.output.T.dot, above, network.gradient_of["output.weight"]),
            prepare_call(above.T.dot, -shares, network.gradient_of["output.bias"]),
        ]
        for i, layer in reversed(list(enumerate(layers))):
            self._backward += [prepare_call(above.dot, weight.T, layer.gradient), *layer.backward]
            if i > 0:
                self._backward.append(
                    prepare_call(layers[i - 1].output.T.dot, layer.gradient, layer.weight_gradient)
                )
            above, weight = layer.gradient, layer.weight
        # Gradients of gamma, beta and the bias are means over the batch until here.
        vectors = network.gradient[network.weight_count :]
        count = make_constant(rows, dtype)
        self._backward.append(prepare_call(np.multiply, vectors, count, vectors))

    def begin(self, rng: np.random.Generator) -> None:
        """Begin a run of steps whose dropout draws from `rng`.

        Needed after another use of the workspace, too.
        """
        for dropout in self._dropouts:
            dropout.rng = rng
        for run in self._begin:
            run()

    def __call__(self, x: Array, targets: Array, shares: Array | None = None) -> float:
        """Compute the batch's loss; fill the network's gradients and batch statistics.

        A loss that is not finite is returned at once: the gradients are then not those of this
        batch and must not be used.

        Args:
            x: Shape (rows, D).
            targets: Targets as the loss class makes them, shape (K, rows).
            shares: Each example's share in the loss, shape (rows,); None is 1 / rows.
        """
        first = self._first
        x.dot(first.weight, first.input)
        for run in self._forward:
            run()
        loss = self._loss(targets, self._shares if shares is None else shares)
        if not math.isfinite(loss):
            return loss
        for run in self._backward:
            run()
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
        name, columns = f"layer_{number}", network.slice_units(number)
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
            shifted_variance=network.statistics.batch[1, columns],
            z=self.input,
            out=below,
            gradient=self.gradient,
            negative=number > 1,
            epsilon=epsilon,
        )
        self.begin = norm.begin
        forward, backward = ACTIVATIONS.find(activation).prepare(self.output, self.gradient)
        #: Calls from `input` (the product with the weight) to `output`.
        self.forward = [*norm.forward, *forward]
        #: Calls that turn `gradient` from the gradient by `output` into that by `input`.
        self.backward = [*backward, *norm.backward]
        self.dropout = None
        if dropout > 0:
            self.dropout = Dropout(self.output, self.gradient, dropped_share=dropout)
            self.forward += self.dropout.forward
            self.backward = [*self.dropout.backward, *self.backward]
            self.output = self.dropout.output
