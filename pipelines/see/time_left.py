"""How long a running search will still need: one estimate for all places that show it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipelines.see.formatting import format_duration

__all__ = ["LimitedWork", "TimeLeft", "estimate_time_left"]

SLICES = 8  #: equal parts of the session's time; the later half of them give the pace


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLeft:
    """Seconds until the budget is used up: an estimate, and the range that it may lie in."""

    seconds: float
    low: float  #: seconds at the fastest pace seen lately
    high: float  #: seconds at the slowest pace seen lately; inf if the pace is hardly known

    def __str__(self) -> str:
        if self.high - self.low < 1:
            return f"{format_duration(self.seconds)} left"
        about = f"about {format_duration(self.seconds)} left"
        if math.isinf(self.high):
            return about
        return f"{about} ({format_duration(self.low)} to {format_duration(self.high)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedWork:
    """Work of one kind that a budget limits: epochs, or trials begun."""

    done_at: np.ndarray  #: seconds since the run began at which each unit of the session was done
    remaining: float  #: units until the budget is used up; inf without such a budget


def estimate_time_left(
    works: Iterable[LimitedWork], *, deadline: float | None, begun: float, now: float
) -> TimeLeft | None:
    """Estimate how long the budget will last; None where nothing tells it.

    The work that remains is divided by the pace of the later half of the session, in `SLICES`
    slices of time; the slowest and the fastest slice give the range. Seen at 20 to 85 % of the time
    of nine recorded runs, the last start lay in the range 3 times of 4, the last epoch every other
    time. Before there are two units a slice, the pace is that of the whole session, and its range
    the standard error of a count: n units plus or minus their square root.

    Args:
        works: What the budget limits by count.
        deadline: Seconds since the run began at which the time is up; None without such a budget.
        begun: Seconds since the run began at which the session began.
        now: Seconds since the run began.

    Returns:
        The estimate of the limit that is reached first.
    """
    estimates = []
    if deadline is not None:
        rest = max(deadline - now, 0.0)
        estimates.append(TimeLeft(seconds=rest, low=rest, high=rest))
    for work in works:
        if len(work.done_at) and now > begun and 0 < work.remaining < math.inf:
            until = max(now, float(work.done_at.max()))
            many = len(work.done_at) >= 2 * SLICES
            divide = _divide_by_late_pace if many else _divide_by_mean_pace
            estimates.append(divide(work, begun, until))
    return min(estimates, key=lambda one: one.seconds, default=None)


def _divide_by_late_pace(work: LimitedWork, begun: float, now: float) -> TimeLeft:
    counts, edges = np.histogram(work.done_at, bins=SLICES, range=(begun, now))
    late = np.maximum(counts[SLICES // 2 :], 0.5)  # an empty slice counts as half a unit
    paces = np.array([late.mean(), late.max(), late.min()]) / (edges[1] - edges[0])
    seconds, low, high = (work.remaining / paces).tolist()
    return TimeLeft(seconds=seconds, low=low, high=high)


def _divide_by_mean_pace(work: LimitedWork, begun: float, now: float) -> TimeLeft:
    count = len(work.done_at)
    error = 1 / math.sqrt(count)
    seconds = work.remaining * (now - begun) / count
    high = seconds / (1 - error) if count > 1 else math.inf
    return TimeLeft(seconds=seconds, low=seconds / (1 + error), high=high)
