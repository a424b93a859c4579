"""Rungs that share the epochs: who is promoted is what the model says, when is a matter of turns.

Successive halving promotes a fixed part of each rung. Here each rung gets a share of the epochs
instead: the next assignment belongs to the rung that lags furthest behind its share, and of those
that wait for it the one that is expected to improve most on the best so far goes on. At first the
low rungs get more (many are tried before one is trained to the end), later all get the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from orchestrator.advisor import Advisor
from orchestrator.events import Kind
from orchestrator.pruning import Promotion, Rungs, Verdict
from orchestrator.trial import Score

__all__ = ["Shares"]

LOWEST, TOPMOST = 2.0, 0.4  #: what the first and the last rung get at first, for 1 later
EVEN = 0.2  #: of the budget, until all rungs get the same
CONSIDERED = 256  #: of those that wait in a rung, the best so many are looked at


class Shares(Rungs):
    """See the module's docstring; a `Pruner`, and more: it says when a new trial is due."""

    def __init__(self, *, rungs: Sequence[int], advisor: Advisor) -> None:
        super().__init__(rungs)
        self._advisor = advisor
        self._credit = np.zeros(len(rungs))  # what each rung may claim, by its share

    def spend(self, stop_epoch: int, cost: float, progress: float) -> None:
        """An assignment up to this epoch is handed out, at this share of the budget."""
        share = np.linspace(LOWEST, TOPMOST, len(self._stops))
        share += (1 - share) * min(progress / EVEN, 1.0)
        self._credit += cost * share / share.sum()
        self._credit[self._stops.index(stop_epoch)] -= cost

    def verdict(self, trial: int, epoch: int, score: Score) -> Verdict:
        """Complete in the last rung, else wait."""
        rung = self._rungs[epoch]
        rank, peers = rung.rank(trial), len(rung.ranked)
        place = f"place {rank} of {peers}"
        if epoch == self._stops[-1]:
            kind, reason = Kind.COMPLETE, f"trained all {epoch} epochs; {place} that did"
        else:
            kind, reason = Kind.PAUSE, f"waits in rung {epoch}: {place}"
        return Verdict(kind=kind, reason=reason, rung=epoch, rank=rank, peers=peers)

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """The most promising of those that wait for the rung whose turn it is.

        None if it is the first rung's turn, which new trials enter; on the last call none begin, so
        the turn goes to the rungs above.
        """
        for place in np.argsort(-self._credit, kind="stable"):
            if place == 0:
                if last_call:
                    continue
                return None
            epoch = self._stops[place - 1]
            waiting = self._rungs[epoch].waiting
            if waiting and (self._advisor.ready or last_call):
                return self._promote(epoch, [t for _, t in islice(waiting, CONSIDERED)])
        return None

    def _promote(self, epoch: int, waiting: list[int]) -> Promotion:
        rung = self._rungs[epoch]
        if self._advisor.ready:
            chosen, forecast = self._advisor.choose(waiting)
            why = f"of {len(waiting)} that wait it is expected to improve most"
        else:  # on the last call of a short run
            chosen, forecast = 0, None
            why = "the best that waits, too early for the model"
        trial = waiting[chosen]
        rank, peers = rung.rank(trial), len(rung.ranked)
        return Promotion(
            trial=trial,
            start_epoch=epoch,
            stop_epoch=self._next_stop(epoch),
            reason=f"place {rank} of {peers} in rung {epoch}: {why}",
            rank=rank,
            peers=peers,
            forecast=forecast,
        )
