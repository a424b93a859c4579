"""The messages between the search and a worker.

Assignment ──► worker ──► Report (one for each epoch; the last one carries the trial's state)
└───► Failure (the trainer raised an error, or the worker was lost)

TrialMessage ──► worker ──► the same TrialMessage, with the epoch after which it was carried out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orchestrator.search.events import Event, TrialMessage
from orchestrator.search.objective import WORST, Score
from orchestrator.space.domains import Config

__all__ = ["Assignment", "Entry", "Failure", "Observation", "Report", "State"]


#: State of a trial after an epoch: a flat mapping without pickles, which only the trainer reads.
State = Mapping[str, "np.ndarray | float | int | str | bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A task for a worker: train epochs start_epoch + 1 … stop_epoch of one trial."""

    trial: int
    config: Config
    seed: int  #: seed of the trial's random numbers; the same in every attempt
    start_epoch: int  #: epochs trained before; 0 = train from scratch
    stop_epoch: int
    attempt: int  #: attempt number, from 1; a report of an earlier attempt is dropped
    explode_above: float  #: a train_loss above this ends the assignment
    best_score: Score = WORST  #: the run's best so far; a report with a better score has its state
    slowest_seconds: float = 0.0  #: time of the trial's slowest epoch; 0 before the first report
    #: A previous attempt lost its worker, so it runs on a worker with nothing else queued.
    isolate: bool = False
    #: messages that the trial has received so far; they are carried out again after their epochs
    received: tuple[TrialMessage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of one epoch of one trial."""

    trial: int
    attempt: int
    epoch: int  #: number of the epoch, from 1
    metrics: Mapping[str, float]
    score: Score  #: WORST if there is a cause, so that a bad epoch is never the best
    seconds: float  #: wall time of the epoch in its worker
    worker: int
    cause: str = ""  #: why the worker ended the assignment: not finite, or exploded
    last: bool = False  #: whether the assignment ends with this report
    state: State | None = None  #: set in the assignment's last report, and with a new best score


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An assignment that ended without its last report."""

    trial: int
    attempt: int
    kind: Literal["raised", "lost"]  #: the trainer raised an error, or the worker died
    message: str  #: the error in one line
    traceback: str = ""
    worker: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A report, with the time at which the driver received it."""

    report: Report
    at_seconds: float  #: seconds since the run began, without the breaks between sessions


#: One row of a run's log.
Entry = Event | Observation
