"""A trial: one configuration, its training, and the transitions of its status."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.search.events import Kind, TrialMessage
from orchestrator.search.objective import WORST, Score
from orchestrator.space.domains import Config, Point

__all__ = ["AUDIT", "ENDED", "LEFT_BEHIND", "TRANSITIONS", "Incumbent", "Status", "Trial"]

#: Stage of the trials that measure what pruning missed; no decision depends on them.
AUDIT = "audit"


class Status(StrEnum):
    """Status of a trial."""

    RUNNING = "RUNNING"  #: has an assignment that a worker trains, or that is handed out again
    PAUSED = "PAUSED"  #: waits in a rung and may still be promoted
    PRUNED = "PRUNED"  #: was given up; final
    COMPLETED = "COMPLETED"  #: has trained all its epochs
    DIVERGED = "DIVERGED"  #: a metric of the trial was not finite, or its training loss exploded
    FAILED = "FAILED"  #: the trainer raised an error, or the trial's workers died too often
    STOPPED = "STOPPED"  #: the session ended during an assignment; the next session goes on


#: All transitions of a trial: (status, kind of event) -> new status. Nothing else is allowed.
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

#: Final statuses: no event leads out of them.
ENDED = frozenset(Status) - {source for source, _ in TRANSITIONS if source is not None}

#: Statuses of trials that pruning left behind, finally or so far.
LEFT_BEHIND = (Status.PAUSED, Status.PRUNED)


@dataclass(slots=True, kw_only=True)
class Trial:
    """State of one trial in the search; only `Search.apply` changes it."""

    id: int
    config: Config
    point: Point
    seed: int
    stage: str  #: coarse | fine | given | audit
    zoom: int | None  #: number of the box that the trial was drawn from
    #: ids of the trials that made that box; in an audit, the trial it repeats
    parents: tuple[int, ...]
    stop_epoch: int  #: last epoch of the present assignment
    start_epoch: int = 0  #: number of epochs trained before the present assignment
    attempt: int = 1  #: number of the present attempt, from 1
    turn: int = 0  #: number of the present assignment, counted over all trials in order
    retries: int = 0  #: how often the present assignment was handed out again after a lost worker
    status: Status = Status.RUNNING
    epoch: int = 0  #: last epoch that was reported
    best: Score = WORST  #: best score so far
    best_epoch: int = 0  #: first epoch with the best score; 0 before there is a score
    best_order: int = 0  #: number of the search's reports, up to the one with the best score
    score: Score = WORST  #: score of the last epoch
    cause: str = ""  #: why the worker ended the assignment early
    slowest_seconds: float = 0.0  #: duration of the slowest epoch so far
    received: list[TrialMessage] = field(default_factory=list)  #: messages carried out, in order
    event_kinds: list[Kind] = field(default_factory=list)  #: kinds of the trial's events, in order

    @property
    def assignment_over(self) -> bool:
        """Whether the last report of the present assignment was received."""
        return self.epoch == self.stop_epoch or bool(self.cause)

    @property
    def story(self) -> str:
        """Summary of the trial's events in the log, in one line."""
        events = " ".join(self.event_kinds)
        cause = f", {self.cause}" if self.cause else ""
        return (
            f"{events}; {self.status}, attempt {self.attempt} trains epochs "
            f"{self.start_epoch + 1} to {self.stop_epoch}, {self.epoch} reported{cause}"
        )

    @property
    def is_audit(self) -> bool:
        """Whether the trial repeats one that pruning left behind; no decision depends on it."""
        return self.stage == AUDIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """Best result so far."""

    score: Score
    trial: int
    epoch: int
