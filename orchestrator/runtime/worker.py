"""What a worker does with an assignment, in whichever process it runs.

A worker has no policy and keeps nothing between two assignments.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from orchestrator.runtime.checkpoint import Checkpoint, Message
from orchestrator.runtime.trainer import Job, Trainer, load_trainer
from orchestrator.search.messages import Assignment, Failure, Report, State
from orchestrator.search.objective import WORST
from orchestrator.space.domains import Config

__all__ = ["Checkpoint", "Message", "restore_trainer", "train"]


def train(
    job: Job,
    assignment: Assignment,
    checkpoint: Checkpoint | None,
    *,
    worker: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Message]:
    """Train the assignment's epochs: a report for each, the trial's state with the last one.

    A metric that is not finite, or a train_loss beyond `explode_above`, ends the assignment at
    once. What a trainer raises becomes a Failure; `train` itself raises nothing. An assignment of
    no epochs ends in a Failure, too.
    """
    try:
        yield from _train(job, assignment, checkpoint, worker, clock)
    except Exception as e:
        first_line = str(e).splitlines()[0] if str(e) else ""
        yield Failure(
            trial=assignment.trial,
            attempt=assignment.attempt,
            kind="raised",
            message=f"{type(e).__name__}: {first_line}".strip(": "),
            traceback=traceback.format_exc(),
            worker=worker,
        )


def _train(
    job: Job,
    a: Assignment,
    checkpoint: Checkpoint | None,
    worker: int,
    clock: Callable[[], float],
) -> Iterator[Message]:
    if a.stop_epoch <= a.start_epoch:
        raise ValueError(
            f"an assignment needs at least one epoch, got epochs {a.start_epoch + 1} to "
            f"{a.stop_epoch} of trial {a.trial}"
        )
    trainer = restore_trainer(job, a.config, a.seed, checkpoint, epoch=a.start_epoch)
    declared = load_trainer(job.trainer, job.paths).metrics
    best_score = a.best_score
    for epoch in range(a.start_epoch + 1, a.stop_epoch + 1):
        begin = clock()
        metrics = _validate_metrics(trainer.epoch(), declared)
        seconds = clock() - begin
        cause = _find_cause(metrics, a.explode_above)
        score = WORST if cause else job.objective.score(metrics)
        last = bool(cause) or epoch == a.stop_epoch
        is_best = score < best_score
        best_score = min(best_score, score)
        with_state = is_best or (last and not cause)
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
            state=_validate_state(trainer.state()) if with_state else None,
        )
        if cause:
            return


def restore_trainer(
    job: Job, config: Config, seed: int, checkpoint: Checkpoint | None, *, epoch: int
) -> Trainer:
    """Make a trial's trainer as it is after `epoch` epochs.

    The trainer loads the checkpoint, unless it is of a later epoch, and trains the epochs that are
    missing.
    """
    trainer = job.make(config, seed)
    done = 0
    if checkpoint is not None and checkpoint.epoch <= epoch:
        trainer.load(checkpoint.state)
        done = checkpoint.epoch
    for _ in range(done, epoch):
        trainer.epoch()
    return trainer


def _validate_metrics(
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
    """A state that can be sent and stored; an error names the value that cannot."""
    for name, value in state.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            continue
        if not isinstance(value, np.number | np.bool_ | bool | int | float | str | bytes):
            raise TypeError(
                f"the trainer's state needs arrays of numbers, numbers, strings or bytes, "
                f"got {type(value).__name__} for {name!r}"
            )
    return state


def _find_cause(metrics: Mapping[str, float], explode_above: float) -> str:
    """Why training has to end after these metrics; empty if it can go on."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    if metrics.get("train_loss", 0.0) > explode_above:
        return f"train_loss {metrics['train_loss']:.3g} exploded above {explode_above:g}"
    return ""
