"""A search in virtual time: what it would do, without training anything."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orchestrator.search.events import Event, Kind
from orchestrator.search.messages import Assignment, Report
from orchestrator.search.random_streams import Purpose
from orchestrator.search.search import Search

__all__ = ["SimulationResult", "simulate", "synthetic_loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """What a simulated search came to."""

    trials: int
    epochs: int
    seconds: float  #: virtual
    reached: dict[int, int]  #: epoch -> how many trials were trained up to it


def simulate(
    search: Search,
    *,
    budget: Event,
    workers: int,
    epoch_seconds: Callable[[Assignment], float],
    loss: Callable[[Assignment, int], float] | None = None,
) -> SimulationResult:
    """Run a search against made-up workers, ties in time first come, first served.

    Args:
        search: A fresh one; it is used up.
        budget: The session event that names the budget.
        workers: How many work side by side.
        epoch_seconds: What an epoch of an assignment costs.
        loss: Of an assignment after an epoch; made up unless given.
    """
    loss = loss or synthetic_loss
    search.apply(budget)
    order = itertools.count()
    queue: list[tuple[float, int, Assignment, int]] = []  # (when, order, assignment, epoch)
    reached: Counter[int] = Counter()
    limit = budget.budget_epochs or float("inf")
    deadline = budget.budget_seconds or float("inf")
    now, free = 0.0, workers
    while search.epochs < limit:
        while free:
            events = search.suggest()
            if not events or events[-1].kind not in (Kind.START, Kind.PROMOTE):
                break
            free -= 1
            a = search.assignment(events[-1])
            finish = now + epoch_seconds(a)
            heapq.heappush(queue, (finish, next(order), a, a.start_epoch + 1))
        if not queue or queue[0][0] > deadline:
            break
        now, _, a, epoch = heapq.heappop(queue)
        value = loss(a, epoch)
        last = epoch == a.stop_epoch
        report = Report(
            trial=a.trial,
            attempt=a.attempt,
            epoch=epoch,
            metrics={},
            score=(value, 0.0),
            seconds=0.0,
            worker=0,
            last=last,
        )
        search.observe(report, now)
        if last:
            free += 1
            reached[epoch] += 1
        else:
            finish = now + epoch_seconds(a)
            heapq.heappush(queue, (finish, next(order), a, epoch + 1))
    return SimulationResult(
        trials=len(search.trials),
        epochs=search.epochs,
        seconds=now,
        reached=dict(sorted(reached.items())),
    )


def synthetic_loss(assignment: Assignment, epoch: int) -> float:
    """A power law down to an asymptote of the trial's own: as learning curves often look."""
    rng = np.random.default_rng((assignment.seed, Purpose.SIMULATE))
    asymptote, head, slope = rng.random(3)
    return float(asymptote + head * epoch ** -(0.3 + slope))
