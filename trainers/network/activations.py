"""Activations of hidden layers, applied in place after batch norm.

A layer carries -a instead of a (see `trainers.network.batchnorm`): relu is then min(u, 0), and
tanh, being odd, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from trainers.hyperparameters import Choice
from trainers.network.arrays import Array, Call, make_constant, prepare_call, prepare_sign_mask
from trainers.network.row_broadcast import RowBroadcast

__all__ = ["ACTIVATIONS", "Activation"]

#: Prepares the calls of the forward and of the backward pass for fixed buffers, given `u` and
#: `gradient`, both of shape (rows, units). Forward, `u` turns from -y into -a. Backward, `gradient`
#: turns from the gradient by -a into that by -y, and -a in `u` is used up.
Preparation: TypeAlias = Callable[[Array, Array], tuple[list[Call], list[Call]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """One activation function, for training and for use after it."""

    prepare: Preparation  #: makes the calls of a training step
    apply: Callable[[Array], None]  #: overwrites y, shape (N, units), with its activation, any N
    start: str  #: start weights that suit the activation, unless a configuration names others


#: The activations that a configuration can name.
ACTIVATIONS: Choice[Activation] = Choice("activation", default="relu")


def _prepare_relu(u: Array, gradient: Array) -> tuple[list[Call], list[Call]]:
    """Prepare max(y, 0), which is nan for nan.

    The sign of -a tells where y > 0. Masking by it, two passes over integers (5.4 us for 128 x 256
    float32), does what a comparison and a multiplication by its booleans do in 10.7.
    """
    # Against an array np.minimum runs in its vector loop. Zeros repeated are zeros: no refresh.
    zeros = RowBroadcast(np.zeros(u.shape[1], u.dtype), len(u))
    mask, make_mask = prepare_sign_mask(u)
    bits = gradient.view(mask.dtype)
    backward: list[Call] = [make_mask, prepare_call(np.bitwise_and, bits, mask, bits)]
    return [zeros.prepare(np.minimum, u, u)], backward


def _apply_relu(y: Array) -> None:
    # Against an array np.maximum runs in its vector loop.
    np.maximum(y, np.zeros(y.shape[1], y.dtype), out=y)


def _prepare_tanh(u: Array, gradient: Array) -> tuple[list[Call], list[Call]]:
    """Prepare the hyperbolic tangent a, with derivative 1 - a**2."""
    one = make_constant(1.0, u.dtype)
    backward: list[Call] = [
        prepare_call(np.square, u, u),
        prepare_call(np.subtract, one, u, u),
        prepare_call(np.multiply, gradient, u, gradient),
    ]
    return [prepare_call(np.tanh, u, u)], backward


def _apply_tanh(y: Array) -> None:
    np.tanh(y, out=y)


ACTIVATIONS.add("relu")(Activation(prepare=_prepare_relu, apply=_apply_relu, start="he"))
ACTIVATIONS.add("tanh")(Activation(prepare=_prepare_tanh, apply=_apply_tanh, start="xavier"))
