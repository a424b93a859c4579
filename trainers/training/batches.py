"""Shuffled batches of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice, repeat

import numpy as np

from trainers.network.arrays import Array
from trainers.network.losses import Loss

__all__ = ["ShuffledBatches", "compute_batch_bounds"]

#: Bytes of x gathered at a time: larger data is shuffled as a whole, too, but copied in blocks.
_BLOCK_BYTES = 64 * 2**20


def compute_batch_bounds(examples: int, batch_size: int) -> list[tuple[int, int]]:
    """Compute start and stop of each batch of an epoch. Pure.

    The last batch may be shorter; one example alone has no batch variance, so it joins the batch
    before it, which is then batch_size + 1 long. A `batch_size` above `examples` gives one batch.

    Args:
        examples: Examples in the training set, >= 2.
        batch_size: Examples in a batch, >= 2.
    """
    starts = range(0, examples, batch_size)
    bounds = [(start, min(start + batch_size, examples)) for start in starts]
    if bounds[-1][1] - bounds[-1][0] == 1:
        bounds[-2:] = [(bounds[-2][0], examples)]
    return bounds


class ShuffledBatches:
    """Batches of an epoch with every example once, in random order.

    A batch is a view of one gathered copy: gathering once an epoch costs a tenth of a fancy index
    for each batch.

    Args:
        x: Features, shape (N, D). Not changed.
        y: Class indices or targets, shape (N,). Not changed.
        loss: Class of the loss, which makes the targets.
        classes: Number of classes, or 1.
        batch_size: Examples in a batch, >= 2.
        weights: Each example's weight, mean 1, shape (N,), or None if all are alike.
        block_bytes: Bytes of x to gather at a time.
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        *,
        loss: type[Loss],
        classes: int,
        batch_size: int,
        weights: Array | None = None,
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        # np.take would copy an array that is not contiguous at every call.
        self._x, self._y, self._weights = np.ascontiguousarray(x), y, weights
        self._loss, self._classes = loss, classes
        self._bounds = compute_batch_bounds(len(x), batch_size)
        example = self._x[0].nbytes + classes * (1 + self._x.itemsize)
        per_block = max(block_bytes // (example * batch_size), 1) * batch_size
        self._block_rows = min(per_block, len(x))
        # One row more, for a single last example that joins the batch before it.
        self._x_block = np.empty((min(per_block + 1, len(x)), x.shape[1]), x.dtype)

    @property
    def largest_batch(self) -> int:
        """Number of examples in the largest batch."""
        return max(stop - start for start, stop in self._bounds)

    def draw_epoch(self, rng: np.random.Generator) -> Iterator[tuple[Array, Array, Array | None]]:
        """Draw the batches of an epoch: x (B, D), targets (K, B) and shares (B,).

        All three are views, valid until the next batch. Shares are None if there are no weights.
        """
        order = rng.permutation(len(self._x))
        for length, batches in groupby(self._bounds, key=lambda bounds: bounds[1] - bounds[0]):
            at_a_time = max(self._block_rows // length, 1)
            while block := list(islice(batches, at_a_time)):
                yield from self._gather(order[block[0][0] : block[-1][1]], length)

    def _gather(self, rows: Array, length: int) -> Iterator[tuple[Array, Array, Array | None]]:
        # mode="clip" writes straight into `out`; the default goes through a copy of it.
        x = np.take(self._x, rows, axis=0, out=self._x_block[: len(rows)], mode="clip")
        shares = np.full((len(rows) // length, length), 1.0 / length, self._x.dtype)
        if self._weights is not None:
            shares *= self._weights[rows].reshape(shares.shape)
        targets = self._loss.make_targets(
            self._y[rows].reshape(shares.shape), shares, self._classes
        )
        weighted = repeat(None) if self._weights is None else shares
        yield from zip(x.reshape(*shares.shape, -1), targets, weighted, strict=False)
