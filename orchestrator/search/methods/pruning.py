"""Who goes on, who waits, who is given up: asynchronous successive halving, the median rule, none.

A pruner decides when an assignment ends. It keeps no trials, only their ids and scores at the
epochs it compares at, and it is changed by `enter` and `leave` alone, which the search calls while
it applies events. So it can be rebuilt from the log, and asked at any time.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sortedcontainers import SortedList

from orchestrator.search.events import Kind
from orchestrator.search.objective import WORST, Score
from orchestrator.search.surrogate.advisor import Forecast

__all__ = [
    "Asha",
    "Median",
    "NoPruning",
    "Promotion",
    "Pruner",
    "Rungs",
    "Verdict",
]

#: A score and the trial, so ties go to the older one. Flat: nested ones compare half as fast.
_Entry = tuple[float, float, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an assignment ended: PAUSE, PRUNE or COMPLETE, with the comparison behind it."""

    kind: Kind
    reason: str
    rung: int | None = None
    rank: int | None = None
    peers: int | None = None
    cutoff: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """A paused trial that goes on, from the epoch it waits at to the next one compared at."""

    trial: int
    start_epoch: int
    stop_epoch: int
    reason: str
    rank: int | None = None
    peers: int | None = None
    cutoff: float | None = None
    forecast: Forecast | None = None  #: where a model had a say


class Pruner(Protocol):
    """What the search asks of every rule. Epochs are whole; a smaller score is better."""

    def first_stop(self, trial: int) -> int:
        """Where the first assignment of a new trial ends."""

    def spend(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """An assignment of these epochs is handed out, at this share of the budget."""

    def enter(self, trial: int, epoch: int, score: Score) -> None:
        """A trial has reached `epoch` with this score; one that went bad enters with WORST."""

    def leave(self, trial: int, epoch: int) -> None:
        """A trial no longer waits at `epoch`: it was promoted, or given up."""

    def verdict(self, trial: int, epoch: int, score: Score) -> Verdict:
        """What becomes of a trial that has just entered `epoch`."""

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """The paused trial that should go on now, if any.

        On the last call no new trials are to come, so the most promising one that waits goes on
        even outside its quota.
        """

    def least_promising(self, among: Container[int]) -> int | None:
        """Of these trials, the waiting one that one would give up first."""


class Rung:
    """All scores at one epoch, best first, and those of them that wait there."""

    def __init__(self) -> None:
        self.rank_epochs: SortedList[_Entry] = SortedList()  # a million fit
        self.waiting: SortedList[_Entry] = SortedList()
        self._entries: dict[int, _Entry] = {}

    def add(self, trial: int, score: Score) -> None:
        entry = self._entries[trial] = (*score, trial)
        self.rank_epochs.add(entry)
        if score[0] < math.inf:  # what went bad never waits
            self.waiting.add(entry)

    def remove(self, trial: int) -> None:
        self.waiting.discard(self._entries[trial])

    def score(self, trial: int) -> Score:
        """What it entered with."""
        return self._entries[trial][:2]

    def __len__(self) -> int:
        return len(self.rank_epochs)

    def rank(self, trial: int) -> int:
        """Place among all that have a score here, from 1."""
        return int(self.rank_epochs.bisect_left(self._entries[trial])) + 1


class Rungs:
    """What pruners that pause trials at rungs have in common: who reached them, who waits there."""

    def __init__(self, rungs: Sequence[int]) -> None:
        self._rungs = {epoch: Rung() for epoch in rungs}
        self._stops = tuple(rungs)

    def first_stop(self, trial: int) -> int:
        """The first rung."""
        return self._stops[0]

    def enter(self, trial: int, epoch: int, score: Score) -> None:
        """Into the rung at this epoch."""
        self._rungs[epoch].add(trial, score)

    def leave(self, trial: int, epoch: int) -> None:
        """Out of those who wait there; the score stays."""
        self._rungs[epoch].remove(trial)

    def least_promising(self, among: Container[int]) -> int | None:
        """The worst that waits in the lowest rung that any of them waits in."""
        for epoch in self._stops[:-1]:
            waiting = self._rungs[epoch].waiting
            found: int | None = next((t for *_, t in reversed(waiting) if t in among), None)
            if found is not None:
                return found
        return None

    def verdict(self, trial: int, epoch: int, score: Score) -> Verdict:
        """Complete in the last rung, else wait."""
        rung = self._rungs[epoch]
        rank, peers = rung.rank(trial), len(rung)
        if epoch == self._stops[-1]:
            return Verdict(
                kind=Kind.COMPLETE,
                reason=f"trained all {epoch} epochs; place {rank} of {peers} that did",
                rung=epoch, rank=rank, peers=peers,
            )  # fmt: skip
        keep = self._quota(rung)
        told = "" if keep is None else f", the best {keep} go on"
        return Verdict(
            kind=Kind.PAUSE,
            reason=f"waits in rung {epoch}: place {rank} of {peers}{told}",
            rung=epoch, rank=rank, peers=peers, cutoff=self._cutoff(rung),
        )  # fmt: skip

    def _quota(self, rung: Rung) -> int | None:
        """How many of a rung go on; None where that is not fixed."""
        return None

    def _cutoff(self, rung: Rung) -> float | None:
        """The loss of the last of those."""
        keep = self._quota(rung)
        return rung.rank_epochs[keep - 1][0] if keep else None

    def _promoted(
        self, trial: int, epoch: int, why: str, forecast: Forecast | None = None
    ) -> Promotion:
        """A trial that waits in the rung at this epoch, on its way to the next."""
        rung = self._rungs[epoch]
        rank, peers = rung.rank(trial), len(rung)
        return Promotion(
            trial=trial,
            start_epoch=epoch,
            stop_epoch=self._stops[self._stops.index(epoch) + 1],
            reason=f"place {rank} of {peers} in rung {epoch}: {why}",
            rank=rank,
            peers=peers,
            cutoff=self._cutoff(rung),
            forecast=forecast,
        )


class Asha(Rungs):
    """Asynchronous successive halving with pause and promotion.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv:1810.05934,
    Algorithm 2 (get_job): the topmost rung with a promotable trial is served first; promotable is
    who waits and belongs to the best 1/eta of all that reached the rung. Two things are added: one
    that diverged counts in its rung (as worst), and there is a last call (`promotion`).
    """

    def __init__(self, *, rungs: Sequence[int], eta: int) -> None:
        super().__init__(rungs)
        self._eta = eta

    def spend(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """What is spent is not counted."""

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """The best waiting trial of the topmost rung where it belongs to the best 1/eta."""
        for epoch, rung in self._below_the_last():
            if not rung.waiting:
                continue
            trial, keep = rung.waiting[0][-1], self._quota(rung)
            if rung.rank(trial) <= keep:
                return self._promoted(
                    trial, epoch, f"among the best {keep} (1/{self._eta}) of them"
                )
        return self._last_call() if last_call else None

    def _quota(self, rung: Rung) -> int:
        return len(rung) // self._eta

    def _last_call(self) -> Promotion | None:
        heads = [(r.waiting[0], e) for e, r in self._below_the_last() if r.waiting]
        if not heads:
            return None
        (*_, trial), epoch = min(heads)
        return self._promoted(
            trial, epoch, "the most promising that waits, with no new trials to come"
        )

    def _below_the_last(self) -> Iterator[tuple[int, Rung]]:
        """Rungs that one can be promoted from, topmost first."""
        return ((epoch, self._rungs[epoch]) for epoch in reversed(self._stops[:-1]))


class Median:
    """The median stopping rule, one epoch at a time.

    Golovin et al. 2017, "Google Vizier", KDD, section 3.2.1: a trial is stopped at epoch s if its
    best loss so far is worse than the median, over the other trials, of their mean loss over
    epochs 1 … s. The paper compares with completed trials; with many side by side there are none
    for long, so here all others that reached epoch s count (as Ray Tune's rule does it).
    """

    GRACE = 3  #: epochs before anyone is stopped
    PEERS = 5  #: how many others must have reached an epoch before it is compared at

    def __init__(self, *, max_epochs: int) -> None:
        self._max_epochs = max_epochs
        self._sum: dict[int, float] = {}
        self._best: dict[int, Score] = {}
        self._means: list[list[float]] = [[] for _ in range(max_epochs + 1)]  # by epoch, sorted
        self._waiting: dict[int, int] = {}  # trial -> the epoch it waits at, in order of arrival

    def first_stop(self, trial: int) -> int:
        """The first epoch."""
        return 1

    def spend(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """What is spent is not counted."""

    def enter(self, trial: int, epoch: int, score: Score) -> None:
        """Take one more epoch's loss into the trial's mean."""
        self._sum[trial] = self._sum.get(trial, 0.0) + score[0]
        self._best[trial] = min(score, self._best.get(trial, WORST))
        insort(self._means[epoch], self._sum[trial] / epoch)
        if score[0] < math.inf and epoch < self._max_epochs:
            self._waiting[trial] = epoch

    def leave(self, trial: int, epoch: int) -> None:
        """No longer waiting for the next epoch."""
        self._waiting.pop(trial, None)

    def verdict(self, trial: int, epoch: int, score: Score) -> Verdict:
        """Complete at the last epoch, pruned if worse than the median, else on to the next."""
        if epoch == self._max_epochs:
            return Verdict(kind=Kind.COMPLETE, reason=f"trained all {epoch} epochs", rung=epoch)
        means = self._means[epoch]
        others = len(means) - 1
        if epoch < self.GRACE or others < self.PEERS:
            return Verdict(kind=Kind.PAUSE, reason=f"epoch {epoch}: too early to compare")
        middle = others // 2
        middle += bisect_left(means, self._sum[trial] / epoch) <= middle  # its own is left out
        median, best = means[middle], self._best[trial][0]
        worse = best > median
        told = f"{'worse' if worse else 'not worse'} than the median of {others} others"
        return Verdict(
            kind=Kind.PRUNE if worse else Kind.PAUSE,
            reason=f"epoch {epoch}: its best is {told}",
            rung=epoch, peers=others + 1, cutoff=median,
        )  # fmt: skip

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """Whoever waits longest."""
        trial = next(iter(self._waiting), None)
        if trial is None:
            return None
        epoch = self._waiting[trial]
        return Promotion(
            trial=trial, start_epoch=epoch, stop_epoch=epoch + 1, reason="its next epoch"
        )

    def least_promising(self, among: Container[int]) -> int | None:
        """The one with the worst best loss of those that wait."""
        waiting = (t for t in self._waiting if t in among)
        return max(waiting, key=lambda t: (self._best[t], t), default=None)


class NoPruning:
    """Every trial trains all its epochs."""

    def __init__(self, *, max_epochs: int) -> None:
        self._max_epochs = max_epochs

    def first_stop(self, trial: int) -> int:
        """The last epoch."""
        return self._max_epochs

    def spend(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """What is spent is not counted."""

    def enter(self, trial: int, epoch: int, score: Score) -> None:
        """Nothing is compared."""

    def leave(self, trial: int, epoch: int) -> None:
        """Nobody waits."""

    def verdict(self, trial: int, epoch: int, score: Score) -> Verdict:
        """Complete."""
        return Verdict(kind=Kind.COMPLETE, reason=f"trained all {epoch} epochs", rung=epoch)

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """Nobody."""
        return None

    def least_promising(self, among: Container[int]) -> int | None:
        """Nobody."""
        return None
