"""The pool of Ray actors: the only file that knows Ray.

Each actor holds one model at a time and lives as long as the run; the data lies in the object store
once and is read there without a copy. A call hands over assignments and brings back the reports of
at most `STREAM_SECONDS`, so long assignments stream and short ones cost one round trip. Where the
first call will not do all there is, a second waits behind it: a worker never waits for the driver.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import ray
import ray._private.node
import ray._private.worker
from threadpoolctl import threadpool_limits

from orchestrator.errors import InputError, PoolError
from orchestrator.runtime.pool import EPOCH_TIMEOUT
from orchestrator.runtime.trainer import Job
from orchestrator.runtime.worker import Checkpoint, Message, train
from orchestrator.search.messages import Assignment, Failure, Report

__all__ = ["RayPool", "connect", "disconnect", "processors"]

SLICE_SECONDS = 0.1  #: the longest a worker keeps an assignment's end to itself
STREAM_SECONDS = 0.5  #: the same for epochs on the way there, for which no decision waits; each
#: call costs the driver 1 ms and the worker as much, half a percent of both at epochs of 0.2 s
DRAIN_SECONDS = 0.1  #: at the deadline, for reports of the last slice
BRIDGE_SECONDS = 0.15  #: a worker is given more when what it has will be done sooner: a slice, and
#: the way to the driver's decision and back
DEEPEST = 32  #: assignments that a worker has at a time, at most
START_SECONDS = 60.0  #: for a first worker to come up
GONE_SECONDS = 30.0  #: without any worker, until a cluster that is not ours is given up: at 60 Ray
#: ends the driver itself, without a word, where the cluster's head is gone
REVIVE_SECONDS = 10.0  #: without any worker, until Ray is started again; an actor takes 1-3 s
CONNECT_SECONDS = 5.0  #: for an address to answer
NODE_CHECK_SECONDS = (
    0.5  #: between two looks at whether this host's Ray node lives: when the cluster's
)
#: head notices its death, after 3-15 s, Ray ends a driver that still holds on to it
GROW_SECONDS = 2.0  #: between two looks at how much room the cluster has
PATIENCE = 10.0  #: times a trial's slowest epoch, and its worker counts as hung
LEAST_PATIENCE_SECONDS = 30.0  #: however short its epochs are


def connect(address: str | None, *, cpus: int | None) -> None:
    """Join the cluster at an address, or start one on this machine.

    Args:
        address: `auto`, HOST:PORT, or None for a local cluster of our own.
        cpus: How many processors a local cluster offers; None = all of the machine.

    Raises:
        InputError: If nobody answers at the address.
    """
    if address and address != "auto":
        _check_reachable(address)
    try:
        with _silenced():
            if ray.is_initialized():
                raise RuntimeError("this process has joined one already; leave it first")
            # Off, all of a local Ray listens to the loopback alone, where nobody else gets in; Ray
            # has a switch for it on macOS and Windows only (ray-project/ray issue 18730).
            ray._private.ray_constants.ENABLE_RAY_CLUSTER = address is not None
            if address is None:
                _leave_out_monitors()
            ray.init(
                address=address or "local",
                num_cpus=None if address else cpus,
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        # A worker's death is told in our own words; Ray has no switch for its own, which it prints
        # to standard output, where --json has one object and nothing else.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    except Exception as e:
        first = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise InputError(
            f"--address needs a running Ray cluster, got {address or 'a local one'}: {first} "
            f"(RAY_AUTH_MODE is {os.environ.get('RAY_AUTH_MODE', 'not set')}; it has to be the "
            f"cluster's). Start one with `ray start --head`, or leave --address out"
        ) from e


def _leave_out_monitors() -> None:
    """A Ray of our own starts without two Python processes that nobody here listens to.

    One carries the workers' output to drivers, which asked for none (`log_to_driver`), the other
    would bring up hosts. They cost a second of the start and half a percent of two cores. Ray has a
    switch for either, in the parameters of a node, but no way to it from `ray.init`.
    """
    ray._private.node.Node.start_log_monitor = lambda _: None
    ray._private.node.Node.start_monitor = lambda _: None


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Ray's chatter goes nowhere: its C++ side writes past sys.stderr, to the descriptor."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def disconnect() -> None:
    """Leave the cluster; one that `connect` started ends with it."""
    ray.shutdown()


def processors() -> int:
    """How many workers the cluster has room for."""
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def _own_node_lives() -> bool:
    """Whether somebody answers at the socket of this host's Ray node."""
    try:
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.connect(ray._private.worker._global_node.raylet_socket_name)
    except OSError:
        return False
    return True


def _check_reachable(address: str) -> None:
    """Ray waits half a minute for an address that nobody answers at; a socket knows at once."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        number = int(port)
        socket.create_connection((host, number), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as e:
        raise InputError(
            f"--address needs `auto` or HOST:PORT of a running Ray cluster, got {address!r}: "
            f"{e}. Start one with `ray start --head`, or leave --address out"
        ) from e


class _Actor:
    """A worker: trains what it is handed, one model at a time."""

    def __init__(self, job: Job, data: Any, number: int) -> None:
        threadpool_limits(limits=1)
        self._job = replace(job, data=data)
        self._number = number
        self._queue: deque[Iterator[Message]] = deque()

    def ready(self) -> None:
        """Answer once the process is up and the data is there."""

    def work(
        self,
        given: list[tuple[Assignment, Checkpoint | None]],
        seconds: float,
        stream_seconds: float,
    ) -> list[Message]:
        """Take these on, then train until there is nothing to do, or something to tell.

        That is the end of an assignment after `seconds`, any epoch after `stream_seconds`.
        """
        begin = time.monotonic()
        self._queue.extend(
            train(self._job, assignment, held, worker=self._number) for assignment, held in given
        )
        messages: list[Message] = []
        while self._queue:
            message = next(self._queue[0], None)
            if message is None:
                self._queue.popleft()
                continue
            messages.append(message)
            on_the_way = isinstance(message, Report) and not message.last
            if time.monotonic() - begin >= (stream_seconds if on_the_way else seconds):
                break
        return messages


@dataclass(slots=True, kw_only=True)
class _Task:
    """An assignment that a worker has, and what one may wait for."""

    assignment: Assignment
    catch_up_epochs: (
        int  #: epochs that are trained before the first report: those after the state it has
    )
    slowest_seconds: float  #: epoch of the trial so far; 0 before the first report
    reported: int  #: the last epoch it has told of

    @property
    def left(self) -> int:
        """Epochs that are still to be trained."""
        return self.assignment.stop_epoch - self.reported + self.catch_up_epochs

    def epoch_seconds(self, usual: float) -> float:
        """What one of its epochs takes at most: its slowest so far; before the first, the usual."""
        return self.slowest_seconds or usual

    def due_seconds(self, usual: float) -> float:
        """How long a report that is not late may take: an epoch, and the wait to be told."""
        return 2 * STREAM_SECONDS + (1 + self.catch_up_epochs) * self.epoch_seconds(usual)

    def patience_seconds(self, epoch_timeout: float) -> float:
        """How long no report may come before the worker counts as hung."""
        if not self.slowest_seconds:
            return epoch_timeout * (1 + self.catch_up_epochs)
        return max(LEAST_PATIENCE_SECONDS, PATIENCE * self.slowest_seconds) * (
            1 + self.catch_up_epochs
        )


@dataclass(slots=True, kw_only=True)
class _Worker:
    number: int
    actor: Any
    up: Any  #: resolves once the actor has started; None once it has
    deaths: int = 0  #: of actors with this number
    unfinished: dict[int, _Task] = field(default_factory=dict)  #: by trial, in order
    outbox: list[tuple[Assignment, Checkpoint | None]] = field(
        default_factory=list
    )  #: not sent yet
    calls: int = 0  #: under way
    silent_seconds: float = 0.0  #: since it last told something, or got something to do
    lost: bool = False  #: given up; its work is somebody else's now

    @property
    def current(self) -> _Task | None:
        """What it is at, as far as it has told."""
        return next(iter(self.unfinished.values()), None)

    @property
    def alone(self) -> bool:
        """Whether nobody else's work may wait behind what it does."""
        return any(task.assignment.alone for task in self.unfinished.values())


def _failures(worker: _Worker, message: str, traceback: str) -> list[Message]:
    """Of all that a worker had to do."""
    return [
        Failure(
            trial=task.assignment.trial,
            attempt=task.assignment.attempt,
            kind="lost",
            message=message,
            traceback=traceback,
            worker=worker.number,
        )
        for task in worker.unfinished.values()
    ]


class RayPool:
    """Workers on a Ray cluster that `connect` has joined.

    Args:
        job: What the workers are made with.
        workers: How many; None = as many as the cluster has room for, also when hosts join.
        epoch_timeout: Seconds until a trial's first report; a worker that takes longer is killed.
        revive: Starts Ray again, on this machine; None where the cluster is not ours.
    """

    def __init__(
        self,
        job: Job,
        *,
        workers: int | None,
        epoch_timeout: float = EPOCH_TIMEOUT,
        revive: Callable[[], None] | None = None,
    ) -> None:
        self._job, self._follows = job, workers is None
        self._count = workers or processors()
        self._epoch_timeout, self._revive = epoch_timeout, revive
        self._alone: deque[tuple[Assignment, Checkpoint | None]] = (
            deque()
        )  # wait for an idle worker
        self._seconds = self._epoch_seconds = 1.0  # an assignment, an epoch take about that long
        self._begin()

    def _begin(self) -> None:
        """The data into the object store, and the actors."""
        self._data = ray.put(self._job.data)
        self._bare = replace(self._job, data=None)
        self._make = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        self._workers = [self._new(number) for number in range(self._count)]
        self._calls: dict[Any, _Worker] = {}
        self._last_up = self._looked = self._counted = self._knocked = time.monotonic()
        self._await_first()

    @property
    def size(self) -> int:
        """How many actors were asked for."""
        return self._count

    @property
    def workers(self) -> int:
        """How many actors are up; one that a cluster has no room for yet does not count."""
        return sum(w.up is None for w in self._workers)

    def free(self) -> int:
        """As many as keep every worker busy until it can be given the next."""
        return sum(self._room(worker) for worker in self._open())

    def busy(self) -> int:
        """How many workers have something to do."""
        return sum(bool(w.unfinished) for w in self._workers) or bool(self._alone)

    def submit(self, assignment: Assignment, held: Checkpoint | None) -> None:
        """To the worker that is up and has least to do, and that died least often."""
        if assignment.alone:
            self._alone.append((assignment, held))
            return
        up = self._open() or self._workers
        worker = min(up, key=lambda w: (self._work_seconds(w), w.deaths, w.number))
        self._give(worker, assignment, held)

    def poll(self, seconds: float, *, left: float = math.inf) -> list[Message]:
        """Messages of all calls that have returned; an actor's death is a Failure of its work."""
        self._somebody_is_up()
        if time.monotonic() - self._knocked > NODE_CHECK_SECONDS:
            self._knocked = time.monotonic()
            if not _own_node_lives():
                return self._orphaned("")
        self._grow()
        self._send(left)
        starting = [w.up for w in self._workers if w.up is not None]
        if not (self._calls or starting):
            return []
        news, _ = ray.wait([*self._calls, *starting], num_returns=1, timeout=seconds)
        if not news:
            return self._hung()
        self._look_who_is_up()
        messages = self._returned(0)
        return messages + self._hung()

    def drain(self) -> list[Message]:
        """Reports of the slice under way, if it ends within a tenth of a second."""
        return self._returned(DRAIN_SECONDS)

    def close(self) -> None:
        """Kill the actors: an epoch in flight is lost, nothing else."""
        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers, self._calls = [], {}

    # ------------------------------------------------------------------ handing out

    def _room(self, worker: _Worker) -> int:
        """How many more assignments a worker needs, so that it never waits for the next.

        While an assignment takes long, its successor is decided on shortly before it ends: neither
        does the worker wait, nor is anything decided sooner than it must be.
        """
        missing = BRIDGE_SECONDS - self._work_seconds(worker)
        if worker.unfinished and missing <= 0:
            return 0
        wanted = math.ceil(missing / max(self._seconds, 1e-9))
        return min(max(wanted, 1), DEEPEST - len(worker.unfinished))

    def _work_seconds(self, worker: _Worker) -> float:
        """How long what a worker has will take it from now, as far as one can tell.

        Infinite once it is overdue: it may be dead, and all that it is given is lost with it.
        """
        task, usual = worker.current, self._epoch_seconds
        if task is not None and worker.silent_seconds > task.due_seconds(usual):
            return math.inf
        work = sum(t.left * t.epoch_seconds(usual) for t in worker.unfinished.values())
        return max(work - worker.silent_seconds, 0.0)

    def _open(self) -> list[_Worker]:
        """Workers that may be given more; some are kept free for work that must be alone."""
        up = [w for w in self._workers if w.up is None and not w.alone]
        if self._alone:
            up.sort(key=lambda w: (len(w.unfinished), w.number))
        return up[len(self._alone) :]

    def _give(self, worker: _Worker, assignment: Assignment, held: Checkpoint | None) -> None:
        if not worker.unfinished:
            worker.silent_seconds = 0.0
        known = held.epoch if held is not None and held.epoch <= assignment.start_epoch else 0
        worker.unfinished[assignment.trial] = _Task(
            assignment=assignment,
            catch_up_epochs=assignment.start_epoch - known,
            slowest_seconds=assignment.slowest_seconds,
            reported=assignment.start_epoch,
        )
        worker.outbox.append((assignment, held))

    def _send(self, left: float) -> None:
        """What was submitted, in one call a worker; and the calls that are wanted beside.

        Of two calls in a row, each an epoch late, the second has told before the deadline, too.
        """
        in_time = left - STREAM_SECONDS - 2 * self._epoch_seconds
        stream_seconds = min(max(in_time, SLICE_SECONDS), STREAM_SECONDS)
        for worker in self._workers:
            if self._alone and worker.up is None and not worker.unfinished:
                self._give(worker, *self._alone.popleft())
            while worker.outbox or self._calls_wanted(worker) > worker.calls:
                call = worker.actor.work.remote(worker.outbox, SLICE_SECONDS, stream_seconds)
                self._calls[call] = worker
                worker.calls, worker.outbox = worker.calls + 1, []

    def _calls_wanted(self, worker: _Worker) -> int:
        """One it is busy with; one that waits behind where that will not do all there is."""
        if not worker.unfinished:
            return 0
        return 1 if self._work_seconds(worker) < STREAM_SECONDS else 2

    # ------------------------------------------------------------------ taking in

    def _returned(self, seconds: float) -> list[Message]:
        """Messages of all calls that return within that time."""
        if not self._calls:
            return []
        done, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=seconds)
        messages: list[Message] = []
        for call in done:
            worker = self._calls.pop(call)
            if worker.lost:
                with contextlib.suppress(ray.exceptions.RayError):
                    messages += ray.get(call)  # late: of attempts that nobody waits for any more
                continue
            worker.calls -= 1
            try:
                arrived = ray.get(call)
            except ray.exceptions.RayError as e:  # the actor died, or its answer with its host
                if not _own_node_lives():
                    return messages + self._orphaned(str(e))
                messages += self._lost(worker, f"worker {worker.number} died", str(e))
                continue
            if arrived:
                worker.silent_seconds = 0.0
            for message in arrived:
                self._settle(worker, message)
            messages += arrived
        return messages

    def _settle(self, worker: _Worker, message: Message) -> None:
        """Strike off an assignment that has ended, and learn how long they take."""
        if isinstance(message, Report):
            task = worker.unfinished[message.trial]
            epochs = task.assignment.stop_epoch - task.assignment.start_epoch
            self._seconds += 0.1 * (message.seconds * epochs - self._seconds)
            self._epoch_seconds += 0.1 * (message.seconds - self._epoch_seconds)
            task.slowest_seconds = max(task.slowest_seconds, message.seconds)
            task.catch_up_epochs, task.reported = 0, message.epoch
            if not message.last:
                return
        worker.unfinished.pop(message.trial)

    def _hung(self) -> list[Message]:
        """Kill the workers that have told nothing for too long.

        Only time in which the driver looked counts, a second at most between two looks: one that
        was itself held up for a minute has not listened.
        """
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 1.0), now
        messages: list[Message] = []
        for worker in list(self._workers):
            task = worker.current
            if task is None:
                continue
            worker.silent_seconds += passed
            patience = task.patience_seconds(self._epoch_timeout)
            if worker.silent_seconds > patience:
                known = (
                    f"the trial's slowest epoch took {task.slowest_seconds:.2g} s"
                    if task.slowest_seconds
                    else "it had not reported yet (--epoch-timeout)"
                )
                told = f"worker {worker.number} was silent for {patience:.3g} s and was killed"
                messages += self._lost(worker, f"{told}; {known}", "")
        return messages

    def _lost(self, worker: _Worker, message: str, traceback: str) -> list[Message]:
        """A dead actor's assignments come back as failures; a new one takes its place."""
        worker.lost = True
        ray.kill(worker.actor)  # it may live, where only its answer was lost
        again = self._new(worker.number, worker.deaths + 1)
        self._workers[self._workers.index(worker)] = again
        return _failures(worker, message, traceback)

    def _orphaned(self, traceback: str) -> list[Message]:
        """The driver's own Ray has died, and all its actors will.

        Nothing of it may be touched any more: who asks its object store is ended without a word.
        """
        told = "the driver's own Ray node died"
        messages = [m for w in self._workers for m in _failures(w, told, traceback)]
        self._workers, self._calls, self._last_up = [], {}, -math.inf
        return messages

    # ------------------------------------------------------------------ who is up

    def _new(self, number: int, deaths: int = 0) -> _Worker:
        actor = self._make.remote(self._bare, self._data, number)
        return _Worker(number=number, actor=actor, up=actor.ready.remote(), deaths=deaths)

    def _grow(self) -> None:
        """More workers where hosts have joined; those of a host that left wait for another one."""
        if not (self._follows and self.workers):  # a cluster that is gone would not answer
            return
        if time.monotonic() - self._counted < GROW_SECONDS:
            return
        self._counted = time.monotonic()
        for number in range(self._count, processors()):
            self._workers.append(self._new(number))
        self._count = len(self._workers)

    def _look_who_is_up(self) -> None:
        """Take in actors that have started; replace those that died before they had."""
        starting = {w.up: w for w in self._workers if w.up is not None}
        if not starting:
            return
        for up in ray.wait(list(starting), num_returns=len(starting), timeout=0)[0]:
            worker = starting[up]
            try:
                ray.get(up)
            except ray.exceptions.RayError as e:
                self._lost(worker, "", str(e))  # it had nothing to do yet
            else:
                worker.up = None

    def _somebody_is_up(self) -> None:
        """Nobody waits for ever: a pool without workers starts Ray again, once, or is given up.

        Raises:
            PoolError: If no worker has been up for `GONE_SECONDS`, or Ray cannot be started.
        """
        if self.workers:
            self._last_up = time.monotonic()
            return
        without = time.monotonic() - self._last_up
        if self._revive is not None and without > REVIVE_SECONDS:
            revive, self._revive = self._revive, None
            revive()
            self._begin()
        elif without > GONE_SECONDS:
            since = "" if without == math.inf else f" for {without:.0f} s"
            raise PoolError(
                f"all {self._count} workers are gone{since}, and with them Ray on this host or its "
                f"head; look at `ray status`"
            )

    def _await_first(self) -> None:
        """Go on as soon as one worker is up; the others follow.

        Raises:
            PoolError: If none comes up.
        """
        starting = [w.up for w in self._workers]
        done, _ = ray.wait(starting, num_returns=1, timeout=START_SECONDS)
        try:
            ray.get(done)
        except ray.exceptions.RayError as e:
            raise PoolError(
                f"no worker could start: {str(e).splitlines()[0]} (RAY_AUTH_MODE is "
                f"{os.environ.get('RAY_AUTH_MODE', 'not set')}; it has to be the cluster's)"
            ) from e
        if not done:
            raise PoolError(
                f"no worker came up within {START_SECONDS:.0f} s: {self._count} need one "
                f"processor each; look at `ray status`, or give fewer with --workers"
            )
        self._look_who_is_up()
