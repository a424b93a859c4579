"""The median stopping rule, one epoch at a time."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Container

from orchestrator.search.events import Comparison, Kind
from orchestrator.search.objective import WORST, Score
from orchestrator.search.pruning.base import Promotion, Verdict

__all__ = ["Median"]


class Median:
    """A `Pruner` that gives up trials worse than the median of the others.

    Golovin et al. 2017, "Google Vizier", KDD, section 3.2.2: a trial is stopped at epoch s if its
    best loss so far is worse than the median, over the other trials, of their mean loss over
    epochs 1 … s. The paper compares with completed trials. If many trials run at the same time,
    none completes for long, so here all others that reached epoch s count (as in Ray Tune's rule).
    """

    GRACE = 3  #: first epoch at which a trial may be stopped
    PEERS = 5  #: number of other trials that an epoch needs before trials are compared there

    summary = "a trial that is worse than the median is stopped"

    def __init__(self, *, max_epochs: int) -> None:
        self._max_epochs = max_epochs
        self._sum: dict[int, float] = {}
        self._best: dict[int, Score] = {}
        self._means: list[list[float]] = [[] for _ in range(max_epochs + 1)]  # by epoch, sorted
        self._waiting: dict[int, int] = {}  # trial -> epoch at which it waits, in order of arrival

    def choose_first_stop(self, trial: int) -> int:
        """Choose the first epoch."""
        return 1

    def count_epochs(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """Do nothing: the rule does not depend on the epochs handed out."""

    def add_score(self, trial: int, epoch: int, score: Score) -> None:
        """Add the loss of one more epoch to the trial's mean."""
        self._sum[trial] = self._sum.get(trial, 0.0) + score[0]
        self._best[trial] = min(score, self._best.get(trial, WORST))
        insort(self._means[epoch], self._sum[trial] / epoch)
        if score[0] < math.inf and epoch < self._max_epochs:
            self._waiting[trial] = epoch

    def remove_waiting(self, trial: int, epoch: int) -> None:
        """Remove a trial from those that wait for their next epoch."""
        self._waiting.pop(trial, None)

    def find_waiting(self) -> set[int]:
        """Return all trials that wait for their next epoch."""
        return set(self._waiting)

    def judge(self, trial: int, epoch: int, score: Score) -> Verdict:
        """Decide COMPLETE at the last epoch, PRUNE if worse than the median, else PAUSE."""
        if epoch == self._max_epochs:
            reason, comparison = f"trained all {epoch} epochs", Comparison(rung=epoch)
            return Verdict(kind=Kind.COMPLETE, reason=reason, comparison=comparison)
        means = self._means[epoch]
        others = len(means) - 1
        if epoch < self.GRACE or others < self.PEERS:
            return Verdict(kind=Kind.PAUSE, reason=f"epoch {epoch}: too early to compare")
        middle = others // 2
        middle += bisect_left(means, self._sum[trial] / epoch) <= middle  # without the trial itself
        median, best = means[middle], self._best[trial][0]
        worse = best > median
        result = f"{'worse' if worse else 'not worse'} than the median of {others} others"
        return Verdict(
            kind=Kind.PRUNE if worse else Kind.PAUSE,
            reason=f"epoch {epoch}: its best is {result}",
            comparison=Comparison(rung=epoch, peers=others + 1, cutoff=median),
        )

    def choose_promotion(self, *, last_call: bool) -> Promotion | None:
        """Choose the trial that has waited longest."""
        trial = next(iter(self._waiting), None)
        if trial is None:
            return None
        epoch = self._waiting[trial]
        return Promotion(
            trial=trial,
            start_epoch=epoch,
            stop_epoch=epoch + 1,
            reason="its next epoch",
            comparison=Comparison(rung=epoch),
        )

    def choose_eviction(self, among: Container[int]) -> int | None:
        """Choose the waiting trial with the worst best loss."""
        waiting = (t for t in self._waiting if t in among)
        return max(waiting, key=lambda t: (self._best[t], t), default=None)
