"""The events of a run, as values: each event is one row of the events table.

The state of a search follows from its events and from the epochs' reports, so a run is resumed by
applying them again. Every decision gives its reason in words (`reason`) and in numbers
(`Comparison`, `Forecast`). Each kind of event has a class of its own with only the fields it needs.
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
    "TrialAdjusted",
    "TrialCompleted",
    "TrialDiverged",
    "TrialEvent",
    "TrialFailed",
    "TrialMessage",
    "TrialNote",
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
    ADJUST = "adjust"
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
    cutoff: float | None = None  #: loss that had to be reached; None if the rule sets no such loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The loss that the surrogate model expects of a trial at its last epoch."""

    expected: float  #: median of the predicted loss
    low: float  #: predicted loss one standard deviation below the median, on the model's scale
    high: float  #: predicted loss one standard deviation above the median, on the model's scale


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDetails:
    """Host, pool and versions of a session. A field that the log does not hold has its default."""

    #: random number of the run, the same in all its sessions; empty in runs of version 0.1
    run_id: str = ""
    workers: int = 0
    pool: str = ""  #: ray | inline
    address: str | None = None  #: address of a Ray cluster; None for a cluster on this machine
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
    """Counts of a session's driver."""

    dropped_reports: int = 0  #: number of reports that came from abandoned attempts
    worker_seconds: float | None = None  #: sum over all workers of the time they were up


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    kind: ClassVar[Kind]
    reason: str = ""  #: reason of the event, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(Event):
    """A driver starts or resumes the run; from here on this budget holds."""

    kind: ClassVar[Kind] = Kind.SESSION
    #: limits of the whole run, over all its sessions
    budget: Budget = field(default_factory=Budget)
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
    parents: tuple[int, ...] = ()  #: ids of the trials that the box lies around
    stage: str = "fine"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEvent(Event):
    """Base of all events about one trial."""

    trial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigning(TrialEvent):
    """Base of the events that hand out an assignment: train start_epoch + 1 … stop_epoch."""

    attempt: int = 1  #: attempt number, from 1; reports of earlier attempts are dropped
    start_epoch: int = 0
    stop_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted(Assigning):
    """A new trial, with its first assignment."""

    kind: ClassVar[Kind] = Kind.START
    stage: str  #: coarse | fine | given | audit
    config: Config
    unit: Mapping[str, float] | None = None  #: coordinates of the active dimensions, in [0, 1]
    seed: int  #: seed of the trial's random numbers, the same in every attempt
    zoom: int | None = None  #: number of the box that the trial was drawn from
    box: Box | None = None
    #: ids of the trials that made the box; in an audit, the audited trial
    parents: tuple[int, ...] | None = None
    forecast: Forecast | None = None  #: None if no model proposed the trial


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPromoted(Assigning):
    """A paused trial goes on to the next rung."""

    kind: ClassVar[Kind] = Kind.PROMOTE
    value: float | None = None  #: loss of the trial in the rung that it leaves
    comparison: Comparison = field(default_factory=Comparison)
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRetried(Assigning):
    """The present assignment is handed out again."""

    kind: ClassVar[Kind] = Kind.RETRY


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentEnded(TrialEvent):
    """Base of the events that end an assignment and decide on its trial."""

    attempt: int | None = None
    epoch: int | None = None  #: last epoch of the trial
    value: float | None = None  #: loss that the decision compared
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
    """The trial is given up by a pruning rule, or because checkpoints need space."""

    kind: ClassVar[Kind] = Kind.PRUNE


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFailed(TrialEvent):
    """The trainer raised an error, or the trial's workers died too often."""

    kind: ClassVar[Kind] = Kind.FAIL
    attempt: int | None = None
    epoch: int | None = None  #: last epoch that was reported
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStopped(TrialEvent):
    """The session ended in the middle of the trial's assignment."""

    kind: ClassVar[Kind] = Kind.STOP
    epoch: int | None = None  #: last epoch that was reported


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialNote(TrialEvent):
    """Base of events that record something about a trial and leave its status as it is.

    No decision follows from such an event: replay applies it as it is, and the trial needs only to
    have been trained up to `epoch`.
    """

    epoch: int | None = None  #: last epoch of the trial that the event is about


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialMessage(TrialNote):
    """Base of events that reach a trial while a worker trains it.

    The driver sends such an event to the worker. The worker carries it out between two epochs, sets
    `epoch` to the last epoch before it, and sends it back; only then is it applied and logged. A
    trial that is trained again, from a checkpoint or from scratch, gets the same events after the
    same epochs, and comes to the same numbers. A checkpoint is loaded before the events up to its
    epoch are carried out again, so an event sets hyperparameters and leaves the state alone.
    """

    epoch: int = 0  #: last epoch of the trial before the message was carried out
    attempt: int  #: attempt number; a message for an attempt that has ended has no effect


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialAdjusted(TrialMessage):
    """The trial goes on with other values of some hyperparameters."""

    kind: ClassVar[Kind] = Kind.ADJUST
    changes: Config  #: the new values, by hyperparameter


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTested(TrialNote):
    """The shipped model's metrics on the test split, which no decision has seen."""

    kind: ClassVar[Kind] = Kind.TEST
    metrics: Mapping[str, float] = field(default_factory=dict)  #: test_… -> value
    #: validation | test -> metric without prefix -> its 95 % interval
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)


#: Class of each kind of event.
EVENT_TYPES: dict[Kind, type[Event]] = {
    cls.kind: cls
    for cls in (
        SessionStarted, SessionEnded, ZoomedIn, TrialStarted, TrialPromoted, TrialRetried,
        TrialAdjusted, TrialPaused, TrialCompleted, TrialDiverged, TrialPruned, TrialFailed,
        TrialStopped, ModelTested,
    )
}  # fmt: skip
