"""What a worker does with assignments and messages, in whichever process it runs.

A worker has no policy and keeps nothing between two assignments.
"""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from orchestrator.runtime.checkpoint import Checkpoint, Message, ends_assignment
from orchestrator.runtime.trainer import Job, Trainer, load_trainer
from orchestrator.search.events import TrialAdjusted, TrialMessage
from orchestrator.search.messages import Assignment, Failure, Report, State
from orchestrator.search.objective import WORST
from orchestrator.space.domains import Config

__all__ = [
    "Checkpoint",
    "Message",
    "StoppedAtOnce",
    "WorkerQueue",
    "describe_error",
    "restore_trainer",
    "train",
]

MOST_TEXT = 10_000  #: characters of an error's message or traceback that the log keeps


class StoppedAtOnce(KeyboardInterrupt):
    """A signal to this process that ends whatever runs, also a trainer's epoch.

    A KeyboardInterrupt of another class is an error that a trainer raised.
    """


@dataclass(slots=True)
class _Task:
    """An assignment of a worker: its messages to the driver, and those from the driver."""

    assignment: Assignment
    messages: Iterator[Message]
    inbox: deque[TrialMessage] = field(default_factory=deque)


class WorkerQueue:
    """The assignments of one worker, which are trained one after the other.

    Args:
        job: What the trials of the run have in common.
        worker: The worker's number, which its reports carry.
    """

    def __init__(self, job: Job, *, worker: int) -> None:
        self._job, self._worker = job, worker
        self._tasks: deque[_Task] = deque()

    def __len__(self) -> int:
        """The number of assignments that wait or are under way."""
        return len(self._tasks)

    def add(self, assignment: Assignment, checkpoint: Checkpoint | None) -> None:
        """Queue an assignment."""
        inbox: deque[TrialMessage] = deque()
        messages = train(self._job, assignment, checkpoint, worker=self._worker, inbox=inbox)
        self._tasks.append(_Task(assignment, messages, inbox))

    def deliver(self, message: TrialMessage) -> bool:
        """Put a message where its trial's next epoch finds it; False if the attempt is not here."""
        for task in self._tasks:
            if (task.assignment.trial, task.assignment.attempt) == (message.trial, message.attempt):
                task.inbox.append(message)
                return True
        return False

    def work(self) -> Message:
        """Go on with the first assignment up to its next message; the queue must not be empty."""
        message = next(self._tasks[0].messages)
        if ends_assignment(message):
            self._tasks.popleft()
        return message

    def clear(self) -> None:
        """Drop all assignments."""
        self._tasks.clear()


def train(
    job: Job,
    assignment: Assignment,
    checkpoint: Checkpoint | None,
    *,
    worker: int,
    inbox: deque[TrialMessage] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Message]:
    """Train the assignment's epochs: a report for each, the trial's state with the last one.

    A metric that is not finite, or a train_loss beyond `explode_above`, ends the assignment at
    once. Whatever a trainer raises becomes a Failure, also what ends a program elsewhere, such as
    SystemExit; `train` itself raises StoppedAtOnce alone. An assignment of no epochs ends in a
    Failure, too. A message that is put into `inbox` is carried out before the next epoch, and then
    yielded.
    """
    inbox = deque() if inbox is None else inbox
    messages = _train(job, assignment, checkpoint, worker, inbox, clock)
    while True:
        try:
            message = next(messages, None)
        except StoppedAtOnce:
            raise
        except BaseException as e:
            message = Failure(
                trial=assignment.trial,
                attempt=assignment.attempt,
                kind="raised",
                message=describe_error(e),
                traceback=_to_valid_text(traceback.format_exc()[-MOST_TEXT:]),
                worker=worker,
            )
        if message is None:
            return
        yield message  # outside of the `try`: a GeneratorExit here is not the trainer's


def describe_error(error: BaseException) -> str:
    """The class of a trainer's error and the first line of its message."""
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):
        error = error.__cause__  # raised inside a generator, which Python does not let through
    try:
        first_line = str(error).strip().partition("\n")[0]
    except Exception:
        first_line = "its message cannot be read"
    return _to_valid_text(f"{type(error).__name__}: {first_line}".strip(": ")[:MOST_TEXT])


def _to_valid_text(text: str) -> str:
    """The text with `?` for what UTF-8 cannot encode, and a table therefore cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _train(
    job: Job,
    a: Assignment,
    checkpoint: Checkpoint | None,
    worker: int,
    inbox: deque[TrialMessage],
    clock: Callable[[], float],
) -> Iterator[Message]:
    if a.stop_epoch <= a.start_epoch:
        raise ValueError(
            f"an assignment needs at least one epoch, got epochs {a.start_epoch + 1} to "
            f"{a.stop_epoch} of trial {a.trial}"
        )
    trainer = restore_trainer(
        job, a.config, a.seed, checkpoint, epoch=a.start_epoch, received=a.received
    )
    declared = load_trainer(job.trainer, job.code).metrics
    best_score = a.best_score
    for epoch in range(a.start_epoch + 1, a.stop_epoch + 1):
        while inbox:
            message = replace(inbox.popleft(), epoch=epoch - 1)
            _carry_out(message, trainer)
            yield message
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
    job: Job,
    config: Config,
    seed: int,
    checkpoint: Checkpoint | None,
    *,
    epoch: int,
    received: Sequence[TrialMessage] = (),
) -> Trainer:
    """Make a trial's trainer as it is after `epoch` epochs.

    The trainer loads the checkpoint, unless it is of a later epoch, and trains the epochs that are
    missing. Each message that the trial has received is carried out again after its epoch.
    """
    trainer = job.make(config, seed)
    done = 0
    if checkpoint is not None and checkpoint.epoch <= epoch:
        trainer.load(checkpoint.state)
        done = checkpoint.epoch
    due = deque(received)
    for trained in range(done, epoch + 1):
        if trained > done:
            trainer.epoch()
        while due and due[0].epoch <= trained:
            _carry_out(due.popleft(), trainer)
    return trainer


def _carry_out(message: TrialMessage, trainer: Trainer) -> None:
    """Do what a message asks of the trial's trainer."""
    match message:
        case TrialAdjusted():
            trainer.adjust(message.changes)
        case _:
            raise TypeError(f"a worker cannot carry out {type(message).__name__}")


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
        if kind is int and not -(2**63) <= metrics[name] < 2**63:
            raise ValueError(
                f"{name} is {metrics[name]}, which no integer of 64 bits can be; "
                f"declare it as float"
            )
    return {name: kind(metrics[name]) for name, (kind, _) in declared.items()}


def _validate_state(state: State) -> State:
    """A state that can be sent and stored; an error names the value that cannot."""
    for name, value in state.items():
        if not (isinstance(name, str) and _is_storable(value)):
            raise TypeError(
                f"the trainer's state needs arrays of numbers, numbers, strings or bytes, "
                f"got {type(value).__name__} for {name!r}"
            )
    return state


def _is_storable(value: object) -> bool:
    """Whether a checkpoint file can hold the value; it has no numbers of more than 64 bits."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf" and value.dtype.itemsize <= 8
    plain = value.item() if isinstance(value, np.generic) else value
    return isinstance(plain, bool | int | float | str | bytes)


def _find_cause(metrics: Mapping[str, float], explode_above: float) -> str:
    """Why training has to end after these metrics; empty if it can go on."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    if metrics.get("train_loss", 0.0) > explode_above:
        return f"train_loss {metrics['train_loss']:.3g} exploded above {explode_above:g}"
    return ""
