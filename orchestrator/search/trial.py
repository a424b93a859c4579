"""A trial: one configuration, its training, and the transitions of its life."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.search.events import Kind
from orchestrator.search.objective import WORST, Score
from orchestrator.space.domains import Config, Point

__all__ = ["AUDIT", "ENDED", "LEFT_BEHIND", "TRANSITIONS", "Incumbent", "Status", "Trial"]

AUDIT = "audit"  #: the stage of trials that measure what pruning missed; they decide nothing


class Status(StrEnum):
    """Where a trial is in its life."""

    RUNNING = "RUNNING"  #: an assignment is out, or will be given out again
    PAUSED = "PAUSED"  #: waits in a rung; may still be promoted
    PRUNED = "PRUNED"  #: given up; final
    COMPLETED = "COMPLETED"  #: trained all its epochs
    DIVERGED = "DIVERGED"  #: its loss was not finite, or exploded
    FAILED = "FAILED"  #: its trainer raised, or its workers died again and again
    STOPPED = "STOPPED"  #: the session ended in the middle of its assignment; a resume goes on


#: The whole life of a trial: (status, kind of event) -> new status. Nothing else is allowed.
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

#: Statuses of trials that pruning left behind, finally or so far.
LEFT_BEHIND = (Status.PAUSED, Status.PRUNED)


@dataclass(slots=True, kw_only=True)
class Trial:
    """What the search knows of one trial; changed by `Search.apply` alone."""

    id: int
    config: Config
    point: Point
    seed: int
    stage: str  #: coarse | fine | given | audit
    zoom: int | None  #: number of the box that the trial was drawn from
    parents: tuple[int, ...]  #: trials that made that box; of an audit: the trial it repeats
    stop_epoch: int  #: where the present assignment ends
    start_epoch: int = 0  #: where the present assignment began
    attempt: int = 1
    turn: int = 0  #: number of the present assignment, in the order of handing out
    retries: int = 0  #: of the present assignment, after a lost worker
    status: Status = Status.RUNNING
    epoch: int = 0  #: the last epoch reported
    best: Score = WORST
    best_epoch: int = 0  #: the first epoch with the best score; 0 before there is one
    best_order: int = 0  #: number of reports that the search had taken in when the best came in
    score: Score = WORST  #: of the last epoch
    cause: str = ""  #: why the worker ended the assignment early
    slowest_seconds: float = 0.0  #: duration of the slowest epoch so far
    history: list[Kind] = field(default_factory=list)  #: kinds of the trial's events, in order

    @property
    def assignment_over(self) -> bool:
        """Whether the present assignment has had its last report."""
        return self.epoch == self.stop_epoch or bool(self.cause)

    @property
    def story(self) -> str:
        """What the log has said of the trial so far, in one line."""
        events = " ".join(self.history)
        cause = f", {self.cause}" if self.cause else ""
        return (
            f"{events}; {self.status}, attempt {self.attempt} trains epochs "
            f"{self.start_epoch + 1} to {self.stop_epoch}, {self.epoch} reported{cause}"
        )

    @property
    def is_audit(self) -> bool:
        """Whether the trial repeats one that was left behind; then nothing is decided by it."""
        return self.stage == AUDIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """The best result so far."""

    score: Score
    trial: int
    epoch: int
