"""The rule without pruning: every trial trains all its epochs."""

from __future__ import annotations

from collections.abc import Container

from orchestrator.search.events import Comparison, Kind
from orchestrator.search.objective import Score
from orchestrator.search.pruning.base import Promotion, Verdict

__all__ = ["NoPruning"]


class NoPruning:
    """A `Pruner` that compares nothing: one assignment is the whole training."""

    summary = "all trials go on"

    def __init__(self, *, max_epochs: int) -> None:
        self._max_epochs = max_epochs

    def choose_first_stop(self, trial: int) -> int:
        """Choose the last epoch."""
        return self._max_epochs

    def count_epochs(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """Do nothing."""

    def add_score(self, trial: int, epoch: int, score: Score) -> None:
        """Do nothing."""

    def remove_waiting(self, trial: int, epoch: int) -> None:
        """Do nothing."""

    def find_waiting(self) -> set[int]:
        """Return the empty set: no trial is ever paused."""
        return set()

    def judge(self, trial: int, epoch: int, score: Score) -> Verdict:
        """Decide COMPLETE, always."""
        return Verdict(
            kind=Kind.COMPLETE,
            reason=f"trained all {epoch} epochs",
            comparison=Comparison(rung=epoch),
        )

    def choose_promotion(self, *, last_call: bool) -> Promotion | None:
        """Return None: no trial waits."""
        return None

    def choose_eviction(self, among: Container[int]) -> int | None:
        """Return None: no trial waits."""
        return None
