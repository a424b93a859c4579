"""The dispatcher decides which worker trains what; it has no clock, no threads and no Ray.

Theory of operation
-------------------
Values go in, values come out. The pool (for example `orchestrator.runtime.ray.pool.RayPool`) tells
the dispatcher what happened (a worker is up, a call returned messages, a call failed, time passed)
and performs the actions that come back: `StartWorker`, `KillWorker` and `Call`; a `Failure` goes to
the session. The current time is an argument.

States of a worker. All changes go through the method named; nothing else changes a record.

    STARTING ──mark_up──► IDLE ──submit──► BUSY ──take_messages──► IDLE
        │                   │               │ BUSY means one of:
        │                   │               │   working   its work lasts longer than BRIDGE_SECONDS
        │                   │               │   hungry    it needs more work soon; counted by `free`
        │                   │               │   overdue   a report is late; it gets no more work
        │                   │               │   isolated  its task must be alone: no more work
        │                   │               │   reserved  an isolated assignment waits for its end
        └───────lose────────┴───────────────┘
                  │    `check_deadlines` loses a worker that is hung
                  ▼
    STARTING (same number, deaths + 1); its tasks come back as Failures

An assignment waits in the dispatcher (`_waiting`, or `_waiting_isolated` if nothing may be queued
behind it) or is a task of one worker that is up. It leaves with its last Report, with the Failure
that its worker reported, or with the Failure that the dispatcher reports for a lost worker.
Messages of a worker that was given up come in late; the pool passes them on, the dispatcher ignores
them, and the search refuses them by their attempt.

Listening time. How long a worker is silent is measured in time in which the driver looked, at most
LONGEST_LOOK_SECONDS between two looks: a driver that was itself held up for a minute has not
listened for a minute. `heard_at`, `ends_at`, `due_at` and `hung_at` are absolute listening times,
so they stay valid while time passes, and so does the order of workers by the end of their work.

Costs. `_open` is sorted by (end of work, deaths, number), so the first is the next to get work. One
alarm for each busy worker waits in a heap. A submission, a message and an alarm each update one
worker in O(log workers); `free` reads a sum. What depends on the typical epoch of the run, which
changes with each report, is worked out when a worker is updated, not for all workers at once.

What a crash leaves behind: nothing. The dispatcher lives as long as its session; the search's log
knows which assignments were under way, and asks for them again.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections import Counter, deque
from dataclasses import dataclass

from sortedcontainers import SortedList

from orchestrator.runtime.checkpoint import Checkpoint, Message
from orchestrator.runtime.workload import BRIDGE_SECONDS, STREAM_SECONDS, WorkerId, WorkerRecord
from orchestrator.search.messages import Assignment, Failure, Report

__all__ = ["Action", "Call", "Dispatcher", "KillWorker", "StartWorker"]

logger = logging.getLogger("caviar.runtime.dispatch")

#: The longest a worker holds back the end of an assignment, which a decision may wait for.
SLICE_SECONDS = 0.1
#: The most assignments that a worker has at a time.
DEEPEST = 32
#: The most listening time between two looks of the driver.
LONGEST_LOOK_SECONDS = 1.0
#: Weight of a new report in the typical durations of an epoch and of an assignment.
SMOOTHING = 0.1
#: What an epoch and an assignment are expected to take before the first report.
FIRST_GUESS_SECONDS = 1.0
#: Time between two looks at how many processors the cluster has.
GROW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a process for this worker, and call `mark_up` once it answers."""

    worker: WorkerId


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Kill this worker's process: it hangs, or it died and may still hold resources."""

    worker: WorkerId


@dataclass(frozen=True, slots=True)
class Call:
    """Hand these assignments to a worker, and let it train until it has something to report."""

    worker: WorkerId
    assignments: list[tuple[Assignment, Checkpoint | None]]
    slice_seconds: float  #: the call returns with an assignment that ends after this time
    stream_seconds: float  #: the call returns with any epoch that ends after this time


Action = StartWorker | KillWorker | Call | Failure


class Dispatcher:
    """Decides who gets what, how much is queued, who is late, hung or isolated, and when to grow.

    Args:
        workers: The number of workers to begin with.
        grows: Whether there shall be as many workers as processors when processors join.
        epoch_timeout: Seconds until a trial's first report; a worker that takes longer is hung.
        now: The current time in seconds, on the clock that all later times are of.
    """

    def __init__(self, *, workers: int, grows: bool, epoch_timeout: float, now: float) -> None:
        self._count, self._grows, self._epoch_timeout = workers, grows, epoch_timeout
        self._looked_at = self._counted_at = self._last_up_at = now
        self._listened = 0.0  #: listening time since the start
        self._assignment_seconds = self._epoch_seconds = FIRST_GUESS_SECONDS  #: typical durations
        self._workers: dict[int, WorkerRecord] = {}
        self._deaths: Counter[int] = Counter()  #: by worker number
        self._waiting: deque[tuple[Assignment, Checkpoint | None]] = deque()
        self._waiting_isolated: deque[tuple[Assignment, Checkpoint | None]] = deque()
        self._open: SortedList[tuple[float, int, int]] = SortedList()
        self._reserved: dict[int, WorkerRecord] = {}  #: by number, in the order of reservation
        self._callable: dict[int, WorkerRecord] = {}  #: workers that may need another call
        self._alarms: list[tuple[float, WorkerId]] = []  #: a heap
        self._up = self._busy = self._room = 0  #: sums over all workers

    # ------------------------------------------------------------------ questions

    @property
    def size(self) -> int:
        """The number of workers that the pool has once all are up."""
        return self._count

    @property
    def workers(self) -> int:
        """The number of workers that are up."""
        return self._up

    def free(self) -> int:
        """The number of assignments that keep every worker busy until it can get the next."""
        return self._room

    def busy(self) -> int:
        """The number of workers that have a task; at least 1 while an assignment waits."""
        return self._busy or bool(self._waiting or self._waiting_isolated)

    def find_worker(self, trial: int, attempt: int) -> WorkerId | None:
        """Find the worker that an attempt of a trial was sent to; costs O(workers)."""
        for worker in self._workers.values():
            task = worker.tasks.get(trial)
            if task is not None and task.assignment.attempt == attempt:
                sent = all(assignment.trial != trial for assignment, _ in worker.outbox)
                return worker.id if sent else None
        return None

    def seconds_without_workers(self, now: float) -> float:
        """Seconds since a worker was up; infinite after `lose_all`."""
        if self._up:
            self._last_up_at = now
        return now - self._last_up_at

    # ------------------------------------------------------------------ handing out

    def submit(self, assignment: Assignment, checkpoint: Checkpoint | None) -> None:
        """Queue an assignment at the open worker whose work ends first and that died least often.

        The assignment waits while no worker is open. One that must be isolated waits for an idle
        worker; a worker is reserved for it meanwhile.
        """
        if assignment.isolate:
            logger.info("trial %d is tried again, isolated", assignment.trial)
        queue = self._waiting_isolated if assignment.isolate else self._waiting
        queue.append((assignment, checkpoint))
        self._hand_out()

    def plan_calls(self, seconds_left: float = math.inf) -> list[Call]:
        """Calls that bring the workers what was submitted, and keep them training.

        Args:
            seconds_left: Time until the deadline. Of two calls in a row, each an epoch late, the
                second one still has to return before it.
        """
        if not self._callable:
            return []
        in_time = seconds_left - STREAM_SECONDS - 2 * self._epoch_seconds
        stream_seconds = min(max(in_time, SLICE_SECONDS), STREAM_SECONDS)
        calls = []
        for worker in self._callable.values():
            while worker.outbox or self._count_wanted_calls(worker) > worker.calls:
                calls.append(Call(worker.id, worker.outbox, SLICE_SECONDS, stream_seconds))
                worker.calls, worker.outbox = worker.calls + 1, []
        self._callable.clear()
        return calls

    def _count_wanted_calls(self, worker: WorkerRecord) -> int:
        """Calls to keep in flight: 0 if idle, 1 if its work fits into one stream, else 2.

        Of two calls, one is running and one waits in the worker, which never waits for the driver.
        """
        if not worker.tasks:
            return 0
        fits = worker.ends_at - self._listened < STREAM_SECONDS and not worker.is_overdue
        return 1 if fits else 2

    def _hand_out(self) -> None:
        """Give waiting assignments to open workers: first the isolated ones, to idle workers."""
        while self._waiting_isolated and self._open and self._open[0][0] == -math.inf:
            self._give(self._first_open(), *self._waiting_isolated.popleft())
        while len(self._reserved) < len(self._waiting_isolated) and self._open:
            worker = self._first_open()
            self._reserved[worker.id.number] = worker
            self._update(worker)
        while len(self._reserved) > len(self._waiting_isolated):
            _, worker = self._reserved.popitem()
            self._update(worker)
        while self._waiting and self._open:
            self._give(self._first_open(), *self._waiting.popleft())

    def _first_open(self) -> WorkerRecord:
        return self._workers[self._open[0][2]]

    def _give(
        self, worker: WorkerRecord, assignment: Assignment, checkpoint: Checkpoint | None
    ) -> None:
        self._busy += not worker.tasks
        worker.add(assignment, checkpoint, self._listened)
        self._update(worker)

    # ------------------------------------------------------------------ taking in

    def take_messages(self, call: Call, messages: list[Message], now: float) -> None:
        """Take in what a call returned; nothing if its worker was lost in the meantime."""
        self._listen(now)
        worker = self._find(call.worker)
        if worker is None:
            return
        worker.calls -= 1
        if messages:
            worker.heard_at = self._listened
        for message in messages:
            self._learn_durations(worker, message)
            worker.settle(message)
        self._busy -= bool(messages) and not worker.tasks
        self._update(worker)
        self._hand_out()

    def _learn_durations(self, worker: WorkerRecord, message: Message) -> None:
        """Move the typical durations of an epoch and of an assignment towards a report's."""
        if isinstance(message, Report):
            assignment = worker.tasks[message.trial].assignment
            seconds = message.seconds * (assignment.stop_epoch - assignment.start_epoch)
            self._assignment_seconds += SMOOTHING * (seconds - self._assignment_seconds)
            self._epoch_seconds += SMOOTHING * (message.seconds - self._epoch_seconds)

    # ------------------------------------------------------------------ workers that come and go

    def start_workers(self, now: float) -> list[Action]:
        """Start every worker: at the beginning, and again after `lose_all`."""
        assert not self._workers, "workers are started once, or after all were lost"
        self._looked_at = self._counted_at = self._last_up_at = now
        return [self._start(number) for number in range(self._count)]

    def mark_up(self, id: WorkerId, now: float) -> None:
        """Note that a worker has started and can be given work."""
        worker = self._find(id)
        if worker is None or worker.is_up:
            return
        logger.info("worker %d is up", id.number)
        self._last_up_at = now
        worker.is_up, self._up = True, self._up + 1
        self._update(worker)
        self._hand_out()

    def lose(self, id: WorkerId, message: str, traceback: str) -> list[Action]:
        """Replace a worker that died, and report its tasks as failures; nothing if done before."""
        worker = self._find(id)
        if worker is None:
            return []
        logger.warning("%s; it had %d assignments and is replaced", message, len(worker.tasks))
        failures = self._remove(worker, message, traceback)
        actions: list[Action] = [KillWorker(id), self._start(id.number), *failures]
        self._hand_out()
        return actions

    def lose_all(self, message: str, traceback: str) -> list[Failure]:
        """Report the tasks of all workers as failures: their processes are gone, or will be.

        Assignments that wait are kept for the workers that `start_workers` starts next.
        """
        logger.warning("%s; all %d workers are lost", message, len(self._workers))
        workers = list(self._workers.values())
        failures = [f for worker in workers for f in self._remove(worker, message, traceback)]
        self._last_up_at = -math.inf
        return failures

    def needs_processor_count(self, now: float) -> bool:
        """Whether it is time to look how many processors the cluster has, and `grow`.

        Without a worker that is up the answer is no: a cluster that is gone would not answer.
        """
        return self._grows and self._up > 0 and now - self._counted_at >= GROW_SECONDS

    def grow(self, processors: int, now: float) -> list[Action]:
        """Start workers for processors that have joined.

        Workers on a host that left stay in the count and wait for another host.
        """
        self._counted_at = now
        numbers = range(self._count, processors)
        if numbers:
            logger.info("the pool grows from %d to %d workers", self._count, processors)
        self._count = max(self._count, processors)
        return [self._start(number) for number in numbers]

    def _start(self, number: int) -> StartWorker:
        id = WorkerId(number, self._deaths[number])
        self._workers[number] = WorkerRecord(id=id)
        logger.info("worker %d is started (%d died before it)", number, id.deaths)
        return StartWorker(id)

    def _remove(self, worker: WorkerRecord, message: str, traceback: str) -> list[Failure]:
        """Take a worker out of all structures; its tasks as failures."""
        number = worker.id.number
        self._deaths[number] += 1
        self._up, self._busy = self._up - worker.is_up, self._busy - bool(worker.tasks)
        del self._workers[number]
        self._callable.pop(number, None)
        self._reserved.pop(number, None)
        self._rank(worker, None, 0)
        return [
            Failure(
                trial=task.assignment.trial,
                attempt=task.assignment.attempt,
                kind="lost",
                message=message,
                traceback=traceback,
                worker=number,
            )
            for task in worker.tasks.values()
        ]

    def _find(self, id: WorkerId) -> WorkerRecord | None:
        """The record of a worker, unless it was lost."""
        worker = self._workers.get(id.number)
        return worker if worker is not None and worker.id == id else None

    # ------------------------------------------------------------------ time

    def check_deadlines(self, now: float) -> list[Action]:
        """Note who needs work soon and who is overdue, and replace the workers that hang."""
        self._listen(now)
        actions: list[Action] = []
        while self._alarms and self._alarms[0][0] < self._listened:
            at, id = heapq.heappop(self._alarms)
            worker = self._find(id)
            if worker is None or worker.alarm_at != at:
                continue  # its worker was lost, or an earlier alarm took its place
            worker.alarm_at = math.inf
            if self._listened > worker.hung_at:
                actions += self._lose_hung(worker)
            else:
                self._update(worker)
        self._hand_out()
        return actions

    def _lose_hung(self, worker: WorkerRecord) -> list[Action]:
        task = worker.current
        assert task is not None, "an idle worker is never hung"
        reason = (
            f"the trial's slowest epoch took {task.slowest_seconds:.2g} s"
            if task.slowest_seconds
            else f"it had not reported yet (epoch timeout {self._epoch_timeout:g} s)"
        )
        patience = task.patience_seconds(self._epoch_timeout)
        silence = f"worker {worker.id.number} was silent for {patience:.3g} s and was killed"
        return self.lose(worker.id, f"{silence}; {reason}", "")

    def _listen(self, now: float) -> None:
        """Add the time since the last look to the listening time."""
        self._listened += min(now - self._looked_at, LONGEST_LOOK_SECONDS)
        self._looked_at = now

    # ------------------------------------------------------------------ one worker's place

    def _update(self, worker: WorkerRecord) -> None:
        """Work out anew what follows from a worker's tasks and from the time."""
        worker.estimate(self._epoch_seconds, self._epoch_timeout)
        self._note_overdue(worker)
        number = worker.id.number
        if not worker.tasks or worker.is_overdue:
            self._reserved.pop(number, None)
        takes_more = (
            worker.is_up
            and len(worker.tasks) < DEEPEST
            and not worker.is_overdue
            and not worker.is_isolated
            and number not in self._reserved
        )
        if takes_more:
            self._rank(worker, (worker.ends_at, worker.id.deaths, number), self._measure(worker))
        else:
            self._rank(worker, None, 0)
        if worker.outbox or (worker.tasks and worker.calls < 2):
            self._callable[number] = worker
        if worker.tasks:
            self._set_alarm(worker)

    def _note_overdue(self, worker: WorkerRecord) -> None:
        overdue = self._listened > worker.due_at
        if overdue and not worker.is_overdue:
            silent_seconds = self._listened - worker.heard_at
            logger.info("worker %d is silent for %.3g s", worker.id.number, silent_seconds)
        worker.is_overdue = overdue

    def _measure(self, worker: WorkerRecord) -> int:
        """The number of assignments that an open worker needs, so that it never waits.

        While an assignment takes long, its successor is decided on shortly before it ends: the
        worker does not wait, and nothing is decided sooner than necessary.
        """
        missing_seconds = min(self._listened - worker.hungry_at, BRIDGE_SECONDS)
        if missing_seconds <= 0:
            return 0
        wanted = math.ceil(missing_seconds / max(self._assignment_seconds, 1e-9))
        return min(max(wanted, 1), DEEPEST - len(worker.tasks))

    def _rank(self, worker: WorkerRecord, rank: tuple[float, int, int] | None, room: int) -> None:
        """Move a worker to its place among the open ones, or take it from there."""
        self._room += room - worker.room
        worker.room = room
        if rank != worker.rank:
            if worker.rank is not None:
                self._open.remove(worker.rank)
            if rank is not None:
                self._open.add(rank)
            worker.rank = rank

    def _set_alarm(self, worker: WorkerRecord) -> None:
        """Look at a busy worker again once it is hungry, overdue or hung.

        An earlier alarm that is set already stays: when it goes off, the next one is set.
        """
        at = worker.hung_at
        for time in (worker.hungry_at, worker.due_at):
            if self._listened <= time < at:
                at = time
        if at < worker.alarm_at:
            worker.alarm_at = at
            heapq.heappush(self._alarms, (at, worker.id))

    # ------------------------------------------------------------------ invariants

    def validate(self) -> None:
        """Check every invariant, in O(tasks): for tests.

        Raises:
            AssertionError: If the sums, the orders or the queues contradict the workers' tasks.
        """
        workers = list(self._workers.values())
        assert self._up == sum(w.is_up for w in workers)
        assert self._busy == sum(bool(w.tasks) for w in workers)
        assert self._room == sum(w.room for w in workers)
        assert list(self._open) == sorted(w.rank for w in workers if w.rank is not None)
        assert len(self._reserved) <= len(self._waiting_isolated)
        assert not (self._waiting and self._open), "an assignment waits beside an open worker"
        if not (self._alarms and self._alarms[0][0] < self._listened):  # else an update is pending
            assert bool(self._room) == bool(self._open and self._first_open().room)
        for number, worker in self._workers.items():
            assert worker.id == (number, self._deaths[number])
            self._validate_worker(worker)
        for number, worker in [*self._reserved.items(), *self._callable.items()]:
            assert self._workers[number] is worker

    def _validate_worker(self, worker: WorkerRecord) -> None:
        tasks = list(worker.tasks.values())
        assert worker.is_up or not (tasks or worker.calls), "a worker that is not up has no task"
        assert len(tasks) <= DEEPEST
        isolated = any(t.assignment.isolate for t in tasks)
        assert not isolated or len(tasks) == 1, "something waits behind an isolated task"
        assert (worker.rank is None) or not (worker.is_isolated or worker.is_overdue)
        assert worker.room == 0 or worker.rank is not None
        assert all(t.epochs_left > 0 for t in tasks if t.assignment.stop_epoch > t.last_epoch)
        measured = sum(t.epochs_left * t.slowest_seconds for t in tasks)
        assert math.isclose(worker.measured_seconds, measured, rel_tol=1e-6, abs_tol=1e-6)
        unmeasured = sum(t.epochs_left for t in tasks if not t.slowest_seconds)
        assert worker.unmeasured_epochs == unmeasured
        if tasks:
            assert worker.calls > 0 or worker.id.number in self._callable, "a task has no call"
            assert (worker.alarm_at, worker.id) in self._alarms, "nothing watches a busy worker"
            assert worker.alarm_at <= worker.hung_at
