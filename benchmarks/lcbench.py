"""Our search behind searchbench's tuner interface: the LCBench surrogate, simulated workers.

    make bench-search SEARCHBENCH=folder     # the folder that holds searchbench/ and its results

The search is the one that a run uses, event by event; only the workers and the trainer are missing.
"""

from __future__ import annotations

import math
from typing import Any

from orchestrator.search.budget import Budget
from orchestrator.search.events import SessionStarted
from orchestrator.search.messages import Report
from orchestrator.search.rungs import wide_rungs
from orchestrator.search.search import Search
from orchestrator.search.spec import SearchSpec
from orchestrator.space.domains import Integer, Real
from orchestrator.space.space import Parameter, Space


def make_tuner(space: Any, *, max_epoch: int, workers: int, seed: int, budget_epochs: int) -> Tuner:
    """The factory that searchbench asks for; `space` is a tuple of its Param."""
    return Tuner(space, max_epoch=max_epoch, seed=seed, budget_epochs=budget_epochs)


class Tuner:
    """A search that maximises the accuracies which are reported to it."""

    def __init__(self, space: Any, *, max_epoch: int, seed: int, budget_epochs: int) -> None:
        spec = SearchSpec(rungs=wide_rungs(max_epoch))
        parameters = Space(_parameter(p) for p in space)
        self._search = Search(parameters, spec, seed=seed, max_epochs=max_epoch)
        self._search.apply(SessionStarted(budget=Budget(epochs=budget_epochs)))

    def suggest(self) -> Any:
        """The next assignment, or None."""
        from searchbench.core import Assignment

        events = self._search.suggest()
        if not events:
            return None
        a = self._search.make_assignment(events[-1])
        return Assignment(str(a.trial), a.config, a.start_epoch, a.stop_epoch)

    def report(self, trial_id: str, epoch: int, value: float) -> None:
        """Report the accuracy of one epoch."""
        trial = self._search.trials[int(trial_id)]
        self._search.observe(
            Report(
                trial=trial.id,
                attempt=trial.attempt,
                epoch=epoch,
                metrics={},
                score=(-value, 0.0) if math.isfinite(value) else (math.inf, math.inf),
                seconds=0.0,
                worker=0,
                last=epoch == trial.stop_epoch,
            ),
            at_seconds=0.0,
        )

    def best(self) -> str:
        """Return the incumbent's trial, whose model a run saves."""
        incumbent = self._search.incumbent
        return str(incumbent.trial if incumbent else None)


def _parameter(p: Any) -> Parameter:
    scale = "log" if p.log else "linear"
    if p.integer:
        return Parameter(
            name=p.name, domain=Integer(low=p.low, high=p.high, scale="log2" if p.log else "linear")
        )
    return Parameter(name=p.name, domain=Real(low=p.low, high=p.high, scale=scale))
