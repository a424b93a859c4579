"""Cutting an epoch into shuffled batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trainers.arrays import Array

__all__ = ["ShuffledBatches", "batch_bounds"]

#: Bytes of x gathered at a time: larger data is shuffled all the same, but copied in blocks.
_BLOCK_BYTES = 64 * 2**20


def batch_bounds(examples: int, batch_size: int) -> list[tuple[int, int]]:
    """Start and stop of each batch of an epoch. Pure.

    The last batch may be shorter; one example alone has no batch variance, so it joins the batch
    before it, which is then batch_size + 1 long. A `batch_size` above `examples` gives one batch.

    Args:
        examples: In the training set, >= 2.
        batch_size: Examples, >= 2.
    """
    starts = range(0, examples, batch_size)
    bounds = [(start, min(start + batch_size, examples)) for start in starts]
    if bounds[-1][1] - bounds[-1][0] == 1:
        bounds[-2:] = [(bounds[-2][0], examples)]
    return bounds


class ShuffledBatches:
    """Every example once an epoch, in random order; a batch is a view of one gathered copy.

    Gathering once an epoch costs a tenth of a fancy index for each batch.

    Args:
        x: Features, shape (N, D). Not changed.
        y: Class indices or targets, shape (N,). Not changed.
        rows_of_class: Target row of each class, shape (classes, K), or None if `y` itself is the
            target.
        batch_size: Examples, >= 2.
        block_bytes: How much of x to gather at a time.
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        *,
        rows_of_class: Array | None,
        batch_size: int,
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        # np.take would copy an array that is not contiguous at every call.
        self._x = np.ascontiguousarray(x)
        self._bounds = batch_bounds(len(x), batch_size)
        per_block = max(block_bytes // max(self._x[0].nbytes * batch_size, 1), 1) * batch_size
        self._block_rows = min(per_block, len(x))
        # One row more, for a single last example that joins the batch before it.
        room = min(per_block + 1, len(x))
        self._codes = None if rows_of_class is None else np.asarray(y, np.intp)
        self._table = y.astype(x.dtype)[:, None] if rows_of_class is None else rows_of_class
        self._x_block = np.empty((room, x.shape[1]), x.dtype)
        self._target_block = np.empty((room, self._table.shape[1]), x.dtype)

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
        """Batches of x, shape (B, D), and targets, shape (B, K); views, valid until the next."""
        order = rng.permutation(len(self._x))
        first = end = 0
        for start, stop in self._bounds:
            if stop > end:
                first, end = start, max(min(start + self._block_rows, len(order)), stop)
                self._gather(order[first:end])
            rows = slice(start - first, stop - first)
            yield self._x_block[rows], self._target_block[rows]

    def _gather(self, chosen: Array) -> None:
        rows = len(chosen)
        # mode="clip" writes straight into `out`; the default goes through a copy of it.
        np.take(self._x, chosen, axis=0, out=self._x_block[:rows], mode="clip")
        codes = chosen if self._codes is None else np.take(self._codes, chosen)
        np.take(self._table, codes, axis=0, out=self._target_block[:rows], mode="clip")
