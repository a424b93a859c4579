"""What the search asks of every pruning rule, and the values that answer."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.search.events import Comparison, Forecast, Kind
from orchestrator.search.objective import Score

__all__ = ["Promotion", "Pruner", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a trial whose assignment has ended, with the comparison behind it."""

    kind: Kind  #: PAUSE, PRUNE, COMPLETE or DIVERGE
    reason: str
    comparison: Comparison = field(default_factory=Comparison)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """A paused trial that goes on, from the epoch it waits at to the next epoch compared at."""

    trial: int
    start_epoch: int
    stop_epoch: int
    reason: str
    comparison: Comparison
    forecast: Forecast | None = None  #: None where no model was asked


class Pruner(Protocol):
    """A rule that decides when an assignment ends: who goes on, who waits, who is given up.

    A pruner keeps trial ids and their scores at the epochs it compares at, and no trials. Its state
    is changed by `spend`, `enter` and `leave` alone, which the search calls while it applies
    events, so a pruner is rebuilt from the log. Epochs are whole; a smaller score is better.
    """

    def first_stop(self, trial: int) -> int:
        """The epoch at which the first assignment of a new trial ends."""

    def spend(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """An assignment of these epochs is handed out when `progress` of the budget is used."""

    def enter(self, trial: int, epoch: int, score: Score) -> None:
        """A trial has reached `epoch` with this score; a trial that went bad enters with WORST."""

    def leave(self, trial: int, epoch: int) -> None:
        """A trial no longer waits at `epoch`: it was promoted, or given up."""

    def verdict(self, trial: int, epoch: int, score: Score) -> Verdict:
        """What becomes of a trial that has just entered `epoch`."""

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """The paused trial that should go on now, if any.

        On the last call no new trials are to come, so the most promising trial that waits goes on
        even outside its quota.
        """

    def least_promising(self, among: Container[int]) -> int | None:
        """The waiting trial among these that would be given up first, or None."""

    def waiting(self) -> set[int]:
        """The trials that may still be promoted; all of them are PAUSED."""
