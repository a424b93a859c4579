"""How many decisions a second a search takes, and whether that stays so as a run grows.

    python benchmarks/decisions.py [--trials 20000]

A decision is a free worker that asks (suggest) and what comes back in the end (observe); nothing is
trained. The published methods decide by ranks alone, ours asks its model.
"""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
import typer

from orchestrator.events import Event, Kind
from orchestrator.rungs import geometric_rungs, wide_rungs
from orchestrator.search import Search
from orchestrator.space import Integer, Parameter, Real, Space
from orchestrator.spec import METHODS, SearchSpec
from orchestrator.trial import Report

EPOCHS = 27
SPACE = Space(
    [
        Parameter(name="learning_rate", domain=Real(low=1e-4, high=1, scale="log")),
        Parameter(name="momentum", domain=Real(low=0.9, high=0.999, scale="reverse_log")),
        Parameter(name="batch_size", domain=Integer(low=16, high=512, scale="log2")),
        Parameter(name="layers", domain=Integer(low=1, high=5)),
        Parameter(name="dropout", domain=Real(low=0, high=1)),
        Parameter(name="weight_decay", domain=Real(low=1e-6, high=1e-1, scale="log")),
    ]
)


def rates(method: str, trials: int, workers: int) -> list[float]:
    """Decisions a second in each tenth of a run of so many trials."""
    parts = METHODS[method]
    rungs = wide_rungs(EPOCHS) if method == "caviar" else geometric_rungs(max_epochs=EPOCHS, eta=3)
    spec = SearchSpec(
        method=method, sampler=parts.sampler, pruning=parts.pruning, zooms=parts.zooms, rungs=rungs
    )
    search = Search(SPACE, spec, seed=0, max_epochs=EPOCHS)
    search.apply(Event(kind=Kind.SESSION, budget_trials=trials))
    rng = np.random.default_rng(0)
    losses = rng.random(2**16)
    running: list[int] = []
    found, done, since, spent = [], 0, 0, 0.0
    while len(found) < 10:
        began = time.perf_counter()
        while len(running) < workers and (events := search.suggest()):
            running.append(search.assignment(events[-1]).trial)
        spent += time.perf_counter() - began
        if not running:
            break
        trial = search.trials[running.pop(0)]
        last = trial.stop_epoch
        for epoch in range(trial.epoch + 1, last + 1):
            report = Report(
                trial=trial.id, attempt=trial.attempt, epoch=epoch, metrics={},
                score=(float(losses[(31 * trial.id + epoch) % len(losses)]) / epoch, 0.0),
                seconds=0.0, worker=0, last=epoch == last,
            )  # fmt: skip
            began = time.perf_counter()
            search.observe(report, 0.0)
            spent += time.perf_counter() - began
        done += 1
        if len(search.trials) * 10 >= trials * (len(found) + 1):
            found.append((done - since) / spent)
            since, spent = done, 0.0
    return found


def main(
    trials: Annotated[int, typer.Option(help="how long each run is")] = 20_000,
    model_trials: Annotated[int, typer.Option(help="the same for the model's")] = 2_000,
    workers: Annotated[int, typer.Option(help="who ask")] = 4,
) -> None:
    """Print a line a method: decisions a second in the first, the middle and the last tenth."""
    print(f"{'method':12s} {'trials':>7s} {'first':>8s} {'middle':>8s} {'last':>8s}  decisions/s")
    for method in METHODS:
        if method == "grid":
            continue
        count = model_trials if method == "caviar" else trials
        r = rates(method, count, workers)
        print(f"{method:12s} {count:7d} {r[0]:8.0f} {r[len(r) // 2]:8.0f} {r[-1]:8.0f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
