"""Optimizers over one flat parameter array, and the registry of their names.

An optimizer overwrites `parameters` and uses `gradient` as scratch: both are flat and cover the
whole network, so an update costs a handful of NumPy calls however many layers there are. Large
networks are updated block by block, so that what a block's calls hand on to each other stays in a
cache, and so that scratch is small.

A new optimizer is one class here, with its numbers in the decorator. `pipelines/runs/default.yaml`
says which of them a search tries, and in which ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from trainers.hyperparameters import Choice, Number
from trainers.network.arrays import (
    Array,
    Call,
    State,
    allocate,
    make_constant,
    prepare_call,
)
from trainers.training.state_values import read_array, read_number

__all__ = [
    "OPTIMIZERS",
    "Adam",
    "Momentum",
    "Optimizer",
    "RmsProp",
    "Sgd",
    "make_optimizer",
    "prepare_weight_decay",
]

#: Elements of a block. With 32 MB of third-level cache 32,768 costs 1-3% more than this from
#: 100,000 to two million parameters; beyond that the whole network no longer fits.
_BLOCK = 524_288
#: Elements of a block that needs scratch.
_SCRATCH = 32_768


def prepare_weight_decay(gradient: Array, weights: Array, weight_decay: float) -> list[Call]:
    """Prepare the calls that add the gradient of weight_decay / 2 |weights|**2 to `gradient`."""
    share, scratch = make_constant(weight_decay, gradient.dtype), _allocate_scratch(gradient)
    return _prepare_in_blocks(
        lambda g, w, t: [prepare_call(np.multiply, w, share, t), prepare_call(np.add, g, t, g)],
        gradient,
        weights,
        scratch=scratch,
    )


class Optimizer:
    """An update rule as prepared calls, with the arrays that it remembers.

    Args:
        parameters: Flat; updated in place.
        gradient: Flat; used as scratch.
        memory_names: Names, in a state, of the arrays that the rule keeps from step to step; each
            has the shape and dtype of `parameters`.
    """

    def __init__(self, parameters: Array, gradient: Array, *memory_names: str) -> None:
        self._parameters, self._gradient = parameters, gradient
        self._rate = make_constant(0.0, parameters.dtype)
        self._memory = {name: allocate(parameters.shape, parameters.dtype) for name in memory_names}
        self._calls: list[Call] = []  #: calls of a step; the rule sets them, with `_prepare`

    def step(self, learning_rate: float) -> None:
        """Update the parameters in place; the gradient's content is lost."""
        self._rate.fill(learning_rate)
        for run in self._calls:
            run()

    def _prepare(
        self, update: Callable[..., list[Call]], *, scratch: Array | None = None
    ) -> list[Call]:
        """Prepare `update(parameters, gradient, *memory, scratch if any)` for each block."""
        flat = (self._parameters, self._gradient, *self._memory.values())
        return _prepare_in_blocks(update, *flat, scratch=scratch)

    def state(self) -> State:
        """Copy all that the next step depends on, except parameters and gradient."""
        return {name: array.copy() for name, array in self._memory.items()}

    def load(self, state: Mapping[str, object]) -> None:
        """Continue from a `state`.

        Raises:
            StateError: If an array is missing or has another shape or dtype; nothing is changed.
        """
        arrays = [read_array(state, name, example=a) for name, a in self._memory.items()]
        for array, loaded in zip(self._memory.values(), arrays, strict=True):
            np.copyto(array, loaded)


#: The optimizers that a configuration can name. A rule's class takes parameters, gradient, and the
#: numbers of its entry as keyword arguments.
OPTIMIZERS: Choice[Callable[..., Optimizer]] = Choice("optimizer", default="adam")

#: Number added to a root, which keeps the quotient finite where gradients are 0.
_EPSILON = Number(default=1e-8, least=1e-30, below=1e30, argument="epsilon")


def make_optimizer(
    name: str, numbers: Mapping[str, float], parameters: Array, gradient: Array
) -> Optimizer:
    """Make an optimizer with its memory empty.

    Args:
        name: One of OPTIMIZERS.
        numbers: Values of the numbers that optimizers have, by hyperparameter.
        parameters: Flat; updated in place by the optimizer.
        gradient: Flat; used as scratch by the optimizer.

    Raises:
        ConfigError: If the name is unknown.
    """
    rule = OPTIMIZERS.find(name)
    return rule(parameters, gradient, **OPTIMIZERS.select_arguments(name, numbers))


@OPTIMIZERS.add("sgd")
class Sgd(Optimizer):
    """p = p - rate g."""

    def __init__(self, parameters: Array, gradient: Array) -> None:
        super().__init__(parameters, gradient)
        rate = self._rate
        self._calls = self._prepare(
            lambda p, g: [prepare_call(np.multiply, g, rate, g), prepare_call(np.subtract, p, g, p)]
        )


@OPTIMIZERS.add("momentum", momentum_beta=Number(default=0.9, below=1.0, argument="beta"))
class Momentum(Optimizer):
    """v = beta v + (1 - beta) g;  p = p - rate v.

    beta is the share of the OLD velocity in the new one. The velocity is the exponentially
    weighted mean of the gradients, as in Ng's lectures (course 2, week 2). PyTorch's SGD leaves out
    the factor 1 - beta: its rate is this one's times 1 - beta.
    """

    def __init__(self, parameters: Array, gradient: Array, *, beta: float) -> None:
        super().__init__(parameters, gradient, "optimizer.velocity")
        rate, dtype = self._rate, gradient.dtype
        old, new = make_constant(beta, dtype), make_constant(1.0 - beta, dtype)
        self._calls = self._prepare(
            lambda p, g, v: [
                prepare_call(np.multiply, v, old, v),
                prepare_call(np.multiply, g, new, g),
                prepare_call(np.add, v, g, v),
                prepare_call(np.multiply, v, rate, g),
                prepare_call(np.subtract, p, g, p),
            ],
        )


@OPTIMIZERS.add(
    "rmsprop",
    rmsprop_decay=Number(default=0.9, below=1.0, argument="decay"),
    rmsprop_epsilon=_EPSILON,
)
class RmsProp(Optimizer):
    """s = decay s + (1 - decay) g**2;  p = p - rate g / (sqrt(s) + epsilon).

    decay is the share of the OLD mean square in the new one. Tieleman & Hinton 2012, lecture 6.5 of
    "Neural Networks for Machine Learning"; epsilon stands outside the root, as in PyTorch.
    """

    def __init__(self, parameters: Array, gradient: Array, *, decay: float, epsilon: float) -> None:
        super().__init__(parameters, gradient, "optimizer.square")
        rate, dtype = self._rate, gradient.dtype
        old, new, offset = (make_constant(value, dtype) for value in (decay, 1.0 - decay, epsilon))
        self._calls = self._prepare(
            lambda p, g, s, t: [
                prepare_call(np.square, g, t),
                prepare_call(np.multiply, t, new, t),
                prepare_call(np.multiply, s, old, s),
                prepare_call(np.add, s, t, s),
                prepare_call(np.sqrt, s, t),
                prepare_call(np.add, t, offset, t),
                prepare_call(np.divide, g, t, g),
                prepare_call(np.multiply, g, rate, g),
                prepare_call(np.subtract, p, g, p),
            ],
            scratch=_allocate_scratch(gradient),
        )


@OPTIMIZERS.add(
    "adam",
    adam_beta1=Number(default=0.9, below=1.0, argument="beta1"),
    adam_beta2=Number(default=0.999, below=1.0, argument="beta2"),
    adam_epsilon=_EPSILON,
)
class Adam(Optimizer):
    """Adam with bias correction; Kingma & Ba 2015, Algorithm 1, arXiv:1412.6980.

    beta1 is the share of the OLD mean gradient in the new one, beta2 that of the OLD mean square.

    The paper's m, divided by 1 - beta1, is the weighted SUM m = beta1 m + g; the weights in it add
    up to a = beta1 a + 1. The bias-corrected mean of the paper is then simply m / a: a is
    (1 - beta1**t) / (1 - beta1) while beta1 stays, and it stays right when beta1 is adjusted
    between epochs. Likewise v = beta2 v + g**2 and b. The update

        p = p - rate (m / a) / (sqrt(v / b) + epsilon)
          = p - (rate sqrt(b) / a) m / (sqrt(v) + epsilon sqrt(b))

    needs ten passes instead of the textbook's fourteen, and no scratch but the gradient.
    """

    def __init__(
        self, parameters: Array, gradient: Array, *, beta1: float, beta2: float, epsilon: float
    ) -> None:
        super().__init__(parameters, gradient, "optimizer.sum", "optimizer.square_sum")
        self._sum_weight = 0.0
        self._square_weight = 0.0
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon
        rate, dtype = self._rate, gradient.dtype
        self._offset = offset = make_constant(0.0, dtype)
        old, old_square = make_constant(beta1, dtype), make_constant(beta2, dtype)
        self._calls = self._prepare(
            lambda p, g, m, v: [
                prepare_call(np.multiply, m, old, m),
                prepare_call(np.add, m, g, m),
                prepare_call(np.square, g, g),
                prepare_call(np.multiply, v, old_square, v),
                prepare_call(np.add, v, g, v),
                prepare_call(np.sqrt, v, g),
                prepare_call(np.add, g, offset, g),
                prepare_call(np.divide, m, g, g),
                prepare_call(np.multiply, g, rate, g),
                prepare_call(np.subtract, p, g, p),
            ],
        )

    def step(self, learning_rate: float) -> None:
        """Update the parameters in place; the gradient's content is lost."""
        self._sum_weight = self._beta1 * self._sum_weight + 1.0
        self._square_weight = self._beta2 * self._square_weight + 1.0
        root = math.sqrt(self._square_weight)
        self._offset.fill(self._epsilon * root)
        super().step(learning_rate * root / self._sum_weight)

    def state(self) -> State:
        """Copy both weighted sums and the weights in them."""
        return {
            **super().state(),
            "optimizer.sum_weight": self._sum_weight,
            "optimizer.square_weight": self._square_weight,
        }

    def load(self, state: Mapping[str, object]) -> None:
        """Continue from a `state`; see `Optimizer.load`."""
        weights = (
            read_number(state, "optimizer.sum_weight"),
            read_number(state, "optimizer.square_weight"),
        )
        super().load(state)
        self._sum_weight, self._square_weight = weights


def _prepare_in_blocks(
    update: Callable[..., list[Call]], *arrays: Array, scratch: Array | None = None
) -> list[Call]:
    """Prepare `update` for each block of the flat `arrays`, which all have one length."""
    size, calls = len(arrays[0]), []
    block_size = _BLOCK if scratch is None else _SCRATCH
    # Blocks of one length: a short last one would cost as many calls as a full one.
    length = math.ceil(size / max(round(size / block_size), 1))
    for first in range(0, size, length):
        block = [array[first : first + length] for array in arrays]
        calls += update(*block, *([] if scratch is None else [scratch[: len(block[0])]]))
    return calls


def _allocate_scratch(array: Array) -> Array:
    """Allocate room for one block."""
    return allocate((min(len(array), 2 * _SCRATCH),), array.dtype)
