"""Rungs: the trials that reached each rung, and those that wait there for a promotion."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from sortedcontainers import SortedList

from orchestrator.search.events import Comparison, Forecast, Kind
from orchestrator.search.objective import Score
from orchestrator.search.pruning.base import Promotion, Verdict

__all__ = ["Rung", "Rungs"]

#: A score and a trial's id, so that a tie goes to the older trial. The tuple is flat because nested
#: tuples compare half as fast.
_Entry = tuple[float, float, int]


class Rung:
    """All scores at one epoch, best first, and the trials among them that wait there.

    The sorted lists keep every operation logarithmic; a million entries fit.
    """

    def __init__(self) -> None:
        self.ranking: SortedList[_Entry] = SortedList()
        self.waiting: SortedList[_Entry] = SortedList()
        self._entries: dict[int, _Entry] = {}

    def add(self, trial: int, score: Score) -> None:
        """Add a trial; it waits if its loss is finite."""
        entry = self._entries[trial] = (*score, trial)
        self.ranking.add(entry)
        if score[0] < math.inf:
            self.waiting.add(entry)

    def remove(self, trial: int) -> None:
        """Remove a trial from those that wait; its score stays in the ranking."""
        self.waiting.discard(self._entries[trial])

    def score(self, trial: int) -> Score:
        """Score of a trial in this rung."""
        return self._entries[trial][:2]

    def __len__(self) -> int:
        return len(self.ranking)

    def rank(self, trial: int) -> int:
        """Rank of a trial among all that have a score here, from 1."""
        return int(self.ranking.bisect_left(self._entries[trial])) + 1


class Rungs:
    """Base of all pruners that compare trials in rungs.

    Args:
        rungs: The epochs at which trials are compared, rising; the last one is max_epochs.
    """

    def __init__(self, rungs: Sequence[int]) -> None:
        self._rungs = {epoch: Rung() for epoch in rungs}
        self._stops = tuple(rungs)

    def choose_first_stop(self, trial: int) -> int:
        """Choose the first rung."""
        return self._stops[0]

    def add_score(self, trial: int, epoch: int, score: Score) -> None:
        """Add a trial to the rung at this epoch."""
        self._rungs[epoch].add(trial, score)

    def remove_waiting(self, trial: int, epoch: int) -> None:
        """Remove a trial from those that wait in the rung; its score stays."""
        self._rungs[epoch].remove(trial)

    def find_waiting(self) -> set[int]:
        """Return all trials that may still be promoted."""
        return {t for epoch in self._stops[:-1] for *_, t in self._rungs[epoch].waiting}

    def choose_eviction(self, among: Container[int]) -> int | None:
        """Choose the worst of these trials in the lowest rung where one of them waits."""
        for epoch in self._stops[:-1]:
            waiting = self._rungs[epoch].waiting
            worst: int | None = next((t for *_, t in reversed(waiting) if t in among), None)
            if worst is not None:
                return worst
        return None

    def judge(self, trial: int, epoch: int, score: Score) -> Verdict:
        """Decide COMPLETE in the last rung, PAUSE in any other."""
        rung = self._rungs[epoch]
        rank, peers = rung.rank(trial), len(rung)
        if epoch == self._stops[-1]:
            return Verdict(
                kind=Kind.COMPLETE,
                reason=f"trained all {epoch} epochs; place {rank} of {peers} that did",
                comparison=Comparison(rung=epoch, rank=rank, peers=peers),
            )
        quota = self._quota(rung)
        rule = "" if quota is None else f", the best {quota} go on"
        return Verdict(
            kind=Kind.PAUSE,
            reason=f"waits in rung {epoch}: place {rank} of {peers}{rule}",
            comparison=self._compare(trial, epoch),
        )

    def _quota(self, rung: Rung) -> int | None:
        """Number of trials of a rung that go on; None if the rule sets no number."""
        return None

    def _compare(self, trial: int, epoch: int) -> Comparison:
        """Compare a trial with the rung: its rank, and the loss of the last trial in the quota."""
        rung = self._rungs[epoch]
        quota = self._quota(rung)
        return Comparison(
            rung=epoch,
            rank=rung.rank(trial),
            peers=len(rung),
            cutoff=rung.ranking[quota - 1][0] if quota else None,
        )

    def _promote(
        self, trial: int, epoch: int, reason: str, forecast: Forecast | None = None
    ) -> Promotion:
        """Promote a trial from the rung at this epoch to the next rung."""
        comparison = self._compare(trial, epoch)
        return Promotion(
            trial=trial,
            start_epoch=epoch,
            stop_epoch=self._stops[self._stops.index(epoch) + 1],
            reason=f"place {comparison.rank} of {comparison.peers} in rung {epoch}: {reason}",
            comparison=comparison,
            forecast=forecast,
        )
