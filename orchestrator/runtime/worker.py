"""What a worker does with an assignment, wherever it runs. It holds no policy and no trial."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.runtime.trainer import Job, Trainer, load_trainer
from orchestrator.search.messages import Assignment, Failure, Report, State
from orchestrator.search.objective import WORST
from orchestrator.space.domains import Config

__all__ = ["Checkpoint", "Message", "restore_trainer", "train"]

Message = Report | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trial's state after an epoch: a cache; without it one trains again."""

    epoch: int
    state: State

    @property
    def bytes(self) -> int:
        """What it takes up, about."""
        return sum(v.nbytes if isinstance(v, np.ndarray) else 64 for v in self.state.values())


def train(
    job: Job,
    assignment: Assignment,
    held: Checkpoint | None,
    *,
    worker: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Message]:
    """Train the assignment's epochs: a report for each, the trial's state with the last one.

    Whatever a trainer raises becomes a Failure; nothing is raised here. A metric that is not
    finite, or a train_loss beyond `explode_above`, ends the assignment at once.
    """
    try:
        yield from _train(job, assignment, held, worker, clock)
    except Exception as e:
        yield Failure(
            trial=assignment.trial,
            attempt=assignment.attempt,
            kind="raised",
            message=f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}".strip(": "),
            traceback=traceback.format_exc(),
            worker=worker,
        )


def _train(
    job: Job, a: Assignment, held: Checkpoint | None, worker: int, clock: Callable[[], float]
) -> Iterator[Message]:
    trainer = restore_trainer(job, a.config, a.seed, held, epoch=a.start_epoch)
    declared = load_trainer(job.trainer, job.paths).metrics
    beat = a.beat
    for epoch in range(a.start_epoch + 1, a.stop_epoch + 1):
        begin = clock()
        metrics = _checked(trainer.epoch(), declared)
        seconds = clock() - begin
        cause = _cause(metrics, a.explode_above)
        score = WORST if cause else job.objective.score(metrics)
        last = bool(cause) or epoch == a.stop_epoch
        best = score < beat
        beat = min(beat, score)
        yield Report(
            trial=a.trial,
            attempt=a.attempt,
            epoch=epoch,
            metrics=metrics,
            score=score,
            seconds=seconds,
            worker=worker,
            cause=cause,
            last=last,
            state=_validate_state(trainer.state()) if best or (last and not cause) else None,
        )
        if cause:
            return


def restore_trainer(
    job: Job, config: Config, seed: int, held: Checkpoint | None, *, epoch: int
) -> Trainer:
    """The trial's trainer after `epoch` epochs: from its state, or trained again up to there."""
    trainer = job.make(config, seed)
    done = 0
    if held is not None and held.epoch <= epoch:
        trainer.load(held.state)
        done = held.epoch
    for _ in range(done, epoch):
        trainer.epoch()
    return trainer


def _checked(
    metrics: Mapping[str, Any], declared: Mapping[str, tuple[type, str]]
) -> dict[str, Any]:
    """The metrics as plain numbers of the declared types, in the declared order."""
    if extra := sorted(metrics.keys() - declared.keys()):
        raise ValueError(
            f"the trainer reported a metric that it did not declare: {', '.join(extra)}; "
            f"add it to `metrics`"
        )
    if missing := sorted(declared.keys() - metrics.keys()):
        raise ValueError(f"the trainer did not report a metric it declared: {', '.join(missing)}")
    for name, (kind, _) in declared.items():
        if kind is int and not math.isfinite(metrics[name]):
            raise ValueError(f"{name} is {metrics[name]}, which no int can be; declare it as float")
    return {name: kind(metrics[name]) for name, (kind, _) in declared.items()}


def _validate_state(state: State) -> State:
    """A state that every file and worker can take, or an error that names what cannot."""
    for name, value in state.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            continue
        if not isinstance(value, np.number | np.bool_ | bool | int | float | str | bytes):
            raise TypeError(
                f"the trainer's state needs arrays of numbers, numbers, strings or bytes, "
                f"got {type(value).__name__} for {name!r}"
            )
    return state


def _cause(metrics: Mapping[str, float], explode_above: float) -> str:
    for name, value in metrics.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    if metrics.get("train_loss", 0.0) > explode_above:
        return f"train_loss {metrics['train_loss']:.3g} exploded above {explode_above:g}"
    return ""
