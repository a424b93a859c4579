"""Optimizers over one flat parameter array.

An optimizer overwrites `parameters` and uses `gradient` as scratch: both are flat and cover the
whole network, so an update costs a handful of NumPy calls however many layers there are. Large
networks are updated block by block, so that what a block's calls hand on to each other stays in a
cache, and so that scratch is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from trainers.network.arrays import Array, Call, State, aligned, call, constant
from trainers.training import saved
from trainers.training.settings import Settings

__all__ = [
    "Adam",
    "Momentum",
    "Optimizer",
    "RmsProp",
    "Sgd",
    "make_optimizer",
    "weight_decay_calls",
]

#: Elements of a block. With 32 MB of third-level cache 32,768 costs 1-3% more than this from
#: 100,000 to two million parameters; beyond that the whole network no longer fits.
_BLOCK = 524_288
#: Elements of a block that needs scratch.
_SCRATCH = 32_768


def weight_decay_calls(gradient: Array, weights: Array, weight_decay: float) -> list[Call]:
    """Add the gradient of weight_decay / 2 |weights|**2 to `gradient`, in place, prepared."""
    share, scratch = constant(weight_decay, gradient.dtype), _scratch(gradient)
    return _in_blocks(
        lambda g, w, t: [call(np.multiply, w, share, t), call(np.add, g, t, g)],
        gradient,
        weights,
        scratch=scratch,
    )


class Optimizer:
    """An update rule as prepared calls, with the arrays that it remembers.

    Args:
        parameters: Flat; updated in place.
        gradient: Flat; used as scratch.
        remembered: Names, in a state, of the arrays like `parameters` that the rule keeps.
    """

    def __init__(self, parameters: Array, gradient: Array, *remembered: str) -> None:
        self._parameters, self._gradient = parameters, gradient
        self._rate = constant(0.0, parameters.dtype)
        self._memory = {name: aligned(parameters.shape, parameters.dtype) for name in remembered}
        self._calls: list[Call] = []  #: to be set by the rule, with `_prepared`

    def step(self, learning_rate: float) -> None:
        """Update the parameters in place; the gradient's content is lost."""
        self._rate.fill(learning_rate)
        for each in self._calls:
            each()

    def _prepared(
        self, update: Callable[..., list[Call]], *, scratch: Array | None = None
    ) -> list[Call]:
        """The calls of `update(parameters, gradient, *memory, scratch if any)`, in blocks."""
        flat = (self._parameters, self._gradient, *self._memory.values())
        return _in_blocks(update, *flat, scratch=scratch)

    def state(self) -> State:
        """A copy of all that the next step depends on, except parameters and gradient."""
        return {name: array.copy() for name, array in self._memory.items()}

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from a `state`."""
        arrays = [saved.array(state, name, like=array) for name, array in self._memory.items()]
        for array, loaded in zip(self._memory.values(), arrays, strict=True):
            np.copyto(array, loaded)


class Sgd(Optimizer):
    """p = p - rate g."""

    def __init__(self, parameters: Array, gradient: Array) -> None:
        super().__init__(parameters, gradient)
        rate = self._rate
        self._calls = self._prepared(
            lambda p, g: [call(np.multiply, g, rate, g), call(np.subtract, p, g, p)]
        )


class Momentum(Optimizer):
    """v = beta v + (1 - beta) g;  p = p - rate v.

    The exponentially weighted mean of the gradients, as in Ng's lectures (course 2, week 2).
    PyTorch's SGD leaves out the factor 1 - beta: its rate is this one's times 1 - beta.
    """

    def __init__(self, parameters: Array, gradient: Array, *, beta: float) -> None:
        super().__init__(parameters, gradient, "optimizer.velocity")
        rate, dtype = self._rate, gradient.dtype
        old, new = constant(beta, dtype), constant(1.0 - beta, dtype)
        self._calls = self._prepared(
            lambda p, g, v: [
                call(np.multiply, v, old, v),
                call(np.multiply, g, new, g),
                call(np.add, v, g, v),
                call(np.multiply, v, rate, g),
                call(np.subtract, p, g, p),
            ],
        )


class RmsProp(Optimizer):
    """s = decay s + (1 - decay) g**2;  p = p - rate g / (sqrt(s) + epsilon).

    Tieleman & Hinton 2012, lecture 6.5 of "Neural Networks for Machine Learning"; epsilon stands
    outside the root, as in PyTorch.
    """

    def __init__(self, parameters: Array, gradient: Array, *, decay: float, epsilon: float) -> None:
        super().__init__(parameters, gradient, "optimizer.square")
        rate, dtype = self._rate, gradient.dtype
        old, new, added = (constant(value, dtype) for value in (decay, 1.0 - decay, epsilon))
        self._calls = self._prepared(
            lambda p, g, s, t: [
                call(np.square, g, t),
                call(np.multiply, t, new, t),
                call(np.multiply, s, old, s),
                call(np.add, s, t, s),
                call(np.sqrt, s, t),
                call(np.add, t, added, t),
                call(np.divide, g, t, g),
                call(np.multiply, g, rate, g),
                call(np.subtract, p, g, p),
            ],
            scratch=_scratch(gradient),
        )


class Adam(Optimizer):
    """Adam with bias correction; Kingma & Ba 2015, Algorithm 1, arXiv:1412.6980.

    The paper's m, divided by 1 - beta1, is the weighted SUM m = beta1 m + g; the weights in it add
    up to a = beta1 a + 1. The bias-corrected mean of the paper is then simply m / a: a is
    (1 - beta1**t) / (1 - beta1) while beta1 stays, and it stays right when beta1 is adjusted
    between epochs. The same with v = beta2 v + g**2 and b. The update

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
        self._added = added = constant(0.0, dtype)
        kept, square_kept = constant(beta1, dtype), constant(beta2, dtype)
        self._calls = self._prepared(
            lambda p, g, m, v: [
                call(np.multiply, m, kept, m),
                call(np.add, m, g, m),
                call(np.square, g, g),
                call(np.multiply, v, square_kept, v),
                call(np.add, v, g, v),
                call(np.sqrt, v, g),
                call(np.add, g, added, g),
                call(np.divide, m, g, g),
                call(np.multiply, g, rate, g),
                call(np.subtract, p, g, p),
            ],
        )

    def step(self, learning_rate: float) -> None:
        """Update the parameters in place; the gradient's content is lost."""
        self._sum_weight = self._beta1 * self._sum_weight + 1.0
        self._square_weight = self._beta2 * self._square_weight + 1.0
        root = math.sqrt(self._square_weight)
        self._added.fill(self._epsilon * root)
        super().step(learning_rate * root / self._sum_weight)

    def state(self) -> State:
        """Both weighted sums and the weights in them."""
        return {
            **super().state(),
            "optimizer.sum_weight": self._sum_weight,
            "optimizer.square_weight": self._square_weight,
        }

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from a `state`."""
        weights = (
            saved.number(state, "optimizer.sum_weight"),
            saved.number(state, "optimizer.square_weight"),
        )
        super().load(state)
        self._sum_weight, self._square_weight = weights


def make_optimizer(settings: Settings, parameters: Array, gradient: Array) -> Optimizer:
    """The optimizer that `settings` names, with its memory empty."""
    match settings.optimizer:
        case "sgd":
            return Sgd(parameters, gradient)
        case "momentum":
            return Momentum(parameters, gradient, beta=settings.momentum_beta)
        case "rmsprop":
            return RmsProp(
                parameters,
                gradient,
                decay=settings.rmsprop_decay,
                epsilon=settings.rmsprop_epsilon,
            )
        case _:
            return Adam(
                parameters,
                gradient,
                beta1=settings.adam_beta1,
                beta2=settings.adam_beta2,
                epsilon=settings.adam_epsilon,
            )


def _in_blocks(
    update: Callable[..., list[Call]], *arrays: Array, scratch: Array | None = None
) -> list[Call]:
    """The calls of `update` for each block of the flat `arrays`, which all have one length."""
    size, calls = len(arrays[0]), []
    most = _BLOCK if scratch is None else _SCRATCH
    # Blocks of one length: a short last one would cost as many calls as a full one.
    length = math.ceil(size / max(round(size / most), 1))
    for first in range(0, size, length):
        block = [array[first : first + length] for array in arrays]
        calls += update(*block, *([] if scratch is None else [scratch[: len(block[0])]]))
    return calls


def _scratch(array: Array) -> Array:
    """Room for one block."""
    return aligned((min(len(array), 2 * _SCRATCH),), array.dtype)
