"""The interface of a pruning rule, and the values that it returns."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.search.events import Comparison, Forecast, Kind
from orchestrator.search.objective import Score

__all__ = ["Promotion", "Pruner", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Decision on a trial whose assignment has ended, with the comparison behind it."""

    kind: Kind  #: PAUSE, PRUNE, COMPLETE or DIVERGE
    reason: str
    comparison: Comparison = field(default_factory=Comparison)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """Decision that a paused trial trains on, up to the next epoch at which trials are compared."""

    trial: int
    start_epoch: int
    stop_epoch: int
    reason: str
    comparison: Comparison
    forecast: Forecast | None = None  #: None if no model was asked


class Pruner(Protocol):
    """A rule that decides, at the end of an assignment, which trials go on, wait, or are given up.

    A pruner stores the ids of trials and their scores at the epochs at which it compares. Only
    `count_epochs`, `add_score` and `remove_waiting` change its state; the search calls them while
    it applies events, so a pruner is rebuilt from the log. Smaller scores are better.
    """

    @property
    def summary(self) -> str:
        """Return what the rule does at a rung, in a clause for `caviar plan`."""

    def choose_first_stop(self, trial: int) -> int:
        """Choose the epoch at which the first assignment of a new trial ends."""

    def count_epochs(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """Count the epochs of an assignment; `progress` is the share of the budget that is used."""

    def add_score(self, trial: int, epoch: int, score: Score) -> None:
        """Add a trial that has reached `epoch` with this score; WORST if the trial went bad."""

    def remove_waiting(self, trial: int, epoch: int) -> None:
        """Remove a trial from those that wait at `epoch`: it was promoted, or given up."""

    def judge(self, trial: int, epoch: int, score: Score) -> Verdict:
        """Decide on a trial whose score at `epoch` was just added."""

    def choose_promotion(self, *, last_call: bool) -> Promotion | None:
        """Choose the paused trial that goes on now, if any.

        On the last call no new trials will be started, so the most promising trial that waits goes
        on even outside its quota.
        """

    def choose_eviction(self, among: Container[int]) -> int | None:
        """Choose the waiting trial among these that is given up first, or None."""

    def find_waiting(self) -> set[int]:
        """Return the trials that may still be promoted; all of them are PAUSED."""
