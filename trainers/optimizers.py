"""Optimizers over one flat parameter array.

An optimizer overwrites `parameters` and uses `gradient` as scratch: both are flat and cover the
whole network, so an update costs a handful of NumPy calls however many layers there are. (Working
through the arrays in blocks that fit a second-level cache was measured slower below a million
parameters, by the calls it adds, and 20% faster at three million.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from trainers import saved
from trainers.arrays import Array, State
from trainers.config import Settings

__all__ = ["Adam", "Momentum", "Optimizer", "RmsProp", "Sgd", "add_weight_decay", "make_optimizer"]


class Optimizer(Protocol):
    """Anything that can take a step along a gradient, and whose memory can be saved."""

    def step(self, learning_rate: float) -> None:
        """Update the parameters in place; the gradient's content is lost."""

    def state(self) -> State:
        """A copy of all that the next step depends on, except parameters and gradient."""

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from a `state`."""


def add_weight_decay(gradient: Array, weights: Array, scratch: Array, weight_decay: float) -> None:
    """Add the gradient of weight_decay / 2 |weights|**2, in place; one shape for all three."""
    np.multiply(weights, weight_decay, out=scratch)
    np.add(gradient, scratch, out=gradient)


class Sgd:
    """p = p - rate g."""

    def __init__(self, parameters: Array, gradient: Array) -> None:
        self._parameters, self._gradient = parameters, gradient

    def step(self, learning_rate: float) -> None:
        """Update the parameters in place; the gradient's content is lost."""
        np.multiply(self._gradient, learning_rate, out=self._gradient)
        np.subtract(self._parameters, self._gradient, out=self._parameters)

    def state(self) -> State:
        """Empty: plain descent remembers nothing."""
        return {}

    def load(self, state: Mapping[str, object]) -> None:
        """Nothing to load."""


class Momentum:
    """v = beta v + (1 - beta) g;  p = p - rate v.

    The exponentially weighted mean of the gradients, as in Ng's lectures (course 2, week 2).
    PyTorch's SGD leaves out the factor 1 - beta: its rate is this one's times 1 - beta.
    """

    def __init__(self, parameters: Array, gradient: Array, *, beta: float) -> None:
        self._parameters, self._gradient = parameters, gradient
        self._velocity = np.zeros_like(parameters)
        self._beta = beta

    def step(self, learning_rate: float) -> None:
        """Update the parameters in place; the gradient's content is lost."""
        p, g, v = self._parameters, self._gradient, self._velocity
        np.multiply(v, self._beta, out=v)
        np.multiply(g, 1.0 - self._beta, out=g)
        np.add(v, g, out=v)
        np.multiply(v, learning_rate, out=g)
        np.subtract(p, g, out=p)

    def state(self) -> State:
        """The velocity."""
        return {"optimizer.velocity": self._velocity.copy()}

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from a `state`."""
        np.copyto(self._velocity, saved.array(state, "optimizer.velocity", like=self._velocity))


class RmsProp:
    """s = decay s + (1 - decay) g**2;  p = p - rate g / (sqrt(s) + epsilon).

    Tieleman & Hinton 2012, lecture 6.5 of "Neural Networks for Machine Learning"; epsilon stands
    outside the root, as in PyTorch.
    """

    def __init__(self, parameters: Array, gradient: Array, *, decay: float, epsilon: float) -> None:
        self._parameters, self._gradient = parameters, gradient
        self._square = np.zeros_like(parameters)
        self._scratch = np.empty_like(parameters)
        self._decay, self._epsilon = decay, epsilon

    def step(self, learning_rate: float) -> None:
        """Update the parameters in place; the gradient's content is lost."""
        p, g, s, scratch = self._parameters, self._gradient, self._square, self._scratch
        np.multiply(g, g, out=scratch)
        np.multiply(scratch, 1.0 - self._decay, out=scratch)
        np.multiply(s, self._decay, out=s)
        np.add(s, scratch, out=s)
        np.sqrt(s, out=scratch)
        np.add(scratch, self._epsilon, out=scratch)
        np.divide(g, scratch, out=g)
        np.multiply(g, learning_rate, out=g)
        np.subtract(p, g, out=p)

    def state(self) -> State:
        """The running mean of the squared gradients."""
        return {"optimizer.square": self._square.copy()}

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from a `state`."""
        np.copyto(self._square, saved.array(state, "optimizer.square", like=self._square))


class Adam:
    """Adam with bias correction; Kingma & Ba 2015, Algorithm 1, arXiv:1412.6980.

    The paper's m, divided by 1 - beta1, is the weighted SUM m = beta1 m + g; the weights in it add
    up to a = beta1 a + 1. The bias-corrected mean of the paper is then simply m / a: a is
    (1 - beta1**t) / (1 - beta1) while beta1 stays, and it stays right when beta1 is adjusted
    between epochs. The same with v = beta2 v + g**2 and b. The update

        p = p - rate (m / a) / (sqrt(v / b) + epsilon)
          = p - (rate sqrt(b) / a) m / (sqrt(v) + epsilon sqrt(b))

    needs ten passes instead of the textbook's fourteen.
    """

    def __init__(
        self, parameters: Array, gradient: Array, *, beta1: float, beta2: float, epsilon: float
    ) -> None:
        self._parameters, self._gradient = parameters, gradient
        self._sum = np.zeros_like(parameters)
        self._square_sum = np.zeros_like(parameters)
        self._sum_weight = 0.0
        self._square_weight = 0.0
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon

    def step(self, learning_rate: float) -> None:
        """Update the parameters in place; the gradient's content is lost."""
        p, g, m, v = self._parameters, self._gradient, self._sum, self._square_sum
        beta1, beta2 = self._beta1, self._beta2
        self._sum_weight = beta1 * self._sum_weight + 1.0
        self._square_weight = beta2 * self._square_weight + 1.0
        root = math.sqrt(self._square_weight)
        epsilon, rate = self._epsilon * root, learning_rate * root / self._sum_weight
        np.multiply(m, beta1, out=m)
        np.add(m, g, out=m)
        np.multiply(g, g, out=g)
        np.multiply(v, beta2, out=v)
        np.add(v, g, out=v)
        np.sqrt(v, out=g)
        np.add(g, epsilon, out=g)
        np.divide(m, g, out=g)
        np.multiply(g, rate, out=g)
        np.subtract(p, g, out=p)

    def state(self) -> State:
        """Both weighted sums and the weights in them."""
        return {
            "optimizer.sum": self._sum.copy(),
            "optimizer.square_sum": self._square_sum.copy(),
            "optimizer.sum_weight": self._sum_weight,
            "optimizer.square_weight": self._square_weight,
        }

    def load(self, state: Mapping[str, object]) -> None:
        """Go on from a `state`."""
        sums = saved.array(state, "optimizer.sum", like=self._sum)
        squares = saved.array(state, "optimizer.square_sum", like=self._square_sum)
        weights = (
            saved.number(state, "optimizer.sum_weight"),
            saved.number(state, "optimizer.square_weight"),
        )
        np.copyto(self._sum, sums)
        np.copyto(self._square_sum, squares)
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
