"""The search past one machine: ten thousand workers, a million trials, in virtual time.

    python -m benchmarks.scale [--trials 1000000] [--workers 10000]

A decision is a call of `suggest` by a free worker or a call of `observe` with a report; only these
calls are timed, not the simulation around them. The published methods decide by ranks alone, ours
asks its model.
"""

from __future__ import annotations

import gc
import heapq
import multiprocessing
import resource
import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from orchestrator.search.budget import Budget
from orchestrator.search.events import SessionStarted
from orchestrator.search.messages import Assignment, Report
from orchestrator.search.methods import METHODS
from orchestrator.search.rungs import geometric_rungs, wide_rungs
from orchestrator.search.search import Search
from orchestrator.search.spec import SearchSpec
from orchestrator.space.domains import Integer, Real
from orchestrator.space.space import Parameter, Space

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


@dataclass(frozen=True)
class Scaled:
    """Measurements of a simulated run."""

    decisions: int
    rates: tuple[
        float, float, float
    ]  #: decisions per second in the first, fifth and last tenth of the run
    memory_mb: float  #: memory that the run added to the process


def simulate_run(method: str, trials: int, workers: int) -> Scaled:
    """Simulate a run; the time of an epoch differs by trial."""
    parts = METHODS[method]
    rungs = wide_rungs(EPOCHS) if method == "caviar" else geometric_rungs(max_epochs=EPOCHS, eta=3)
    spec = SearchSpec(
        method=method,
        sampler=parts.default_sampler,
        pruning=parts.default_pruning,
        zooms=parts.default_zooms,
        rungs=rungs,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    search = Search(SPACE, spec, seed=0, max_epochs=EPOCHS)
    search.apply(SessionStarted(budget=Budget(trials=trials)))
    rng = np.random.default_rng(0)
    losses, paces = rng.random(2**16), rng.lognormal(0, 0.5, 2**16)
    queue: list[tuple[float, int, Assignment]] = []  # (when it ends, order, what)
    order = decisions = since = 0
    now = spent = 0.0
    rates: list[float] = []
    clock = time.perf_counter
    while True:
        while len(queue) < workers:
            began = clock()
            events = search.suggest()
            spent += clock() - began
            if not events:
                break
            decisions, order = decisions + 1, order + 1
            a = search.make_assignment(events[-1])
            seconds = (a.stop_epoch - a.start_epoch) * paces[a.trial % len(paces)]
            heapq.heappush(queue, (now + seconds, order, a))
        if not queue:
            break
        now, _, a = heapq.heappop(queue)
        for epoch in range(a.start_epoch + 1, a.stop_epoch + 1):
            loss = float(losses[(31 * a.trial + epoch) % len(losses)]) / epoch
            report = Report(
                trial=a.trial, attempt=a.attempt, epoch=epoch, metrics={}, score=(loss, 0.0),
                seconds=0.0, worker=0, last=epoch == a.stop_epoch,
            )  # fmt: skip
            began = clock()
            search.observe(report, now)
            spent += clock() - began
            decisions += 1
        if len(search.trials) * 10 >= trials * (len(rates) + 1):
            rates.append((decisions - since) / spent)
            since, spent = decisions, 0.0
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Scaled(decisions, (rates[0], rates[4], rates[-1]), (after - before) / 1000)


def main(
    trials: Annotated[int, typer.Option(help="trials of the longest run")] = 1_000_000,
    model_trials: Annotated[
        int, typer.Option(help="trials of the longest run with the model")
    ] = 20_000,
    workers: Annotated[int, typer.Option(help="number of workers")] = 10_000,
    methods: Annotated[str, typer.Option(help="methods, separated by commas")] = "asha,caviar",
) -> None:
    """Print a line for each run: decisions per second at three times, and its memory."""
    print(f"{workers} workers; decisions a second in a run's first, fifth and last tenth")
    gc.disable()  # the measured code keeps all objects that it makes
    context = multiprocessing.get_context("spawn")
    for method in methods.split(","):
        longest = model_trials if method == "caviar" else trials
        for count in (longest // 100, longest // 10, longest):
            with context.Pool(1) as pool:  # a process each, so that its memory is its own
                s = pool.apply(simulate_run, (method, count, min(workers, count)))
            shown = "  ".join(f"{rate:8,.0f}" for rate in s.rates)
            print(f"{method:8s} {count:9,d} trials  {shown}  {s.memory_mb:8,.0f} MB", flush=True)


if __name__ == "__main__":
    typer.run(main)
