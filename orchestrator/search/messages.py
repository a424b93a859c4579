"""The messages between the search and a worker.

Assignment ──► worker ──► Report (one an epoch; the last one carries the trial's state)
└───► Failure (the trainer raised, or the worker was lost)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orchestrator.search.events import Event
from orchestrator.search.objective import WORST, Score
from orchestrator.space.domains import Config

__all__ = ["Assignment", "Entry", "Failure", "Observation", "Report", "State"]


#: A trial at the end of an epoch: flat, no pickles. Owned by the trainer, opaque to everyone else.
State = Mapping[str, "np.ndarray | float | int | str | bytes"]


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
    best_score: Score = WORST  #: the run's best so far; a report with a better score has its state
    slowest_seconds: float = 0.0  #: of the trial's epochs so far; 0 before the first report
    #: A previous attempt lost its worker, so it runs on a worker with nothing else queued.
    isolate: bool = False


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A report as the driver took it in."""

    report: Report
    at_seconds: float  #: seconds since the run began, without the breaks between sessions


#: One row of a run's log.
Entry = Event | Observation
