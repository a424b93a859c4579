"""What happens in a run, as values: each event is one row of the events table.

The state of a search is the sum of its events and of the epochs' reports, so a run is resumed by
applying them again. Every decision says why, in words (`reason`) and in numbers (`Comparison`,
`Forecast`). There is one class for each kind of event; each holds what its kind needs and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from orchestrator.search.budget import Budget
from orchestrator.search.objective import Objective
from orchestrator.space.domains import Config

__all__ = [
    "EVENT_TYPES",
    "Assigning",
    "AssignmentEnded",
    "Box",
    "Comparison",
    "EndDetails",
    "Event",
    "Forecast",
    "Interval",
    "Kind",
    "ModelTested",
    "SessionDetails",
    "SessionEnded",
    "SessionStarted",
    "TrialCompleted",
    "TrialDiverged",
    "TrialEvent",
    "TrialFailed",
    "TrialPaused",
    "TrialPromoted",
    "TrialPruned",
    "TrialRetried",
    "TrialStarted",
    "TrialStopped",
    "ZoomedIn",
]


class Kind(StrEnum):
    """The kinds of events, as the column `kind` names them."""

    SESSION = "session"
    ZOOM = "zoom"
    START = "start"
    PROMOTE = "promote"
    RETRY = "retry"
    PAUSE = "pause"
    COMPLETE = "complete"
    DIVERGE = "diverge"
    FAIL = "fail"
    PRUNE = "prune"
    STOP = "stop"
    TEST = "test"
    END = "end"


#: Dimension -> (low, high) in the unit cube; a dimension that is not named has its whole range.
Box = Mapping[str, tuple[float, float]]
#: Low and high end of a confidence interval.
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A trial's place among the trials that reached the same rung. Losses: smaller is better."""

    rung: int | None = None  #: the epoch of the rung
    rank: int | None = None  #: the trial's place there, from 1
    peers: int | None = None  #: number of trials with a value there, this one included
    cutoff: float | None = None  #: the loss that had to be reached; None if no loss was fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The loss that the surrogate model expects of a trial at its last epoch."""

    expected: float  #: median
    low: float  #: one standard deviation of the model's scale better
    high: float  #: one standard deviation worse


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDetails:
    """Where and with what a session runs. Fields that a log does not have take the default."""

    workers: int = 0
    pool: str = ""  #: ray | inline
    address: str | None = None  #: address of a Ray cluster; None for one of this machine
    host: str = ""
    process: int = 0
    python: str = ""
    platform: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)  #: package -> version
    objective: Objective | None = None
    method: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)  #: part of the data -> number of rows


@dataclass(frozen=True, slots=True, kw_only=True)
class EndDetails:
    """What a session's driver counted."""

    dropped_reports: int = 0  #: reports of attempts that had been given up
    worker_seconds: float | None = None  #: sum over all workers of the time they were up


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events have in common."""

    kind: ClassVar[Kind]
    reason: str = ""  #: why, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(Event):
    """A driver takes the run up; from here on this budget holds."""

    kind: ClassVar[Kind] = Kind.SESSION
    budget: Budget = field(default_factory=Budget)  #: of the run in all, over all its sessions
    details: SessionDetails = field(default_factory=SessionDetails)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(Event):
    """The session is over."""

    kind: ClassVar[Kind] = Kind.END
    status: str = ""  #: finished | interrupted | failed
    details: EndDetails = field(default_factory=EndDetails)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoomedIn(Event):
    """The fine stage draws from a new box."""

    kind: ClassVar[Kind] = Kind.ZOOM
    zoom: int  #: the box's number, from 1
    box: Box
    parents: tuple[int, ...] = ()  #: the trials that the box lies around
    stage: str = "fine"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEvent(Event):
    """What all events of one trial have in common."""

    trial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigning(TrialEvent):
    """A trial gets an assignment: a worker trains epochs start_epoch + 1 … stop_epoch."""

    attempt: int = 1  #: number of the trial's assignment, from 1; a fence against late reports
    start_epoch: int = 0
    stop_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted(Assigning):
    """A new trial, with its first assignment."""

    kind: ClassVar[Kind] = Kind.START
    stage: str  #: coarse | fine | given | audit
    config: Config
    unit: Mapping[str, float] | None = None  #: coordinates of the active dimensions, in [0, 1]
    seed: int  #: seed of the trial's own random numbers, the same in every attempt
    zoom: int | None = None  #: number of the box that the trial was drawn from
    box: Box | None = None
    parents: tuple[int, ...] | None = None  #: trials that made the box; or the audited trial
    forecast: Forecast | None = None  #: None where no model proposed the trial


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPromoted(Assigning):
    """A paused trial goes on to the next rung."""

    kind: ClassVar[Kind] = Kind.PROMOTE
    value: float | None = None  #: the trial's loss in the rung it leaves
    comparison: Comparison = field(default_factory=Comparison)
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRetried(Assigning):
    """The present assignment is handed out again."""

    kind: ClassVar[Kind] = Kind.RETRY


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentEnded(TrialEvent):
    """What became of a trial whose assignment has ended."""

    attempt: int | None = None
    epoch: int | None = None  #: the trial's last epoch
    value: float | None = None  #: the loss that the decision was about
    comparison: Comparison = field(default_factory=Comparison)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPaused(AssignmentEnded):
    """The trial waits in its rung and may be promoted."""

    kind: ClassVar[Kind] = Kind.PAUSE


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCompleted(AssignmentEnded):
    """The trial has trained all its epochs."""

    kind: ClassVar[Kind] = Kind.COMPLETE


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialDiverged(AssignmentEnded):
    """A metric was not finite, or the training loss exploded."""

    kind: ClassVar[Kind] = Kind.DIVERGE


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPruned(AssignmentEnded):
    """The trial is given up, by a rule or because its checkpoint needed room."""

    kind: ClassVar[Kind] = Kind.PRUNE


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFailed(TrialEvent):
    """The trainer raised, or the trial's workers died too often."""

    kind: ClassVar[Kind] = Kind.FAIL
    attempt: int | None = None
    epoch: int | None = None  #: the last epoch reported
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStopped(TrialEvent):
    """The session ended in the middle of the trial's assignment."""

    kind: ClassVar[Kind] = Kind.STOP
    epoch: int | None = None  #: the last epoch reported


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTested(TrialEvent):
    """The shipped model's metrics on the test split, which no decision has seen."""

    kind: ClassVar[Kind] = Kind.TEST
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)  #: test_… -> value
    #: validation | test -> metric without prefix -> its 95 % interval
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)


#: The class of each kind of event.
EVENT_TYPES: dict[Kind, type[Event]] = {
    cls.kind: cls
    for cls in (
        SessionStarted, SessionEnded, ZoomedIn, TrialStarted, TrialPromoted, TrialRetried,
        TrialPaused, TrialCompleted, TrialDiverged, TrialPruned, TrialFailed, TrialStopped,
        ModelTested,
    )
}  # fmt: skip
