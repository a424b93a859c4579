"""Inverted dropout, which needs no rescaling at test time."""

from __future__ import annotations

import numpy as np

from trainers.network.arrays import (
    Array,
    Call,
    allocate,
    make_constant,
    prepare_call,
    prepare_sign_mask,
)

__all__ = ["Dropout"]


class Dropout:
    """Inverted dropout of a batch's activations.

    Srivastava et al. 2014, section 10 ("weights scaled at training time"), JMLR 15: each
    activation is kept with probability keep = 1 - dropped_share and then divided by keep, so its
    expectation does not change.

    Args:
        a: The activations (or their negatives), shape (rows, units); not changed.
        gradient: Gradient by `output`, becomes that by `a`; shape (rows, units).
        dropped_share: Share of activations that are dropped, in (0, 1).
    """

    def __init__(self, a: Array, gradient: Array, *, dropped_share: float) -> None:
        dtype = a.dtype
        #: Generator of the masks, to be set before each run of steps.
        self.rng = np.random.default_rng(0)
        #: Activations after dropout, of the last forward pass.
        self.output = allocate(a.shape, dtype)
        self._drawn = drawn = allocate(a.shape, dtype)
        keep = make_constant(1.0 - dropped_share, dtype)
        factor = make_constant(1 / (1 - dropped_share), dtype)
        # drawn - keep is negative where an activation is kept: its sign makes the mask.
        mask, make_mask = prepare_sign_mask(drawn)
        bits, output_bits = gradient.view(mask.dtype), self.output.view(mask.dtype)
        self.forward: list[Call] = [
            self._draw,
            prepare_call(np.subtract, drawn, keep, drawn),
            make_mask,
            prepare_call(np.bitwise_and, a.view(mask.dtype), mask, output_bits),
            prepare_call(np.multiply, self.output, factor, self.output),
        ]
        self.backward: list[Call] = [
            prepare_call(np.bitwise_and, bits, mask, bits),
            prepare_call(np.multiply, gradient, factor, gradient),
        ]

    def _draw(self) -> None:
        self.rng.random(dtype=self._drawn.dtype.type, out=self._drawn)
