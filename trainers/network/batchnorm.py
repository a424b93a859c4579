"""Batch normalisation: the training step of one layer, and the statistics for test time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainers.network.arrays import Array, Call, allocate, prepare_call
from trainers.network.row_broadcast import RowBroadcast, prepare_by_row

__all__ = ["BatchNorm", "RunningStatistics"]


class BatchNorm:
    """One layer's batch norm for batches of `rows` examples, in place, without allocation.

    Ioffe & Szegedy 2015, Algorithm 1 and section 3, arXiv:1502.03167. With m the batch mean, v the
    batch variance (biased: divided by rows), s = sqrt(v + epsilon) and c = z - m, all by column:

        y = gamma c / s + beta

    The gradients of a loss L, with g = dL/dy and <.> the mean over the batch:

        dL/dbeta  = rows <g>
        dL/dgamma = rows <g c> / s
        dL/dz     = gamma / s (g - <g> - c <g c> / s**2)

    The last line is the paper's chain of five derivatives after the terms in sum(c) = 0 have
    cancelled. c is kept instead of c / s, which saves a pass over the batch in both directions.

    The output is -y: the sign bit of a float says whether relu lets it through, and a bitwise
    "and" with it costs half of a multiplication by a comparison (activations.py). So a layer gets
    -z from the layer before it, and z only in the first one. With u = -y, w = z or -z as it comes
    in, and r = -s or s, so that c(w) / r is minus the normalised z in both cases:

        u = gamma c(w) / r - beta
        dL/dbeta  = -rows <dL/du>;   dL/dgamma = rows <dL/du c(w)> / r
        dL/dw     = gamma / r (dL/du - <dL/du> - c(w) <dL/du c(w)> / r**2)

    A sum over the batch is a product with a vector: BLAS needs 1.6 us for 128 x 256 float32, np.sum
    5. epsilon is added by that product too: it stands in a row of its own above the squares.

    Args:
        gamma: Scale, shape (units,).
        beta: Shift, shape (units,).
        gamma_gradient: Receives dL/dgamma / rows, shape (units,).
        beta_gradient: Receives dL/dbeta / rows, shape (units,).
        mean: Receives the batch mean of z, shape (units,).
        shifted_variance: Receives the biased batch variance plus epsilon, shape (units,).
        z: In: z or -z. Out: c of it. Shape (rows, units).
        out: Room for epsilon, then -y; shape (1 + rows, units). Scratch in the backward pass.
        gradient: In: dL/d(-y). Out: the gradient by `z` as it came in. Shape (rows, units).
        negative: Whether `z` brings -z.
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
        shifted_variance: Array,
        z: Array,
        out: Array,
        gradient: Array,
        negative: bool,
        epsilon: float,
    ) -> None:
        rows, dtype = len(z), z.dtype
        assert rows >= 2, "one example has no batch variance"
        #: Puts epsilon into its row; must run again after another use of the memory of `out`.
        self.begin: Call = prepare_call(out[0].fill, epsilon)
        self.begin()
        y = squares = products = terms = out[1:]  # one buffer at four moments
        shares = np.full(rows, 1.0 / rows, dtype)
        deviation, scale, slope = (allocate(gamma.shape, dtype) for _ in range(3))
        scales = RowBroadcast(scale, rows)
        self.forward: list[Call] = [
            prepare_call((-shares if negative else shares).dot, z, mean),
            *prepare_by_row(np.add if negative else np.subtract, z, mean, z),
            # The variance of centred values: mean(z**2) - mean(z)**2 would lose every digit in
            # float32 when the mean is large against the deviation.
            prepare_call(np.square, z, squares),
            prepare_call(np.append(dtype.type(1), shares).dot, out, shifted_variance),
            prepare_call(np.sqrt, shifted_variance, deviation),
            *([] if negative else [prepare_call(np.negative, deviation, deviation)]),
            prepare_call(np.divide, gamma, deviation, scale),
            *scales.refresh,
            scales.prepare(np.multiply, z, y),
            *prepare_by_row(np.subtract, y, beta, y),
        ]
        self.backward: list[Call] = [
            prepare_call((-shares).dot, gradient, beta_gradient),
            prepare_call(np.multiply, gradient, z, products),
            prepare_call(shares.dot, products, gamma_gradient),
            prepare_call(np.divide, gamma_gradient, deviation, gamma_gradient),
            prepare_call(np.divide, gamma_gradient, deviation, slope),
            *prepare_by_row(np.multiply, z, slope, terms),
            prepare_call(np.subtract, gradient, terms, gradient),
            *prepare_by_row(np.add, gradient, beta_gradient, gradient),
            scales.prepare(np.multiply, gradient, gradient),
        ]


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

    The recurrence is linear, so batches are only stored (`add`) and many of them go into the
    running values as one product (`settle`): one call a step instead of five.
    """

    _ROOM = 64

    def __init__(self, units: int, dtype: npt.DTypeLike) -> None:
        self.batch = np.zeros((2, units), dtype)  #: row 0 mean, row 1 biased variance + epsilon
        self.running = np.zeros((2, units), dtype)  #: row 0 mean, row 1 unbiased variance
        self.running[1] = 1.0
        self.batches = 0  #: number of batches in `running`
        self._added = np.zeros((2, self._ROOM, units), dtype)
        self._slots = [self._added[:, i] for i in range(self._ROOM)]
        self._shares, self._sum = np.zeros((2, self._ROOM), dtype), np.zeros(units, dtype)
        self._rows: list[int] = []

    def add(self, *, rows: int, decay: float, epsilon: float) -> None:
        """Add the batch of `rows` examples whose statistics stand in `batch`."""
        rows_added = self._rows
        self._slots[len(rows_added)][...] = self.batch  # 0.4 us less than copyto
        rows_added.append(rows)
        if len(rows_added) == self._ROOM:
            self.settle(decay=decay, epsilon=epsilon)

    def restart(self, batches: int) -> None:
        """Continue from running values of so many batches; forget batches that are not settled."""
        self.batches = batches
        self._rows.clear()

    def settle(self, *, decay: float, epsilon: float) -> None:
        """Take the added batches into `running`; needed before `running` is read."""
        count = len(self._rows)
        shares, remaining, total = self._shares, 1.0, 0.0
        for i in reversed(range(count)):
            seen, rows = self.batches + i, self._rows[i]
            old_share = min(decay, seen / (seen + 1))
            share = (1.0 - old_share) * remaining  # what the later batches leave of this one
            unbiased = share * rows / (rows - 1)
            shares[0, i], shares[1, i] = share, unbiased
            total += unbiased
            remaining *= old_share
        self.running *= self.running.dtype.type(remaining)
        for value, weights, added in zip(self.running, shares, self._added, strict=True):
            np.dot(weights[:count], added[:count], out=self._sum)
            value += self._sum
        variance = self.running[1]
        variance -= variance.dtype.type(epsilon * total)
        np.maximum(variance, 0.0, out=variance)  # rounding
        self.batches += count
        self._rows.clear()
