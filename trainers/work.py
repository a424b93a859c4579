"""What an epoch costs, estimated from the hyperparameters alone.

A search weighs what a configuration may bring against what it costs. Measured seconds would make
its decisions differ from run to run; this estimate is the same everywhere.
"""

from __future__ import annotations

from itertools import pairwise

from trainers.config import Settings

__all__ = ["epoch_work"]

# Microseconds on one processor of 2026, fitted by eye to benchmarks/training_step.py: within a
# factor of 1.5 for its seven networks. Only ratios count.
_STEP, _LAYER = 15.0, 10.0  # of Python and NumPy calls: a step, and each of its layers
_PRODUCT = 7e-5  # a weight and example: three matrix products
_ELEMENT = 6e-3  # a unit and example: batch norm, activation and back
_WEIGHT = {"sgd": 3e-4, "momentum": 5e-4, "rmsprop": 9e-4, "adam": 1.2e-3}  # the update


def epoch_work(settings: Settings, *, columns: int, outputs: int, examples: int) -> float:
    """Roughly how many microseconds an epoch of training takes on one processor."""
    widths = (columns, *settings.units, outputs)
    weights = sum(a * b for a, b in pairwise(widths))
    batch = min(settings.batch_size, examples)
    step = (
        _STEP
        + _LAYER * (len(widths) - 1)
        + batch * (_PRODUCT * weights + _ELEMENT * sum(settings.units))
        + _WEIGHT[settings.optimizer] * weights
    )
    return step * examples / batch
