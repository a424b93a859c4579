"""Learning rate as a function of the finished epochs.

With t the finished epochs, k the `schedule_rate` per epoch and T the `max_epochs`. Every schedule
is constant within an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from trainers.hyperparameters import Choice, Number

__all__ = ["SCHEDULES", "compute_learning_rate"]

#: Computes the rate from the initial one, `epoch`, `max_epochs` and the schedule's own numbers.
Schedule: TypeAlias = Callable[..., float]

#: The schedules that a configuration can name.
SCHEDULES: Choice[Schedule] = Choice("schedule", default="constant", adjustable=True)

#: k, per epoch: how fast the rate falls.
_DECAY_RATE = Number(default=0.0, argument="decay_rate")


def compute_learning_rate(
    schedule: str,
    numbers: Mapping[str, float],
    *,
    initial_rate: float,
    epoch: int,
    max_epochs: int,
) -> float:
    """Compute the learning rate to use after `epoch` finished epochs. Pure.

    Args:
        schedule: One of SCHEDULES.
        numbers: Values of the numbers that schedules have, `schedule_rate` among them.
        initial_rate: The rate of the first epoch, >= 0.
        epoch: Epochs finished so far, >= 0.
        max_epochs: Epochs after which the cosine schedule reaches 0, >= 1.

    Raises:
        ConfigError: If the schedule is unknown.
    """
    compute = SCHEDULES.find(schedule)
    arguments = SCHEDULES.select_arguments(schedule, numbers)
    return compute(initial_rate, epoch=epoch, max_epochs=max_epochs, **arguments)


@SCHEDULES.add("constant")
def compute_constant_rate(initial_rate: float, *, epoch: int, max_epochs: int) -> float:
    """Return the initial rate."""
    return initial_rate


@SCHEDULES.add("inverse", schedule_rate=_DECAY_RATE)
def compute_inverse_rate(
    initial_rate: float, *, epoch: int, max_epochs: int, decay_rate: float
) -> float:
    """Compute rate / (1 + k t)."""
    return initial_rate / (1.0 + decay_rate * epoch)


@SCHEDULES.add("exponential", schedule_rate=_DECAY_RATE)
def compute_exponential_rate(
    initial_rate: float, *, epoch: int, max_epochs: int, decay_rate: float
) -> float:
    """Compute rate exp(-k t)."""
    return initial_rate * math.exp(-decay_rate * epoch)


@SCHEDULES.add("cosine")
def compute_cosine_rate(initial_rate: float, *, epoch: int, max_epochs: int) -> float:
    """Compute rate (1 + cos(pi t / T)) / 2, which is 0 from T on.

    Loshchilov & Hutter 2017, eq. 5, without restarts, arXiv:1608.03983.
    """
    share = min(epoch / max_epochs, 1.0)
    return initial_rate * 0.5 * (1.0 + math.cos(math.pi * share))
