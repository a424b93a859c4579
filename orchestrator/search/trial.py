"""The life of a trial, and the three messages that pass between the search and a worker.

Assignment ──► worker ──► Report (one an epoch; the last one carries the trial's state)
                    └───► Failure (the trainer raised, or the worker was lost)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np

from orchestrator.search.events import Kind
from orchestrator.space.space import Config

__all__ = [
    "ENDED",
    "LEFT_BEHIND",
    "TRANSITIONS",
    "WORST",
    "Assignment",
    "Failure",
    "Objective",
    "Report",
    "Score",
    "State",
    "Status",
]

Score = tuple[float, float]  #: (loss, tie-breaker); smaller is better; not finite counts as +inf
WORST: Score = (math.inf, math.inf)

#: A trial at the end of an epoch: flat, no pickles. Owned by the trainer, opaque to everyone else.
State = Mapping[str, "np.ndarray | float | int | str | bytes"]


class Status(StrEnum):
    """Where a trial is in its life."""

    RUNNING = "RUNNING"  #: an assignment is out, or will be given out again
    PAUSED = "PAUSED"  #: waits in a rung; may still be promoted
    PRUNED = "PRUNED"  #: given up; final
    COMPLETED = "COMPLETED"  #: trained all its epochs
    DIVERGED = "DIVERGED"  #: its loss was not finite, or exploded
    FAILED = "FAILED"  #: its trainer raised, or its workers died again and again
    STOPPED = "STOPPED"  #: the session ended in the middle of its assignment; a resume goes on


#: The whole life of a trial: (where it is, what happens) -> where it goes. Nothing else is allowed.
TRANSITIONS: dict[tuple[Status | None, Kind], Status] = {
    (None, Kind.START): Status.RUNNING,
    (Status.PAUSED, Kind.PROMOTE): Status.RUNNING,
    (Status.RUNNING, Kind.RETRY): Status.RUNNING,
    (Status.STOPPED, Kind.RETRY): Status.RUNNING,
    (Status.RUNNING, Kind.STOP): Status.STOPPED,
    (Status.RUNNING, Kind.PAUSE): Status.PAUSED,
    (Status.RUNNING, Kind.COMPLETE): Status.COMPLETED,
    (Status.RUNNING, Kind.DIVERGE): Status.DIVERGED,
    (Status.RUNNING, Kind.FAIL): Status.FAILED,
    (Status.RUNNING, Kind.PRUNE): Status.PRUNED,
    (Status.PAUSED, Kind.PRUNE): Status.PRUNED,
}

#: Statuses that no event leads out of.
ENDED = frozenset(Status) - {source for source, _ in TRANSITIONS if source is not None}

#: Statuses of trials that pruning left behind, for good or so far.
LEFT_BEHIND = (Status.PAUSED, Status.PRUNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Which metric decides, and which one breaks its ties; the sign is flipped here, once."""

    metric: str  #: as the trainer names it: validation_accuracy
    maximize: bool
    tie_metric: str | None = None
    tie_maximize: bool = False

    def score(self, metrics: Mapping[str, float]) -> Score:
        """(loss, tie-breaker), smaller is better; a value that is not finite counts as +inf."""
        loss = _loss(metrics[self.metric], maximize=self.maximize)
        if self.tie_metric is None or loss == math.inf:
            return loss, loss if loss == math.inf else 0.0
        return loss, _loss(metrics[self.tie_metric], maximize=self.tie_maximize)

    def value(self, loss: float) -> float:
        """The metric as a user reads it, back from the loss."""
        return -loss if self.maximize else loss

    def __str__(self) -> str:
        return self.metric.replace("_", " ", 1)


def _loss(value: float, *, maximize: bool) -> float:
    if not math.isfinite(value):
        return math.inf
    return -value if maximize else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a worker is asked to do: train epochs start_epoch + 1 … stop_epoch of one trial."""

    trial: int
    config: Config
    seed: int  #: of the trial's own random numbers; the same in every attempt
    start_epoch: int  #: 0 = from scratch
    stop_epoch: int
    attempt: int  #: 1, 2, …; a report of an earlier attempt is dropped (a fence)
    explode_above: float  #: a train_loss beyond it ends the assignment
    beat: Score = WORST  #: the run's best so far: a report that beats it carries its state along
    slowest_seconds: float = 0.0  #: of the trial's epochs so far; 0 before the first report
    alone: bool = False  #: its worker was lost before: nobody else's work waits behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one epoch of one trial came to."""

    trial: int
    attempt: int
    epoch: int  #: from 1
    metrics: Mapping[str, float]
    score: Score  #: WORST where there is a cause: what went bad is never the best
    seconds: float  #: wall time the epoch took in its worker
    worker: int
    cause: str = ""  #: why the worker ended the assignment here: not finite, or exploded
    last: bool = False  #: the assignment ends with this report
    state: State | None = None  #: with the assignment's last report, and with a new best


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An assignment that ended without its last report."""

    trial: int
    attempt: int
    kind: Literal["raised", "lost"]  #: the trainer raised, or the worker died under it
    message: str  #: one line
    traceback: str = ""
    worker: int = 0
