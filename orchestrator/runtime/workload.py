"""What one worker has to do, and by when something is expected of it.

Times called `..._at` are listening time: the seconds in which the driver looked for messages (see
`Dispatcher`). Durations are estimates from the epochs that were reported so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.runtime.checkpoint import Checkpoint, Message, ends_assignment
from orchestrator.search.messages import Assignment, Report

__all__ = ["BRIDGE_SECONDS", "STREAM_SECONDS", "Task", "WorkerId", "WorkerRecord"]

#: The longest a worker holds back the reports of epochs in the middle of an assignment, for which
#: no decision waits. Each call costs the driver 1 ms and the worker as much: half a percent of both
#: at epochs of 0.2 s.
STREAM_SECONDS = 0.5
#: A worker needs more work when it has less than this left: the longest that it holds back an end
#: (SLICE_SECONDS), and the way to the driver's decision and back.
BRIDGE_SECONDS = 0.15
#: A worker counts as hung after this many times the slowest epoch of its trial, …
PATIENCE = 10.0
#: … and not earlier than this, however short the epochs are.
LEAST_PATIENCE_SECONDS = 30.0


class WorkerId(NamedTuple):
    """Identifies one worker process: its number, and how many before it had that number."""

    number: int
    deaths: int


@dataclass(slots=True, kw_only=True)
class Task:
    """An assignment that a worker has, and what is known of its progress."""

    assignment: Assignment
    catch_up_epochs: int  #: epochs after the checkpoint, trained again before the first report
    slowest_seconds: float  #: slowest epoch of the trial so far; 0 before its first report
    last_epoch: int  #: last epoch that was reported; the start epoch before the first report

    @classmethod
    def of(cls, assignment: Assignment, checkpoint: Checkpoint | None) -> Task:
        """Task of an assignment that nothing was reported of, from that checkpoint."""
        usable = checkpoint is not None and checkpoint.epoch <= assignment.start_epoch
        restored_epoch = checkpoint.epoch if checkpoint is not None and usable else 0
        return cls(
            assignment=assignment,
            catch_up_epochs=assignment.start_epoch - restored_epoch,
            slowest_seconds=assignment.slowest_seconds,
            last_epoch=assignment.start_epoch,
        )

    @property
    def epochs_left(self) -> int:
        """Epochs that are still to be trained."""
        return self.assignment.stop_epoch - self.last_epoch + self.catch_up_epochs

    def due_seconds(self, typical_epoch_seconds: float) -> float:
        """How long a worker may be silent before its report is late.

        The report takes an epoch (the trial's slowest; before its first report, the typical epoch
        of the run), after the epochs that are trained again, and waits for two streams at most.
        """
        epoch_seconds = self.slowest_seconds or typical_epoch_seconds
        return 2 * STREAM_SECONDS + (1 + self.catch_up_epochs) * epoch_seconds

    def patience_seconds(self, epoch_timeout: float) -> float:
        """How long a worker may be silent before it counts as hung."""
        if not self.slowest_seconds:
            return epoch_timeout * (1 + self.catch_up_epochs)
        epoch_seconds = max(LEAST_PATIENCE_SECONDS, PATIENCE * self.slowest_seconds)
        return epoch_seconds * (1 + self.catch_up_epochs)


@dataclass(slots=True, kw_only=True)
class WorkerRecord:
    """What the dispatcher knows of one worker; changed by the `Dispatcher` only."""

    id: WorkerId
    is_up: bool = False  #: whether its process has answered; a worker that is not up has no task
    tasks: dict[int, Task] = field(default_factory=dict)  #: by trial, in the order of training
    #: assignments (with their checkpoints) that go out with the worker's next call
    outbox: list[tuple[Assignment, Checkpoint | None]] = field(default_factory=list)
    calls: int = 0  #: calls that were sent and have not returned
    heard_at: float = 0.0  #: when its last message came, or when it stopped being idle if later
    measured_seconds: float = 0.0  #: work of tasks whose trial has reported an epoch's time
    unmeasured_epochs: int = 0  #: epochs left of the other tasks

    # What follows from the above, as of the dispatcher's last look at this worker.
    ends_at: float = -math.inf  #: when its work is expected to end; -inf while it is idle
    hungry_at: float = -math.inf  #: after this time it needs more work
    due_at: float = math.inf  #: after this time without a message it is overdue
    hung_at: float = math.inf  #: after this time without a message it is hung
    is_overdue: bool = False  #: whether a report is late: the worker may be dead
    rank: tuple[float, int, int] | None = None  #: place among the open workers; None if not open
    room: int = 0  #: assignments that it needs, so that it never waits for the next
    alarm_at: float = math.inf  #: the earliest alarm that is set for it

    @property
    def current(self) -> Task | None:
        """The task that the worker trains, as far as its reports say."""
        return next(iter(self.tasks.values()), None)

    @property
    def is_isolated(self) -> bool:
        """Whether the worker's only task has to have a worker of its own."""
        task = self.current
        return task is not None and task.assignment.isolate

    def add(self, assignment: Assignment, checkpoint: Checkpoint | None, now: float) -> None:
        """Queue an assignment behind the worker's tasks; it goes out with the next call."""
        if not self.tasks:
            self.heard_at = now
        task = self.tasks[assignment.trial] = Task.of(assignment, checkpoint)
        self._count(task, 1)
        self.outbox.append((assignment, checkpoint))

    def settle(self, message: Message) -> None:
        """Note the progress that a message tells of, and remove the task that it ends."""
        task = self.tasks[message.trial]
        self._count(task, -1)
        if not ends_assignment(message):
            if isinstance(message, Report):
                task.slowest_seconds = max(task.slowest_seconds, message.seconds)
                task.catch_up_epochs, task.last_epoch = 0, message.epoch
            self._count(task, 1)
            return
        del self.tasks[message.trial]
        if not self.tasks:
            self.measured_seconds = 0.0  # no rounding error outlives the tasks it came from

    def estimate(self, typical_epoch_seconds: float, epoch_timeout: float) -> None:
        """Work out when the worker's tasks end, when it is overdue and when it is hung."""
        task = self.current
        if task is None:
            self.ends_at = self.hungry_at = -math.inf
            self.due_at = self.hung_at = math.inf
            return
        work_seconds = self.measured_seconds + self.unmeasured_epochs * typical_epoch_seconds
        self.ends_at = self.heard_at + work_seconds
        self.hungry_at = self.ends_at - BRIDGE_SECONDS
        self.due_at = self.heard_at + task.due_seconds(typical_epoch_seconds)
        self.hung_at = self.heard_at + task.patience_seconds(epoch_timeout)

    def _count(self, task: Task, sign: int) -> None:
        """Add a task's work to the worker's sums, or take it off them."""
        if task.slowest_seconds:
            self.measured_seconds += sign * task.epochs_left * task.slowest_seconds
        else:
            self.unmeasured_epochs += sign * task.epochs_left
