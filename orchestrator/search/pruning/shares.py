"""Rungs that share the epochs: the shares choose the rung, and the model chooses the trial.

Successive halving promotes a fixed part of each rung. Here each rung gets a share of the epochs
instead: the next assignment belongs to the rung that lags furthest behind its share. Of the trials
that wait for it, the one goes on that is expected to improve most on the best so far. At first the
low rungs get more, so that many trials are tried before one is trained to the end; later all rungs
get the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from orchestrator.search.pruning.base import Promotion
from orchestrator.search.pruning.rungs import Rungs
from orchestrator.search.surrogate.advisor import Advisor

__all__ = ["Shares"]

LOWEST, TOPMOST = 2.0, 0.4  #: first weights of the first and the last rung; later all have weight 1
EVEN = 0.2  #: share of the budget after which all rungs have the same weight
CONSIDERED = 256  #: maximum of waiting trials in a rung that the model compares; the best ones


class Shares(Rungs):
    """A `Pruner` that also decides when a new trial is due; see the module's docstring."""

    summary = "each gets an equal share of the epochs; the trials that may improve most go on"

    def __init__(self, *, rungs: Sequence[int], advisor: Advisor) -> None:
        super().__init__(rungs)
        self._advisor = advisor
        self._credit = np.zeros(len(rungs))  # epochs that each rung lacks to have its share

    def count_epochs(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """Count an assignment's epochs for its rung; the weights depend on `progress`."""
        epochs = stop_epoch - start_epoch
        share = np.linspace(LOWEST, TOPMOST, len(self._stops))
        share += (1 - share) * min(progress / EVEN, 1.0)
        self._credit += epochs * share / share.sum()
        self._credit[self._stops.index(stop_epoch)] -= epochs

    def choose_promotion(self, *, last_call: bool) -> Promotion | None:
        """Choose the most promising trial that waits for the rung that lags furthest behind.

        The answer is None if that is the first rung, which new trials enter. On the last call no
        trial is started, and the most promising trial of all rungs goes on.
        """
        if last_call:
            return self._promote_best(self._stops[:-1])
        for rung in np.argsort(-self._credit, kind="stable"):
            if rung == 0 or not self._advisor.ready:
                return None
            if promotion := self._promote_best([self._stops[rung - 1]]):
                return promotion
        return None

    def _promote_best(self, epochs: Sequence[int]) -> Promotion | None:
        """Promote the most promising trial that waits in the rungs at these epochs."""
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
        index, forecast = self._advisor.choose_trial(list(waiting))
        trial = list(waiting)[index]
        reason = f"of {len(waiting)} that wait it is expected to improve most"
        return self._promote(trial, waiting[trial], reason, forecast)
