"""Losses with their gradients for training, and probabilities for use."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from trainers.network.arrays import Array, Call, allocate, make_constant, prepare_call
from trainers.network.row_broadcast import prepare_by_row

__all__ = [
    "BinaryCrossEntropy",
    "HalfSquaredError",
    "Loss",
    "SoftmaxCrossEntropy",
    "choose_loss",
    "compute_log_probabilities",
    "compute_probabilities",
    "count_network_outputs",
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
        """Compute the sum of `shares` times each example's loss; fill `residual`.

        Args:
            targets: Targets as `make_targets` makes them, shape (K, rows).
            shares: Each example's share: 1 / rows gives the mean. Shape (rows,).
        """

    @staticmethod
    def make_targets(y: Array, shares: Array, classes: int) -> Array:
        """Make the targets of n batches, shape (n, K, rows). Pure.

        Args:
            y: Class indices or numbers, shape (n, rows).
            shares: Shape (n, rows).
            classes: Number of classes, or 1.
        """


class SoftmaxCrossEntropy:
    """-log softmax(z)[target], for one-hot targets.

    loss = log(sum(exp(z))) - z[target], gradient = softmax(z) - one_hot.

    exp overflows from z = 88 on in float32, unless the example's largest z is subtracted first.
    That takes 6% of a small network's step and is hardly ever needed, so it is done only if one of
    the logarithms of the sums is not within +-60.
    """

    _SAFE = 60.0

    def __init__(self, outputs: Array) -> None:
        self._z, dtype = outputs, outputs.dtype
        classes, rows = outputs.shape
        self.residual = exponential = allocate(outputs.shape, dtype)
        self._sums, self._logs, maxima, self._factors = (allocate((rows,), dtype) for _ in range(4))
        self._subtract_maxima: list[Call] = [
            prepare_call(np.maximum.reduce, outputs, 0, None, maxima),
            *prepare_by_row(np.subtract, outputs, maxima, outputs),
        ]
        self._sum: list[Call] = [
            prepare_call(np.exp, outputs, exponential),
            prepare_call(np.ones(classes, dtype).dot, exponential, self._sums),
            prepare_call(np.log, self._sums, self._logs),
        ]
        self._normalise = prepare_by_row(np.multiply, exponential, self._factors, exponential)

    def __call__(self, targets: Array, shares: Array) -> float:
        """Compute the loss; fill `residual`."""
        for run in self._sum:
            run()
        if not self._is_safe(self._logs):
            for run in (*self._subtract_maxima, *self._sum):
                run()
        loss = float(shares.dot(self._logs) - np.vdot(targets, self._z))
        np.divide(shares, self._sums, self._factors)
        for run in self._normalise:
            run()
        np.subtract(targets, self.residual, self.residual)
        return loss

    def _is_safe(self, logs: Array) -> bool:
        # The sum of the squares mostly decides for all at once; nan is never less.
        return bool(
            logs.dot(logs) < self._SAFE**2 or (logs.min() > -self._SAFE and logs.max() < self._SAFE)
        )

    @staticmethod
    def make_targets(y: Array, shares: Array, classes: int) -> Array:
        """Make one-hot columns times the shares."""
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
        self.residual = probability = allocate(outputs.shape, dtype)
        self._softplus, positive, zeros = (allocate(outputs.shape, dtype) for _ in range(3))
        half, one = make_constant(0.5, dtype), make_constant(1.0, dtype)
        # np.logaddexp is not vectorised: 6 us for 512 logits against 2.
        self._calls: list[Call] = [
            prepare_call(np.abs, outputs, self._softplus),
            prepare_call(np.negative, self._softplus, self._softplus),
            prepare_call(np.exp, self._softplus, self._softplus),
            prepare_call(np.log1p, self._softplus, self._softplus),
            prepare_call(np.maximum, outputs, zeros, out=positive),
            prepare_call(np.add, self._softplus, positive, self._softplus),
            prepare_call(np.multiply, outputs, half, probability),
            prepare_call(np.tanh, probability, probability),
            prepare_call(np.add, probability, one, probability),
            prepare_call(np.multiply, probability, half, probability),
        ]

    def __call__(self, targets: Array, shares: Array) -> float:
        """Compute the loss; fill `residual`."""
        for run in self._calls:
            run()
        loss = float(shares.dot(self._softplus[0]) - np.vdot(targets, self._z))
        np.multiply(self.residual, shares, self.residual)
        np.subtract(targets, self.residual, self.residual)
        return loss

    @staticmethod
    def make_targets(y: Array, shares: Array, classes: int) -> Array:
        """Make the class, 0 or 1, times the share."""
        return np.multiply(y, shares, dtype=shares.dtype)[:, None, :]


class HalfSquaredError:
    """(p - y)**2 / 2, whose gradient by p is p - y."""

    def __init__(self, outputs: Array) -> None:
        self._p = outputs
        self.residual = allocate(outputs.shape, outputs.dtype)
        self._errors = allocate(outputs.shape, outputs.dtype)

    def __call__(self, targets: Array, shares: Array) -> float:
        """Compute the loss; fill `residual`."""
        np.subtract(targets, self._p, self._errors)
        np.multiply(self._errors, shares, self.residual)
        return 0.5 * float(np.vdot(self.residual, self._errors))

    @staticmethod
    def make_targets(y: Array, shares: Array, classes: int) -> Array:
        """Make the targets a row for each batch, without the shares."""
        return y.astype(shares.dtype)[:, None, :]


def count_network_outputs(task: str, outputs: int) -> int:
    """Count the network's outputs: two classes need only one logit."""
    return 1 if task == "regression" or outputs == 2 else outputs


def choose_loss(task: str, outputs: int) -> type[Loss]:
    """Choose the loss of a task; `outputs` is the number of classes, or 1 for regression."""
    if task == "regression":
        return HalfSquaredError
    return BinaryCrossEntropy if outputs == 2 else SoftmaxCrossEntropy


def compute_log_probabilities(logits: Array, outputs: int) -> Array:
    """Compute the log of each class's probability, (N, outputs), in float64; nothing is clipped.

    Args:
        logits: Shape (N, 1) for two classes, else (N, outputs).
        outputs: Number of classes, >= 2.
    """
    wide = np.asarray(logits, np.float64)
    if outputs == 2:
        # log(1 - sigmoid(z)) = log(sigmoid(-z)): 1 - sigmoid(z) itself rounds to 0 from z = 37 on.
        log_p: Array = -np.logaddexp(0.0, np.concatenate([wide, -wide], axis=1))
        return log_p
    shifted = wide - wide.max(axis=1, keepdims=True)
    normalised: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def compute_probabilities(logits: Array, outputs: int) -> Array:
    """Compute each class's probability, shape (N, outputs), in float64; a row sums to 1.

    Args:
        logits: Shape (N, 1) for two classes (sigmoid), else (N, outputs) (softmax).
        outputs: Number of classes, >= 2.
    """
    return np.exp(compute_log_probabilities(logits, outputs))
