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
from orchestrator.search.simulate import SimulationResult, simulate
from pipelines.data.prepare import PreparedData
from pipelines.runs.from_spec import make_search
from pipelines.runs.spec import Spec
from pipelines.see.formatting import format_duration

__all__ = ["Cost", "expected", "format_plan", "measure_cost"]

SAMPLES = 12  #: configurations trained for an epoch to learn what one costs
SAMPLE_SECONDS = 5.0  #: for all of them, about
MOST_SIMULATED = 2_000  #: trials; what lies beyond is scaled up
ROW_BYTES = 160  #: of Parquet for an epoch and its share of events, measured on digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an epoch costs, over sampled configurations."""

    epoch_seconds: tuple[float, ...]
    state_bytes: tuple[int, ...]


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


def expected(
    spec: Spec, added: Budget, cost: Cost, *, workers: int
) -> tuple[SimulationResult, float]:
    """A simulated run under this budget, and by how much its counts are to be multiplied.

    Made-up learning curves and measured epochs; a large run is simulated as a smaller one of the
    same shape.
    """
    mean = float(np.mean(cost.epoch_seconds)) if cost.epoch_seconds else 1.0
    limits = [
        float(added.trials) if added.trials else np.inf,
        added.epochs / 2 if added.epochs else np.inf,
        added.seconds * workers / mean / 2 if added.seconds else np.inf,
    ]
    scale = max(min(limits) / MOST_SIMULATED, 1.0)
    budget = Budget(
        seconds=added.seconds / scale if added.seconds else None,
        trials=max(int(added.trials / scale), 1) if added.trials else None,
        epochs=max(int(added.epochs / scale), 1) if added.epochs else None,
    )
    search = make_search(spec)
    sampled = cost.epoch_seconds or (1.0,)
    found = simulate(
        search,
        budget=budget,
        workers=workers,
        epoch_seconds=lambda a: sampled[a.trial % len(sampled)],
    )
    return found, scale


def format_plan(
    spec: Spec, data: PreparedData, added: Budget, cost: Cost, *, workers: int
) -> list[str]:
    """Trials x rungs x epochs, time and disk."""
    if added.unlimited:
        added = Budget(seconds=DEFAULT_SECONDS)
    found, scale = expected(spec, added, cost, workers=workers)
    trials, epochs = round(found.trials * scale), round(found.epochs * scale)
    each = sorted(cost.epoch_seconds)
    reached = "  ".join(f"{round(n * scale)} to epoch {e}" for e, n in found.reached.items())
    states = np.mean(cost.state_bytes) * trials if cost.state_bytes else 0.0
    disk = ROW_BYTES * epochs + min(states, spec.search.state_budget)
    d = data.data
    outputs = f"{d.outputs} classes" if data.task == "classification" else "a number"
    return [
        f"data      {len(d.x_train)} rows to train, {len(d.x_validation)} to validate, "
        f"{len(data.x_test)} to test; {d.x_train.shape[1]} inputs; {outputs}",
        f"decides   validation {spec.metric}",
        f"rungs     {', '.join(map(str, spec.search.rungs))} epochs, {_rule(spec)}",
        f"budget    {_budget(added)}, {workers} workers",
        f"an epoch  {format_duration(float(np.median(each)))} "
        f"({format_duration(each[0])} to {format_duration(each[-1])}, "
        f"{len(each)} configurations tried)",
        f"about     {trials} trials, {epochs} epochs, {format_duration(found.seconds * scale)}",
        f"          {reached}",
        f"disk      up to {disk / 1e6:.0f} MB, most of it states of trials that wait",
    ]


def _rule(spec: Spec) -> str:
    third = f"about 1/{spec.search.eta} goes on at each"
    rules = {
        "shares": "all get like shares of the epochs; who may improve most goes on",
        "asha": third,
        "hyperband": third,
        "median": "whoever is worse than the median is given up",
        "none": "everyone goes on",
    }
    return rules[spec.search.pruning] if len(spec.search.rungs) > 1 else "no pruning"


def _budget(added: Budget) -> str:
    told = [
        format_duration(added.seconds) if added.seconds else "",
        f"{added.trials} trials" if added.trials else "",
        f"{added.epochs} epochs" if added.epochs else "",
    ]
    return " or ".join(t for t in told if t) + (
        ", whichever ends first" if len([t for t in told if t]) > 1 else ""
    )
