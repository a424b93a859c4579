"""Rungs that share the epochs: the model says who is promoted, and turns say when.

Successive halving promotes a fixed part of each rung. Here each rung gets a share of the epochs
instead: the next assignment belongs to the rung that lags furthest behind its share, and of the
trials that wait for it, the one that is expected to improve most on the best so far goes on. At
first the low rungs get more (many trials are tried before one is trained to the end), later all
rungs get the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from orchestrator.search.pruning.base import Promotion
from orchestrator.search.pruning.rungs import Rungs
from orchestrator.search.surrogate.advisor import Advisor

__all__ = ["Shares"]

LOWEST, TOPMOST = (
    2.0,
    0.4,
)  #: weights of the first and the last rung at first; later all have weight 1
EVEN = 0.2  #: share of the budget after which all rungs have the same weight
CONSIDERED = 256  #: the model looks at the best so many trials that wait in a rung


class Shares(Rungs):
    """A `Pruner` that also says when a new trial is due; see the module's docstring."""

    def __init__(self, *, rungs: Sequence[int], advisor: Advisor) -> None:
        super().__init__(rungs)
        self._advisor = advisor
        self._credit = np.zeros(len(rungs))  # epochs that each rung may still claim, by its share

    def spend(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """Book an assignment on its rung; `progress` is the share of the budget that is used."""
        epochs = stop_epoch - start_epoch
        share = np.linspace(LOWEST, TOPMOST, len(self._stops))
        share += (1 - share) * min(progress / EVEN, 1.0)
        self._credit += epochs * share / share.sum()
        self._credit[self._stops.index(stop_epoch)] -= epochs

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """The most promising trial that waits for the rung whose turn it is.

        None if it is the turn of the first rung, which new trials enter. On the last call no trial
        begins, and the most promising trial goes on wherever it waits.
        """
        if last_call:
            return self._promote_best(self._stops[:-1])
        for place in np.argsort(-self._credit, kind="stable"):
            if place == 0 or not self._advisor.ready:
                return None
            if promotion := self._promote_best([self._stops[place - 1]]):
                return promotion
        return None

    def _promote_best(self, epochs: Sequence[int]) -> Promotion | None:
        """The most promising trial that waits in the rungs at these epochs."""
        waiting = {
            trial: epoch
            for epoch in epochs
            for *_, trial in islice(self._rungs[epoch].waiting, CONSIDERED)
        }
        if not waiting:
            return None
        if not self._advisor.ready:  # on the last call of a short run
            trial = min(waiting, key=lambda t: self._rungs[waiting[t]].score(t))
            return self._promote(
                trial, waiting[trial], "the best that waits, too early for the model"
            )
        place, forecast = self._advisor.choose(list(waiting))
        trial = list(waiting)[place]
        why = f"of {len(waiting)} that wait it is expected to improve most"
        return self._promote(trial, waiting[trial], why, forecast)
