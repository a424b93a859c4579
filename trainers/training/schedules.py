"""Learning rate as a function of the finished epochs."""

from __future__ import annotations

import math

from trainers.errors import ConfigError

__all__ = ["SCHEDULES", "learning_rate"]

SCHEDULES = ("constant", "inverse", "exponential", "cosine")


def learning_rate(
    schedule: str, *, initial_rate: float, decay_rate: float, epoch: int, max_epochs: int
) -> float:
    """The learning rate to use after `epoch` finished epochs; constant within an epoch. Pure.

    With t = epoch, k = decay_rate and T = max_epochs:

        constant     rate
        inverse      rate / (1 + k t)
        exponential  rate exp(-k t)
        cosine       rate (1 + cos(pi t / T)) / 2; Loshchilov & Hutter 2017, eq. 5, without
                     restarts, arXiv:1608.03983; 0 from T on

    Args:
        schedule: One of SCHEDULES.
        initial_rate: The rate of the first epoch, >= 0.
        decay_rate: k, per epoch, >= 0; unused by "constant" and "cosine".
        epoch: Epochs finished so far, >= 0.
        max_epochs: Where "cosine" reaches 0, >= 1.

    Raises:
        ConfigError: If the schedule is unknown.
    """
    match schedule:
        case "constant":
            return initial_rate
        case "inverse":
            return initial_rate / (1.0 + decay_rate * epoch)
        case "exponential":
            return initial_rate * math.exp(-decay_rate * epoch)
        case "cosine":
            done = min(epoch / max_epochs, 1.0)
            return initial_rate * 0.5 * (1.0 + math.cos(math.pi * done))
        case _:
            raise ConfigError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
