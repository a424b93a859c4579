"""Dropout that needs no rescaling at test time."""

from __future__ import annotations

import numpy as np

from trainers.network.arrays import Array, Call, aligned, call, constant, sign_mask

__all__ = ["Dropout"]


class Dropout:
    """Inverted dropout of a batch's activations.

    Srivastava et al. 2014, section 10 ("weights scaled at training time"), JMLR 15: each
    activation is kept with probability keep = 1 - dropped_share and then divided by keep, so its
    expectation does not change.

    Args:
        a: The activations (or their negatives), shape (rows, units); not changed.
        gradient: By `output`, becomes that by `a`; shape (rows, units).
        dropped_share: In (0, 1).
    """

    def __init__(self, a: Array, gradient: Array, *, dropped_share: float) -> None:
        dtype = a.dtype
        self.rng = np.random.default_rng(0)  #: set before each forward pass
        self.output = aligned(a.shape, dtype)  #: the last forward pass's result
        self._drawn = drawn = aligned(a.shape, dtype)
        keep, share = constant(1.0 - dropped_share, dtype), constant(1 / (1 - dropped_share), dtype)
        # drawn - keep is negative where an activation is kept: its sign makes the mask.
        mask, make_mask = sign_mask(drawn)
        bits, kept = gradient.view(mask.dtype), self.output.view(mask.dtype)
        self.forward: list[Call] = [
            self._draw,
            call(np.subtract, drawn, keep, drawn),
            make_mask,
            call(np.bitwise_and, a.view(mask.dtype), mask, kept),
            call(np.multiply, self.output, share, self.output),
        ]
        self.backward: list[Call] = [
            call(np.bitwise_and, bits, mask, bits),
            call(np.multiply, gradient, share, gradient),
        ]

    def _draw(self) -> None:
        self.rng.random(dtype=self._drawn.dtype.type, out=self._drawn)
