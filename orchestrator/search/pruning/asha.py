"""Asynchronous successive halving (ASHA) with pause and promotion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.search.pruning.base import Promotion
from orchestrator.search.pruning.rungs import Rung, Rungs

__all__ = ["Asha"]


class Asha(Rungs):
    """A `Pruner` that promotes the best 1/eta of every rung.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv:1810.05934,
    Algorithm 2 (get_job): the topmost rung with a promotable trial is served first; a trial is
    promotable if it waits and belongs to the best 1/eta of all that reached the rung. Two things
    are added: a diverged trial counts in its rung (as the worst), and on the last call the best
    waiting trial goes on even outside the best 1/eta (`choose_promotion`).
    """

    def __init__(self, *, rungs: Sequence[int], eta: int) -> None:
        super().__init__(rungs)
        self._eta = eta
        self.summary = f"about 1/{eta} is promoted at each"

    def count_epochs(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """Do nothing: successive halving does not depend on the epochs handed out."""

    def choose_promotion(self, *, last_call: bool) -> Promotion | None:
        """Choose the best waiting trial of the topmost rung where it is in the best 1/eta."""
        for epoch, rung in self._promoting_rungs():
            if not rung.waiting:
                continue
            trial, quota = rung.waiting[0][-1], self._quota(rung)
            if rung.rank(trial) <= quota:
                return self._promote(
                    trial, epoch, f"among the best {quota} (1/{self._eta}) of them"
                )
        return self._promote_on_last_call() if last_call else None

    def _quota(self, rung: Rung) -> int:
        return len(rung) // self._eta

    def _promote_on_last_call(self) -> Promotion | None:
        heads = [(r.waiting[0], e) for e, r in self._promoting_rungs() if r.waiting]
        if not heads:
            return None
        (*_, trial), epoch = min(heads)
        return self._promote(
            trial, epoch, "the most promising that waits, with no new trials to come"
        )

    def _promoting_rungs(self) -> Iterator[tuple[int, Rung]]:
        """Rungs that trials are promoted from: all but the last one, topmost first."""
        return ((epoch, self._rungs[epoch]) for epoch in reversed(self._stops[:-1]))
