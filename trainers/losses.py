"""Losses with their gradients for training, and probabilities for use."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from trainers.arrays import Array

__all__ = [
    "BinaryCrossEntropy",
    "HalfSquaredError",
    "Loss",
    "SoftmaxCrossEntropy",
    "log_probabilities",
    "loss_class",
    "network_outputs",
    "probabilities",
    "target_rows",
]


class Loss(Protocol):
    """The mean loss of batches of one shape (rows, outputs), with its buffers."""

    def __init__(self, rows: int, outputs: int, dtype: npt.DTypeLike) -> None: ...

    def __call__(self, logits: Array, targets: Array) -> float:
        """The mean loss; `logits` is overwritten with the gradient of it by the logits.

        Both have shape (rows, outputs).
        """


class SoftmaxCrossEntropy:
    """-log softmax(logits)[target], for one-hot targets.

    With the row's maximum taken off first, exp cannot overflow and the sum is at least 1:
    loss = log(sum(exp(z))) - z[target], gradient = softmax(z) - one_hot.
    """

    def __init__(self, rows: int, outputs: int, dtype: npt.DTypeLike) -> None:
        self._maxima = np.empty((rows, 1), dtype)
        self._sums = np.empty(rows, dtype)
        self._factors = np.empty(rows, dtype)
        self._exp = np.empty((rows, outputs), dtype)
        self._ones = np.ones(outputs, dtype)
        self._share = 1.0 / rows

    def __call__(self, logits: Array, targets: Array) -> float:
        """The mean loss; `logits` is overwritten with its gradient."""
        np.maximum.reduce(logits, axis=1, keepdims=True, out=self._maxima)
        np.subtract(logits, self._maxima, out=logits)
        at_targets = np.vdot(targets, logits)
        np.exp(logits, out=self._exp)
        np.dot(self._exp, self._ones, out=self._sums)
        np.divide(self._share, self._sums, out=self._factors)
        np.log(self._sums, out=self._sums)
        loss = float(np.add.reduce(self._sums) - at_targets) * self._share
        np.multiply(self._exp, self._factors[:, None], out=self._exp)
        np.multiply(targets, self._share, out=logits)
        np.subtract(self._exp, logits, out=logits)
        return loss


class BinaryCrossEntropy:
    """-log of the target's probability, for one logit z and targets t in {0, 1}.

    loss = log(1 + exp(z)) - t z, gradient = sigmoid(z) - t. The first term is logaddexp(0, z),
    which cannot overflow; sigmoid(z) = (1 + tanh(z / 2)) / 2 cannot either.
    """

    def __init__(self, rows: int, outputs: int, dtype: npt.DTypeLike) -> None:
        assert outputs == 1
        self._softplus = np.empty((rows, 1), dtype)
        self._share = 1.0 / rows

    def __call__(self, logits: Array, targets: Array) -> float:
        """The mean loss; `logits` is overwritten with its gradient."""
        np.logaddexp(0.0, logits, out=self._softplus)
        loss = float(np.add.reduce(self._softplus, axis=None) - np.vdot(targets, logits))
        np.multiply(logits, 0.5, out=logits)
        np.tanh(logits, out=logits)
        np.add(logits, 1.0, out=logits)
        np.multiply(logits, 0.5, out=logits)
        np.subtract(logits, targets, out=logits)
        np.multiply(logits, self._share, out=logits)
        return loss * self._share


class HalfSquaredError:
    """(p - y)**2 / 2, whose gradient by p is p - y."""

    def __init__(self, rows: int, outputs: int, dtype: npt.DTypeLike) -> None:
        self._share = 1.0 / rows

    def __call__(self, logits: Array, targets: Array) -> float:
        """The mean loss; `logits` is overwritten with its gradient."""
        np.subtract(logits, targets, out=logits)
        loss = 0.5 * float(np.vdot(logits, logits)) * self._share
        np.multiply(logits, self._share, out=logits)
        return loss


def network_outputs(task: str, outputs: int) -> int:
    """How wide the output layer is: two classes need only one logit."""
    return 1 if task == "regression" or outputs == 2 else outputs


def loss_class(task: str, outputs: int) -> type[Loss]:
    """The loss that fits the task; `outputs` is the number of classes, or 1 for regression."""
    if task == "regression":
        return HalfSquaredError
    return BinaryCrossEntropy if outputs == 2 else SoftmaxCrossEntropy


def target_rows(outputs: int, dtype: npt.DTypeLike) -> Array:
    """The target row of each class, shape (outputs, width of the output layer).

    One-hot rows turn "pick the logit of each row's class" into one product: fancy indexing costs
    ten times as much for small batches.
    """
    if outputs == 2:
        return np.array([[0.0], [1.0]], dtype)
    return np.eye(outputs, dtype=dtype)


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
