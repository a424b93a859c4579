"""Dropout that needs no rescaling at test time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainers.arrays import Array

__all__ = ["Dropout"]


class Dropout:
    """Inverted dropout for batches of one shape (rows, units).

    Srivastava et al. 2014, section 10 ("weights scaled at training time"), JMLR 15: each
    activation is kept with probability keep = 1 - dropped_share and then divided by keep, so its
    expectation does not change.
    """

    def __init__(
        self, rows: int, units: int, *, dropped_share: float, dtype: npt.DTypeLike
    ) -> None:
        self._keep = 1.0 - dropped_share
        self._kept = np.empty((rows, units), np.bool_)
        self._factor = np.empty((rows, units), dtype)
        self.output = np.empty((rows, units), dtype)  #: the last forward pass's result

    def forward(self, a: Array, rng: np.random.Generator) -> Array:
        """`a` with some entries 0 and the others divided by keep; `a` itself stays."""
        factor = self._factor
        rng.random(dtype=factor.dtype.type, out=factor)
        np.less(factor, self._keep, out=self._kept)
        np.multiply(self._kept, 1.0 / self._keep, out=factor, dtype=factor.dtype)
        return np.multiply(a, factor, out=self.output)

    def backward(self, gradient: Array) -> None:
        """Multiply the gradient, in place, by the factors of the last forward pass."""
        np.multiply(gradient, self._factor, out=gradient)
