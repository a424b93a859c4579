"""Trials that wait in rungs: who reached which rung, and who waits there for a promotion."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from sortedcontainers import SortedList

from orchestrator.search.events import Comparison, Forecast, Kind
from orchestrator.search.objective import Score
from orchestrator.search.pruning.base import Promotion, Verdict

__all__ = ["Rung", "Rungs"]

#: A score and the trial, so that a tie goes to the older trial. The tuple is flat because nested
#: ones compare half as fast.
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
        """Enter a trial; a trial whose loss is not finite never waits."""
        entry = self._entries[trial] = (*score, trial)
        self.ranking.add(entry)
        if score[0] < math.inf:
            self.waiting.add(entry)

    def remove(self, trial: int) -> None:
        """Take a trial out of those that wait; its score stays in the ranking."""
        self.waiting.discard(self._entries[trial])

    def score(self, trial: int) -> Score:
        """The score that a trial entered with."""
        return self._entries[trial][:2]

    def __len__(self) -> int:
        return len(self.ranking)

    def rank(self, trial: int) -> int:
        """Place of a trial among all that have a score here, from 1."""
        return int(self.ranking.bisect_left(self._entries[trial])) + 1


class Rungs:
    """The part that all pruners with rungs share.

    Args:
        rungs: The epochs to compare at, rising; the last one is max_epochs.
    """

    def __init__(self, rungs: Sequence[int]) -> None:
        self._rungs = {epoch: Rung() for epoch in rungs}
        self._stops = tuple(rungs)

    def first_stop(self, trial: int) -> int:
        """The first rung."""
        return self._stops[0]

    def enter(self, trial: int, epoch: int, score: Score) -> None:
        """Enter a trial into the rung at this epoch."""
        self._rungs[epoch].add(trial, score)

    def leave(self, trial: int, epoch: int) -> None:
        """Take a trial out of those that wait in the rung; its score stays."""
        self._rungs[epoch].remove(trial)

    def waiting(self) -> set[int]:
        """All trials that may still be promoted."""
        return {t for epoch in self._stops[:-1] for *_, t in self._rungs[epoch].waiting}

    def least_promising(self, among: Container[int]) -> int | None:
        """The worst waiting trial of the lowest rung in which any of these trials waits."""
        for epoch in self._stops[:-1]:
            waiting = self._rungs[epoch].waiting
            worst: int | None = next((t for *_, t in reversed(waiting) if t in among), None)
            if worst is not None:
                return worst
        return None

    def verdict(self, trial: int, epoch: int, score: Score) -> Verdict:
        """COMPLETE in the last rung, PAUSE in any other."""
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
        """The number of trials of a rung that go on; None where no number is fixed."""
        return None

    def _compare(self, trial: int, epoch: int) -> Comparison:
        """A trial's place in the rung, and the loss of the last trial within the quota."""
        rung = self._rungs[epoch]
        quota = self._quota(rung)
        return Comparison(
            rung=epoch,
            rank=rung.rank(trial),
            peers=len(rung),
            cutoff=rung.ranking[quota - 1][0] if quota else None,
        )

    def _promote(
        self, trial: int, epoch: int, why: str, forecast: Forecast | None = None
    ) -> Promotion:
        """A trial that waits in the rung at this epoch, on its way to the next rung."""
        comparison = self._compare(trial, epoch)
        return Promotion(
            trial=trial,
            start_epoch=epoch,
            stop_epoch=self._stops[self._stops.index(epoch) + 1],
            reason=f"place {comparison.rank} of {comparison.peers} in rung {epoch}: {why}",
            comparison=comparison,
            forecast=forecast,
        )
