"""A simulation of a run from its spec, which takes seconds however long its trials are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from orchestrator.search.budget import Budget
from orchestrator.search.messages import Assignment
from orchestrator.search.simulate import SimulationResult, simulate
from pipelines.runs.from_spec import make_search
from pipelines.runs.spec import Spec

__all__ = ["simulate_run"]

MOST_EPOCHS = 500  #: epochs of a simulated trial; an epoch takes about 30 us


def simulate_run(
    spec: Spec, *, budget: Budget, workers: int, epoch_seconds: Callable[[Assignment], float]
) -> SimulationResult:
    """Simulate a run; if its trials have more than `MOST_EPOCHS`, one epoch stands for several.

    Args:
        spec: The run's spec.
        budget: The limits of the run.
        workers: Number of workers that train at the same time.
        epoch_seconds: Duration of one epoch of an assignment.
    """
    ratio = math.ceil(spec.max_epochs / MOST_EPOCHS)
    rungs = {max(round(rung / ratio), 1): rung for rung in spec.search.rungs}  # short -> real
    short = replace(
        spec, max_epochs=max(rungs), search=replace(spec.search, rungs=tuple(sorted(rungs)))
    )
    epochs = None if budget.epochs is None else max(budget.epochs // ratio, 1)
    result = simulate(
        make_search(short),
        budget=replace(budget, epochs=epochs),
        workers=workers,
        epoch_seconds=lambda a: ratio * epoch_seconds(a),
    )
    reached = {rungs.get(epoch, epoch * ratio): count for epoch, count in result.reached.items()}
    return replace(result, epochs=result.epochs * ratio, reached=reached)
