"""The contestants of benchmarks/training_step.py: one module each, imported when it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from trainers.network.arrays import Array
from trainers.network.losses import count_network_outputs

__all__ = ["DECAY", "EPSILON", "Contestant", "Entrant", "Pool", "Shape", "Split", "pool"]

DECAY, EPSILON = 0.9, 1e-5  #: decay and epsilon of batch norm, PyTorch's defaults


@dataclass(frozen=True, slots=True)
class Shape:
    """A network's inputs, hidden units and classes, and the batch size."""

    widths: tuple[int, ...]
    rows: int

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.widths))}@{self.rows}"

    @property
    def outputs(self) -> int:
        """Width of the output layer: ours needs one logit for two classes."""
        return count_network_outputs("classification", self.widths[-1])

    @property
    def flops(self) -> int:
        """Floating-point operations of a step's matrix products."""
        first, *others = [inputs * outputs for inputs, outputs in pairwise(self.widths)]
        return 2 * self.rows * (2 * first + 3 * sum(others))


@dataclass(frozen=True, slots=True)
class Pool:
    """Batches that a contestant trains on, again and again."""

    x: Array  #: (batches, rows, D) float32
    y: Array  #: (batches, rows) int64


@dataclass(frozen=True, slots=True)
class Split:
    """Data of a whole trial: features standardised, classes 0..K-1."""

    x: Array  #: (N, D) float32
    y: Array  #: (N,) int64
    x_validation: Array
    y_validation: Array


class Contestant(Protocol):
    """A way to train a network: Adam at 0.001, cross-entropy, batch norm if the library has it."""

    def __init__(self, shape: Shape, pool: Pool) -> None: ...

    def run(self, steps: int) -> None:
        """Train so many steps, a multiple of the pool's batches, and wait for the last."""


class Entrant(Contestant, Protocol):
    """A contestant that can also train a whole trial."""

    @staticmethod
    def trial(shape: Shape, split: Split, epochs: int) -> float:
        """Train a whole trial, evaluating each epoch, and return its validation accuracy."""


def pool(shape: Shape) -> Pool:
    """Make batches for a few to a hundred milliseconds of training."""
    batches = int(np.clip(2e9 // shape.flops, 4, 64))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batches, shape.rows, shape.widths[0])).astype(np.float32)
    return Pool(x, rng.integers(0, shape.widths[-1], (batches, shape.rows)))
