"""A network's parameters, in one flat array under stable names, and predictions after training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trainers.errors import StateError
from trainers.network.activations import ACTIVATIONS
from trainers.network.arrays import Array, allocate
from trainers.network.batchnorm import RunningStatistics
from trainers.network.starts import STARTS

__all__ = ["Network", "fold", "forward", "predict"]


class Network:
    """Parameters, gradients and running statistics of one batch-norm network.

    A hidden layer is activation(batchnorm(a W)); the output layer is a W + b. There is no bias
    before batch norm: subtracting the batch mean would remove it (Ioffe & Szegedy 2015, section
    3.2, arXiv:1502.03167).

    All parameters are views of one flat array, and all gradients of another, with the weight
    matrices first: an optimizer then needs one update for the network, and weight decay one slice.

    Args:
        widths: Columns of x, units of each hidden layer, width of the output layer.
        dtype: Type of every array here.
    """

    def __init__(self, widths: Sequence[int], *, dtype: npt.DTypeLike) -> None:
        self.widths = tuple(widths)
        shapes = _list_shapes(self.widths)
        total = sum(math.prod(shape) for shape in shapes.values())
        self.parameters = allocate((total,), dtype)
        self.gradient = allocate((total,), dtype)
        #: Views of the parameters, by name.
        self.parameter = _make_views(self.parameters, shapes)
        #: Views of the gradient, by the parameter's name.
        self.gradient_of = _make_views(self.gradient, shapes)
        #: Number of elements of the weight matrices, which come first in `parameters`.
        self.weight_count = sum(math.prod(s) for s in shapes.values() if len(s) == 2)
        self.statistics = RunningStatistics(sum(self.widths[1:-1]), dtype)

    @property
    def hidden_layers(self) -> int:
        """Number of layers with batch norm; the layers are numbered from 1."""
        return len(self.widths) - 2

    def draw(self, rng: np.random.Generator, start: str) -> None:
        """Draw the start weights; gamma becomes 1, beta and the output's bias 0.

        Weights are always drawn in float64, so that float32 starts at the same point.

        Args:
            rng: Source of the weights.
            start: One of `trainers.network.starts.STARTS`.

        Raises:
            ConfigError: If the start is unknown.
        """
        draw_matrix = STARTS.find(start)
        for name, view in self.parameter.items():
            if name.endswith(".weight"):
                view[...] = draw_matrix(rng, view.shape)
            else:
                view[...] = 1.0 if name.endswith(".gamma") else 0.0

    def slice_units(self, layer: int) -> slice:
        """Return the slice of the hidden `layer`'s units in the rows of `statistics`."""
        first = sum(self.widths[1:layer])
        return slice(first, first + self.widths[layer])

    def view_weights(self) -> dict[str, Array]:
        """View all that a prediction needs, by the names that a saved state has."""
        named: dict[str, Array] = {}
        for layer in range(1, self.hidden_layers + 1):
            prefix, units = f"layer_{layer}", self.slice_units(layer)
            for part in ("weight", "gamma", "beta"):
                named[f"{prefix}.{part}"] = self.parameter[f"{prefix}.{part}"]
            named[f"{prefix}.running_mean"] = self.statistics.running[0, units]
            named[f"{prefix}.running_variance"] = self.statistics.running[1, units]
        named["output.weight"] = self.parameter["output.weight"]
        named["output.bias"] = self.parameter["output.bias"]
        return named


def fold(weights: Mapping[str, Array], *, epsilon: float) -> list[tuple[Array, Array]]:
    """Fold the running statistics in: each layer becomes one matrix and one bias. Pure.

    With running statistics batch norm is affine, so with s = gamma / sqrt(variance + epsilon)

        gamma (a W - mean) / sqrt(variance + epsilon) + beta = a (W s) + (beta - mean s)

    Args:
        weights: Arrays of a saved state: `layer_1.weight`, `layer_1.gamma`, ..., `output.bias`.
        epsilon: The `batchnorm_epsilon` of training.

    Raises:
        StateError: If a name is missing.
    """
    layers: list[tuple[Array, Array]] = []
    try:
        while f"layer_{len(layers) + 1}.weight" in weights:
            prefix = f"layer_{len(layers) + 1}"
            deviation = np.sqrt(weights[f"{prefix}.running_variance"] + epsilon)
            scale = weights[f"{prefix}.gamma"] / deviation
            shift = weights[f"{prefix}.beta"] - weights[f"{prefix}.running_mean"] * scale
            layers.append((weights[f"{prefix}.weight"] * scale, shift))
        return [*layers, (weights["output.weight"], weights["output.bias"])]
    except KeyError as missing:
        raise StateError(
            f"weights need {missing} for a prediction, got {', '.join(sorted(weights))}"
        ) from None


def forward(
    layers: Sequence[tuple[Array, Array]],
    x: Array,
    *,
    activation: str,
    memory: Array | None = None,
) -> Array:
    """Compute the outputs (N, K) of folded `layers` for x, shape (N, D).

    Args:
        layers: Matrix and bias of each layer, as `fold` returns them.
        x: Features; not changed.
        activation: One of ACTIVATIONS.
        memory: Flat array of at least 2 N times the widest layer, for the outputs of all layers. By
            default new memory.

    Raises:
        ConfigError: If the activation is unknown.
    """
    activate = ACTIVATIONS.find(activation).apply
    if memory is None:
        memory = np.empty(2 * len(x) * max(weight.shape[1] for weight, _ in layers), x.dtype)
    half, a = len(memory) // 2, x
    for i, (weight, bias) in enumerate(layers):
        room = memory[half * (i % 2) :][: len(x) * weight.shape[1]]
        a = np.dot(a, weight, out=room.reshape(len(x), weight.shape[1]))
        a += bias
        if i < len(layers) - 1:
            activate(a)
    return a


def predict(weights: Mapping[str, Array], x: Array, *, activation: str, epsilon: float) -> Array:
    """Compute logits or regression outputs, (N, K), with test-time statistics. Pure.

    An example's outputs do not depend on the other rows of x, save the last digits: BLAS adds in
    another order for another number of rows. Logits turn into probabilities with
    `trainers.network.losses.probabilities`; a regression output is in standardised units.

    Args:
        weights: Arrays of a saved state, see `fold`; other names are ignored.
        x: Shape (N, D), N >= 0, prepared as the training data was.
        activation: One of ACTIVATIONS, as in training.
        epsilon: The `batchnorm_epsilon` of training.

    Raises:
        ConfigError: If the activation is unknown.
        StateError: If a weight is missing or x does not fit the first one.
    """
    layers = fold(weights, epsilon=epsilon)
    if x.ndim != 2 or x.shape[1] != len(layers[0][0]):
        raise StateError(f"x must have shape (N, {len(layers[0][0])}), got {x.shape}")
    return forward(layers, np.asarray(x, layers[0][0].dtype), activation=activation)


def _list_shapes(widths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    hidden = range(1, len(widths) - 1)
    names = [f"layer_{i}.weight" for i in hidden] + ["output.weight"]
    shapes: dict[str, tuple[int, ...]] = dict(zip(names, pairwise(widths), strict=True))
    for i in hidden:
        shapes[f"layer_{i}.gamma"] = shapes[f"layer_{i}.beta"] = (widths[i],)
    shapes["output.bias"] = (widths[-1],)
    return shapes


def _make_views(flat: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    views, first = {}, 0
    for name, shape in shapes.items():
        last = first + math.prod(shape)
        views[name], first = flat[first:last].reshape(shape), last
    return views
