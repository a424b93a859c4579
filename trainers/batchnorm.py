"""Batch normalisation: the training step of one layer, and the statistics for test time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainers.arrays import Array

__all__ = ["BatchNorm", "RunningStatistics"]


class BatchNorm:
    """One layer's batch norm for batches of `rows` examples, in place, without allocation.

    Ioffe & Szegedy 2015, Algorithm 1 and section 3, arXiv:1502.03167. With m the batch mean, v the
    batch variance (biased: divided by rows), s = sqrt(v + epsilon) and c = z - m, all by column:

        y = gamma c / s + beta

    The gradients of a loss L, with g = dL/dy and <.> the mean over the batch:

        dL/dbeta  = sum(g)
        dL/dgamma = sum(g c) / s
        dL/dz     = gamma / s (g - <g> - c <g c> / s**2)

    The last line is the paper's chain of five derivatives after the terms in sum(c) = 0 have
    cancelled. c is kept instead of c / s, which saves a pass over the batch in both directions.

    Args:
        gamma: Scale, shape (units,).
        beta: Shift, shape (units,).
        gamma_gradient: Receives dL/dgamma, shape (units,).
        beta_gradient: Receives dL/dbeta, shape (units,).
        mean: Receives the batch mean, shape (units,).
        variance: Receives the biased batch variance, shape (units,).
        rows: Examples in a batch, >= 2.
        epsilon: Added to the variance; unit of z squared.
    """

    def __init__(
        self,
        gamma: Array,
        beta: Array,
        *,
        gamma_gradient: Array,
        beta_gradient: Array,
        mean: Array,
        variance: Array,
        rows: int,
        epsilon: float,
    ) -> None:
        assert rows >= 2, "one example has no batch variance"
        self._gamma, self._beta = gamma, beta
        self._gamma_gradient, self._beta_gradient = gamma_gradient, beta_gradient
        self._mean, self._variance = mean, variance
        self._epsilon = epsilon
        self._share = 1.0 / rows
        # A sum over the batch is a product with a vector: BLAS needs 1.8 us for 128 x 256 float32,
        # np.sum 5.5.
        self._ones = np.ones(rows, gamma.dtype)
        self._shares = np.full(rows, self._share, gamma.dtype)
        self._deviation = np.empty_like(gamma)
        self._scale = np.empty_like(gamma)
        self._row = np.empty_like(gamma)

    def forward(self, z: Array, out: Array) -> None:
        """Write y into `out` and c into `z`; both have shape (rows, units)."""
        np.dot(self._shares, z, out=self._mean)
        np.subtract(z, self._mean, out=z)
        # The variance of centred values: mean(z**2) - mean(z)**2 would lose every digit in float32
        # when the mean is large against the deviation.
        np.multiply(z, z, out=out)
        np.dot(self._shares, out, out=self._variance)
        np.add(self._variance, self._epsilon, out=self._deviation)
        np.sqrt(self._deviation, out=self._deviation)
        np.divide(self._gamma, self._deviation, out=self._scale)
        np.multiply(z, self._scale, out=out)
        np.add(out, self._beta, out=out)

    def backward(self, centred: Array, gradient: Array, scratch: Array) -> None:
        """Turn `gradient` from dL/dy into dL/dz, and write dL/dgamma and dL/dbeta.

        `centred` is the `z` that `forward` has overwritten; `scratch` is overwritten. Shape
        (rows, units) each.
        """
        row = self._row
        np.dot(self._ones, gradient, out=self._beta_gradient)
        np.multiply(gradient, centred, out=scratch)
        np.dot(self._ones, scratch, out=self._gamma_gradient)
        np.divide(self._gamma_gradient, self._deviation, out=self._gamma_gradient)
        np.divide(self._gamma_gradient, self._deviation, out=row)
        np.multiply(row, self._share, out=row)
        np.multiply(centred, row, out=scratch)
        np.subtract(gradient, scratch, out=gradient)
        np.multiply(self._beta_gradient, self._share, out=row)
        np.subtract(gradient, row, out=gradient)
        np.multiply(gradient, self._scale, out=gradient)


class RunningStatistics:
    """Mean and variance of every hidden unit for test time, all layers in one array.

    After the batch number t (from 0), with n examples in it:

        running = d running + (1 - d) batch,   d = min(decay, t / (t + 1))
        batch mean as it is;  batch variance times n / (n - 1), the unbiased estimate

    `decay` is the share of the OLD value. PyTorch's `momentum` is 1 - decay, and its running
    variance is the unbiased one too.

    Where this differs from PyTorch: there d = decay from the first batch on, so the start values 0
    and 1 fade only as decay**t (after 20 batches at decay 0.999 they are still 98% of the running
    value). Here d = 0 at the first batch, which forgets the start, and until t / (t + 1) reaches
    `decay` the running value is the plain mean of all batches, as with PyTorch's `momentum=None`.
    """

    def __init__(self, units: int, dtype: npt.DTypeLike) -> None:
        self.batch = np.zeros((2, units), dtype)  #: row 0 mean, row 1 biased variance
        self.running = np.zeros((2, units), dtype)  #: row 0 mean, row 1 unbiased variance
        self.running[1] = 1.0
        self.batches = 0  #: how many batches `running` has seen

    def update(self, *, rows: int, decay: float) -> None:
        """Add the batch of `rows` examples whose statistics stand in `batch`, which is used up."""
        old_share = min(decay, self.batches / (self.batches + 1))
        self.batch[1] *= rows / (rows - 1)
        self.batch *= 1.0 - old_share
        self.running *= old_share
        self.running += self.batch
        self.batches += 1
