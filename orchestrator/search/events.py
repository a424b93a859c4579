"""What happened in a run, as values: each event is one row of the events table.

The search's whole state is what its events and the epochs' reports add up to; so resuming is
applying them again. Each decision says why in words (`reason`) and in numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.space.domains import Config

__all__ = ["Box", "Event", "Kind"]


class Kind(StrEnum):
    """What an event says; those that move a trial stand in `trial.TRANSITIONS`."""

    SESSION = "session"  #: a driver takes the run up: its budget, workers, versions
    ZOOM = "zoom"  #: the fine stage draws from a new box
    START = "start"  #: a new trial, and its first assignment
    PROMOTE = "promote"  #: a paused trial goes on
    RETRY = "retry"  #: an assignment is given out again
    PAUSE = "pause"
    COMPLETE = "complete"
    DIVERGE = "diverge"
    FAIL = "fail"
    PRUNE = "prune"
    STOP = "stop"  #: the session ended in the middle of the trial's assignment
    TEST = "test"  #: the best model on the test split; read by nobody who decides
    END = "end"  #: the session ended, and why


#: dimension -> (low, high) in the unit cube; one that is not named is as wide as the cube
Box = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. Only what its kind needs is set."""

    kind: Kind
    reason: str = ""  #: in words, for a person
    trial: int | None = None
    attempt: int | None = None
    stage: str | None = None  #: coarse | fine | given | audit
    zoom: int | None = None  #: 1, 2, …: the box the trial was drawn from
    parents: tuple[int, ...] | None = None  #: who made that box; of an audit: whom it repeats
    box: Box | None = None
    config: Config | None = None
    unit: Mapping[str, float] | None = None  #: the coordinates of the active dimensions
    seed: int | None = None
    start_epoch: int | None = None
    stop_epoch: int | None = None
    epoch: int | None = None
    value: float | None = None  #: the loss the decision was about (smaller is better)
    rung: int | None = None  #: the epoch of the rung it was compared in
    rank: int | None = None  #: its place there, from 1
    peers: int | None = None  #: how many had a value there, itself included
    cutoff: float | None = None  #: the loss that had to be reached
    expected: float | None = None  #: the loss that the model expects at the last epoch: its median,
    expected_low: float | None = None  #: … and a standard deviation of the model's below
    expected_high: float | None = None  #: … and above it
    budget_seconds: float | None = None  #: of the run in all, as is the rest of the budget
    budget_trials: int | None = None
    budget_epochs: int | None = None
    metrics: Mapping[str, float] | None = None  #: test_…, of a TEST event
    details: str | None = None  #: JSON: versions and workers, or a failure's traceback
