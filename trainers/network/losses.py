"""Losses with their gradients for training, and probabilities for use."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from trainers.network.arrays import Array, Call, aligned, call, constant
from trainers.network.spread import by_row

__all__ = [
    "BinaryCrossEntropy",
    "HalfSquaredError",
    "Loss",
    "SoftmaxCrossEntropy",
    "log_probabilities",
    "loss_class",
    "network_outputs",
    "probabilities",
]


class Loss(Protocol):
    """The loss of batches of one shape, each example with its share in it.

    Outputs and targets lie on their side here, shape (K, rows): what is done for every example then
    runs along memory, a few long rows instead of many short ones.

    Args:
        outputs: Filled before each call, overwritten by it; shape (K, rows).
    """

    residual: Array  #: minus the gradient of the loss by the outputs, shape (K, rows)

    def __init__(self, outputs: Array) -> None: ...

    def __call__(self, targets: Array, shares: Array) -> float:
        """The loss, the sum of `shares` times each example's; fills `residual`.

        Args:
            targets: What `targets` made of the batch, shape (K, rows).
            shares: Each example's share: 1 / rows gives the mean. Shape (rows,).
        """

    @staticmethod
    def targets(y: Array, shares: Array, classes: int) -> Array:
        """The targets of n batches, shape (n, K, rows). Pure.

        Args:
            y: Class indices or numbers, shape (n, rows).
            shares: Shape (n, rows).
            classes: Number of classes, or 1.
        """


class SoftmaxCrossEntropy:
    """-log softmax(z)[target], for one-hot targets.

    loss = log(sum(exp(z))) - z[target], gradient = softmax(z) - one_hot.

    exp overflows from z = 88 on in float32, unless the example's largest z is taken off first. That
    takes 6% of a small network's step and is hardly ever needed, so it is done only if one of the
    logarithms of the sums is not within +-60.
    """

    _SAFE = 60.0

    def __init__(self, outputs: Array) -> None:
        self._z, dtype = outputs, outputs.dtype
        classes, rows = outputs.shape
        self.residual = exponential = aligned(outputs.shape, dtype)
        self._sums, self._logs, maxima, self._factors = (aligned((rows,), dtype) for _ in range(4))
        self._take_off: list[Call] = [
            call(np.maximum.reduce, outputs, 0, None, maxima),
            *by_row(np.subtract, outputs, maxima, outputs),
        ]
        self._sum: list[Call] = [
            call(np.exp, outputs, exponential),
            call(np.ones(classes, dtype).dot, exponential, self._sums),
            call(np.log, self._sums, self._logs),
        ]
        self._normalise = by_row(np.multiply, exponential, self._factors, exponential)

    def __call__(self, targets: Array, shares: Array) -> float:
        """The loss; fills `residual`."""
        for each in self._sum:
            each()
        if not self._is_safe(self._logs):
            for each in (*self._take_off, *self._sum):
                each()
        loss = float(shares.dot(self._logs) - np.vdot(targets, self._z))
        np.divide(shares, self._sums, self._factors)
        for each in self._normalise:
            each()
        np.subtract(targets, self.residual, self.residual)
        return loss

    def _is_safe(self, logs: Array) -> bool:
        # The sum of the squares mostly tells of all at once; nan is never less.
        return bool(
            logs.dot(logs) < self._SAFE**2 or (logs.min() > -self._SAFE and logs.max() < self._SAFE)
        )

    @staticmethod
    def targets(y: Array, shares: Array, classes: int) -> Array:
        """One-hot columns times the shares."""
        hot = y[:, None, :] == np.arange(classes)[:, None]
        scaled: Array = np.multiply(hot, shares[:, None, :], dtype=shares.dtype)
        return scaled


class BinaryCrossEntropy:
    """-log of the target's probability, for one logit z and targets t in {0, 1}.

    loss = log(1 + exp(z)) - t z, gradient = sigmoid(z) - t. The first term is max(z, 0) +
    log(1 + exp(-|z|)), which cannot overflow; sigmoid(z) = (1 + tanh(z / 2)) / 2 cannot either.
    """

    def __init__(self, outputs: Array) -> None:
        assert len(outputs) == 1
        self._z, dtype = outputs, outputs.dtype
        self.residual = probability = aligned(outputs.shape, dtype)
        self._softplus, positive, zeros = (aligned(outputs.shape, dtype) for _ in range(3))
        half, one = constant(0.5, dtype), constant(1.0, dtype)
        # np.logaddexp is not vectorised: 6 us for 512 logits against 2.
        self._calls: list[Call] = [
            call(np.abs, outputs, self._softplus),
            call(np.negative, self._softplus, self._softplus),
            call(np.exp, self._softplus, self._softplus),
            call(np.log1p, self._softplus, self._softplus),
            call(np.maximum, outputs, zeros, out=positive),
            call(np.add, self._softplus, positive, self._softplus),
            call(np.multiply, outputs, half, probability),
            call(np.tanh, probability, probability),
            call(np.add, probability, one, probability),
            call(np.multiply, probability, half, probability),
        ]

    def __call__(self, targets: Array, shares: Array) -> float:
        """The loss; fills `residual`."""
        for each in self._calls:
            each()
        loss = float(shares.dot(self._softplus[0]) - np.vdot(targets, self._z))
        np.multiply(self.residual, shares, self.residual)
        np.subtract(targets, self.residual, self.residual)
        return loss

    @staticmethod
    def targets(y: Array, shares: Array, classes: int) -> Array:
        """The class, 0 or 1, times the share."""
        return np.multiply(y, shares, dtype=shares.dtype)[:, None, :]


class HalfSquaredError:
    """(p - y)**2 / 2, whose gradient by p is p - y."""

    def __init__(self, outputs: Array) -> None:
        self._p = outputs
        self.residual = aligned(outputs.shape, outputs.dtype)
        self._errors = aligned(outputs.shape, outputs.dtype)

    def __call__(self, targets: Array, shares: Array) -> float:
        """The loss; fills `residual`."""
        np.subtract(targets, self._p, self._errors)
        np.multiply(self._errors, shares, self.residual)
        return 0.5 * float(np.vdot(self.residual, self._errors))

    @staticmethod
    def targets(y: Array, shares: Array, classes: int) -> Array:
        """The targets themselves."""
        return y.astype(shares.dtype)[:, None, :]


def network_outputs(task: str, outputs: int) -> int:
    """How wide the output layer is: two classes need only one logit."""
    return 1 if task == "regression" or outputs == 2 else outputs


def loss_class(task: str, outputs: int) -> type[Loss]:
    """The loss that fits the task; `outputs` is the number of classes, or 1 for regression."""
    if task == "regression":
        return HalfSquaredError
    return BinaryCrossEntropy if outputs == 2 else SoftmaxCrossEntropy


def log_probabilities(logits: Array, outputs: int) -> Array:
    """Log of each class's probability, shape (N, outputs), in float64. Nothing is clipped.

    Args:
        logits: Shape (N, 1) for two classes, else (N, outputs).
        outputs: Number of classes, >= 2.
    """
    wide = np.asarray(logits, np.float64)
    if outputs == 2:
        # log(1 - sigmoid(z)) = log(sigmoid(-z)): 1 - sigmoid(z) itself rounds to 0 from z = 37 on.
        both: Array = -np.logaddexp(0.0, np.concatenate([wide, -wide], axis=1))
        return both
    shifted = wide - wide.max(axis=1, keepdims=True)
    normalised: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def probabilities(logits: Array, outputs: int) -> Array:
    """Each class's probability, shape (N, outputs), in float64; a row sums to 1.

    Args:
        logits: Shape (N, 1) for two classes (sigmoid), else (N, outputs) (softmax).
        outputs: Number of classes, >= 2.
    """
    return np.exp(log_probabilities(logits, outputs))
