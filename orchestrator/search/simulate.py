"""Simulation of a search in virtual time, without training."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orchestrator.search.budget import Budget, remaining
from orchestrator.search.events import Assigning, SessionStarted
from orchestrator.search.messages import Assignment, Report
from orchestrator.search.random_streams import Purpose
from orchestrator.search.search import Search

__all__ = ["SimulationResult", "simulate", "synthetic_loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """Totals of a simulated search."""

    trials: int  #: number of trials started
    epochs: int  #: number of epochs reported
    seconds: float  #: virtual time at the end
    reached: dict[int, int]  #: epoch -> number of assignments that ended there


def simulate(
    search: Search,
    *,
    budget: Budget,
    workers: int,
    epoch_seconds: Callable[[Assignment], float],
    loss: Callable[[Assignment, int], float] | None = None,
) -> SimulationResult:
    """Run a search with simulated workers.

    If two epochs finish at the same time, the one that began first is reported first.

    Args:
        search: A fresh search; the simulation changes it.
        budget: The limits of the search.
        workers: Number of workers that train at the same time.
        epoch_seconds: Duration of one epoch of an assignment.
        loss: Loss of an assignment after an epoch; the default is `synthetic_loss`.
    """
    loss = loss or synthetic_loss
    search.apply(SessionStarted(budget=budget))
    order = itertools.count()
    queue: list[tuple[float, int, Assignment, int]] = []  # (when, order, assignment, epoch)
    reached: Counter[int] = Counter()
    deadline = remaining(budget.seconds, 0.0)
    now, free = 0.0, workers
    while remaining(budget.epochs, search.epochs) > 0:
        while free:
            events = search.suggest()
            if not events or not isinstance(events[-1], Assigning):
                break
            free -= 1
            a = search.make_assignment(events[-1])
            finish = now + epoch_seconds(a)
            heapq.heappush(queue, (finish, next(order), a, a.start_epoch + 1))
        if not queue or queue[0][0] > deadline:
            break
        now, _, a, epoch = heapq.heappop(queue)
        report = _make_report(a, epoch, loss(a, epoch))
        search.observe(report, now)
        if report.last:
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


def _make_report(assignment: Assignment, epoch: int, loss: float) -> Report:
    return Report(
        trial=assignment.trial,
        attempt=assignment.attempt,
        epoch=epoch,
        metrics={},
        score=(loss, 0.0),
        seconds=0.0,
        worker=0,
        last=epoch == assignment.stop_epoch,
    )


def synthetic_loss(assignment: Assignment, epoch: int) -> float:
    """Loss on a synthetic learning curve: a power law down to a random asymptote of the trial."""
    rng = np.random.default_rng((assignment.seed, Purpose.SIMULATE))
    asymptote, head, slope = rng.random(3)
    return float(asymptote + head * epoch ** -(0.3 + slope))
