"""No pruning: every trial trains all its epochs."""

from __future__ import annotations

from collections.abc import Container

from orchestrator.search.events import Comparison, Kind
from orchestrator.search.objective import Score
from orchestrator.search.pruning.base import Promotion, Verdict

__all__ = ["NoPruning"]


class NoPruning:
    """A `Pruner` that compares nothing: one assignment is the whole training."""

    def __init__(self, *, max_epochs: int) -> None:
        self._max_epochs = max_epochs

    def first_stop(self, trial: int) -> int:
        """The last epoch."""
        return self._max_epochs

    def spend(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """Do nothing."""

    def enter(self, trial: int, epoch: int, score: Score) -> None:
        """Do nothing."""

    def leave(self, trial: int, epoch: int) -> None:
        """Do nothing."""

    def waiting(self) -> set[int]:
        """The empty set: no trial is ever paused."""
        return set()

    def verdict(self, trial: int, epoch: int, score: Score) -> Verdict:
        """COMPLETE, always."""
        return Verdict(
            kind=Kind.COMPLETE,
            reason=f"trained all {epoch} epochs",
            comparison=Comparison(rung=epoch),
        )

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """None: no trial waits."""
        return None

    def least_promising(self, among: Container[int]) -> int | None:
        """None: no trial waits."""
        return None
