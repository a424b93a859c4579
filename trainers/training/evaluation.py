"""The outputs and targets of a whole set of rows, which metrics are computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainers.network.arrays import Array

__all__ = ["Evaluation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A network's outputs for a whole set of rows, such as the validation set, and the targets."""

    outputs: Array  #: (N, K): logits, or predicted targets in standardised units
    targets: Array  #: (N,): class indices, or standardised targets
    classes: int  #: number of classes (two have one logit, K = 1), or 1 for regression
    block_rows: int  #: rows at a time in `sum_over_blocks`, >= 1
    target_scale: float = 1.0  #: regression: natural units for one standardised unit; > 0

    def sum_over_blocks(self, compute: Callable[[Array, Array], float]) -> float:
        """Sum `compute(outputs, targets)` over blocks of rows.

        A formula that adds something up over the rows needs temporary memory for one block only:
        with thousands of classes the float64 copy of all outputs would be large.
        """
        total = 0.0
        for first in range(0, len(self.targets), self.block_rows):
            rows = slice(first, first + self.block_rows)
            total += compute(self.outputs[rows], self.targets[rows])
        return total
