"""`caviar plan`: what a search would do and cost, before it does."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from orchestrator.errors import SpecError
from orchestrator.runtime.trainer import Job
from orchestrator.runtime.worker import Checkpoint
from orchestrator.search.budget import DEFAULT_SECONDS, Budget
from orchestrator.search.events import SessionStarted, TrialStarted
from orchestrator.search.random_streams import derive_trial_seed
from orchestrator.search.simulate import SimulationResult
from pipelines.data.prepare import PreparedData
from pipelines.runs.from_spec import make_search
from pipelines.runs.simulated import simulate_run
from pipelines.runs.spec import Spec
from pipelines.see.formatting import format_duration

__all__ = ["Cost", "format_plan", "measure_cost", "simulate_budget"]

SAMPLES = 12  #: configurations trained for an epoch to learn what one costs
SAMPLE_SECONDS = 5.0  #: no further configuration is trained after this time
MOST_SIMULATED = 2_000  #: trials to simulate; the counts of a larger run are scaled up
ROW_BYTES = 160  #: bytes of Parquet for an epoch and its share of events, measured on digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an epoch costs, over sampled configurations."""

    epoch_seconds: tuple[float, ...]  #: duration of the first epoch of each configuration
    state_bytes: tuple[int, ...]  #: size of the checkpoint after it


def measure_cost(spec: Spec, job: Job) -> Cost:
    """Train one epoch of some configurations, drawn as the search would draw them."""
    search = make_search(spec)
    search.apply(SessionStarted())
    seconds: list[float] = []
    sizes: list[int] = []
    begin = time.perf_counter()
    with threadpool_limits(limits=1):  # as in a worker
        while len(seconds) < SAMPLES and time.perf_counter() - begin < SAMPLE_SECONDS:
            events = search.suggest()
            if not events or not isinstance(events[-1], TrialStarted):
                break
            config = events[-1].config
            try:
                trainer = job.make(config, derive_trial_seed(spec.seed, len(seconds)))
                start = time.perf_counter()
                trainer.epoch()
                seconds.append(time.perf_counter() - start)
                sizes.append(Checkpoint(epoch=1, state=trainer.state()).bytes)
            except Exception as e:  # whatever a trainer raises
                raise SpecError(f"{spec.trainer} cannot train {config}: {e}") from e
    return Cost(epoch_seconds=tuple(seconds), state_bytes=tuple(sizes))


def simulate_budget(
    spec: Spec, budget: Budget, cost: Cost, *, workers: int
) -> tuple[SimulationResult, float]:
    """A simulated run under this budget, and the factor that its counts have to be multiplied by.

    The learning curves are synthetic, the durations of epochs are measured ones. A large run is
    simulated as a smaller one of the same shape.
    """
    mean = float(np.mean(cost.epoch_seconds)) if cost.epoch_seconds else 1.0
    limits = [
        float(budget.trials) if budget.trials else np.inf,
        budget.epochs / 2 if budget.epochs else np.inf,
        budget.seconds * workers / mean / 2 if budget.seconds else np.inf,
    ]
    scale = max(min(limits) / MOST_SIMULATED, 1.0)
    scaled = Budget(
        seconds=budget.seconds / scale if budget.seconds else None,
        trials=max(int(budget.trials / scale), 1) if budget.trials else None,
        epochs=max(int(budget.epochs / scale), 1) if budget.epochs else None,
    )
    durations = cost.epoch_seconds or (1.0,)
    result = simulate_run(
        spec,
        budget=scaled,
        workers=workers,
        epoch_seconds=lambda a: durations[a.trial % len(durations)],
    )
    return result, scale


def format_plan(
    spec: Spec, data: PreparedData, budget: Budget, cost: Cost, *, workers: int
) -> list[str]:
    """Write the plan as lines: data, rungs, budget; expected trials, epochs, time and disk."""
    if budget.unlimited:
        budget = Budget(seconds=DEFAULT_SECONDS)
    result, scale = simulate_budget(spec, budget, cost, workers=workers)
    trials, epochs = round(result.trials * scale), round(result.epochs * scale)
    durations = sorted(cost.epoch_seconds)
    reached = "  ".join(f"{round(n * scale)} to epoch {e}" for e, n in result.reached.items())
    states = np.mean(cost.state_bytes) * trials if cost.state_bytes else 0.0
    disk = ROW_BYTES * epochs + min(states, spec.search.state_budget)
    d = data.data
    outputs = f"{d.outputs} classes" if data.task == "classification" else "a number"
    return [
        f"data      {len(d.x_train)} rows to train, {len(d.x_validation)} to validate, "
        f"{len(data.x_test)} to test; {d.x_train.shape[1]} inputs; {outputs}",
        f"decides   validation {spec.metric}",
        f"rungs     {', '.join(map(str, spec.search.rungs))} epochs, {_describe_pruning(spec)}",
        f"budget    {_describe_budget(budget)}, {workers} workers",
        f"an epoch  {format_duration(float(np.median(durations)))} "
        f"({format_duration(durations[0])} to {format_duration(durations[-1])}, "
        f"{len(durations)} configurations tried)",
        f"about     {trials} trials, {epochs} epochs, {format_duration(result.seconds * scale)}",
        f"          {reached}",
        f"disk      up to {disk / 1e6:.0f} MB, most of it checkpoints of paused trials",
    ]


def _describe_pruning(spec: Spec) -> str:
    return make_search(spec).method.pruning_summary if len(spec.search.rungs) > 1 else "no pruning"


def _describe_budget(budget: Budget) -> str:
    limits = [
        format_duration(budget.seconds) if budget.seconds else "",
        f"{budget.trials} trials" if budget.trials else "",
        f"{budget.epochs} epochs" if budget.epochs else "",
    ]
    named = [limit for limit in limits if limit]
    return " or ".join(named) + (", whichever ends first" if len(named) > 1 else "")
