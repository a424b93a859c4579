"""Asynchronous successive halving with pause and promotion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.search.pruning.base import Promotion
from orchestrator.search.pruning.rungs import Rung, Rungs

__all__ = ["Asha"]


class Asha(Rungs):
    """The best 1/eta of every rung go on.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", arXiv:1810.05934,
    Algorithm 2 (get_job): the topmost rung with a promotable trial is served first; a trial is
    promotable if it waits and belongs to the best 1/eta of all that reached the rung. Two things
    are added: a trial that diverged counts in its rung (as worst), and there is a last call
    (`promotion`).
    """

    def __init__(self, *, rungs: Sequence[int], eta: int) -> None:
        super().__init__(rungs)
        self._eta = eta

    def spend(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """Do nothing: successive halving does not count what is spent."""

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """The best waiting trial of the topmost rung where it belongs to the best 1/eta."""
        for epoch, rung in self._promoting_rungs():
            if not rung.waiting:
                continue
            trial, quota = rung.waiting[0][-1], self._quota(rung)
            if rung.rank(trial) <= quota:
                return self._promote(
                    trial, epoch, f"among the best {quota} (1/{self._eta}) of them"
                )
        return self._last_call() if last_call else None

    def _quota(self, rung: Rung) -> int:
        return len(rung) // self._eta

    def _last_call(self) -> Promotion | None:
        heads = [(r.waiting[0], e) for e, r in self._promoting_rungs() if r.waiting]
        if not heads:
            return None
        (*_, trial), epoch = min(heads)
        return self._promote(
            trial, epoch, "the most promising that waits, with no new trials to come"
        )

    def _promoting_rungs(self) -> Iterator[tuple[int, Rung]]:
        """All rungs but the last one, topmost first."""
        return ((epoch, self._rungs[epoch]) for epoch in reversed(self._stops[:-1]))
