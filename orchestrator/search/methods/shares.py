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

from orchestrator.search.methods.pruning import Promotion, Rungs
from orchestrator.search.surrogate.advisor import Advisor

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

    def spend(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """An assignment of these epochs is handed out, at this share of the budget."""
        epochs = stop_epoch - start_epoch
        share = np.linspace(LOWEST, TOPMOST, len(self._stops))
        share += (1 - share) * min(progress / EVEN, 1.0)
        self._credit += epochs * share / share.sum()
        self._credit[self._stops.index(stop_epoch)] -= epochs

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """The most promising of those that wait for the rung whose turn it is.

        None if it is the first rung's turn, which new trials enter. On the last call none begin,
        and the most promising goes on wherever it waits.
        """
        if last_call:
            return self._promote(self._stops[:-1])
        for place in np.argsort(-self._credit, kind="stable"):
            if place == 0 or not self._advisor.ready:
                return None
            if promotion := self._promote([self._stops[place - 1]]):
                return promotion
        return None

    def _promote(self, epochs: Sequence[int]) -> Promotion | None:
        """One of those that wait in the rungs at these epochs."""
        waiting = {
            trial: epoch
            for epoch in epochs
            for *_, trial in islice(self._rungs[epoch].waiting, CONSIDERED)
        }
        if not waiting:
            return None
        if not self._advisor.ready:  # on the last call of a short run
            trial = min(waiting, key=lambda t: self._rungs[waiting[t]].score(t))
            return self._promoted(
                trial, waiting[trial], "the best that waits, too early for the model"
            )
        place, forecast = self._advisor.choose(list(waiting))
        trial = list(waiting)[place]
        why = f"of {len(waiting)} that wait it is expected to improve most"
        return self._promoted(trial, waiting[trial], why, forecast)
