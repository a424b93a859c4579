"""The pool of Ray actors: the only file that knows Ray.

Each actor holds one model at a time and lives as long as the run; the data lies in the object store
once and is read there without a copy. A call hands over assignments and brings back the reports of
at most `SLICE_SECONDS`, so long assignments stream and short ones cost one round trip. A second
call always waits behind the first, so that a worker never waits for the driver.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import ray
import ray._private.worker
from threadpoolctl import threadpool_limits

from orchestrator.errors import InputError, PoolError
from orchestrator.trainer import Job
from orchestrator.trial import Assignment, Failure, Report
from orchestrator.worker import Held, Message, train

__all__ = ["RayPool", "connect", "disconnect", "processors"]

SLICE_SECONDS = 0.05  #: the longest a worker keeps reports to itself, if epochs are shorter
DRAIN_SECONDS = 0.1  #: at the deadline, for reports of the last slice
SHORT_SECONDS = 0.05  #: an assignment shorter than this has a second one wait behind it
CALLS = 2  #: under way to a worker with work: one it is busy with, one that waits behind
PATIENCE_SECONDS = 60.0  #: for a first worker to come up, or for another one
CONNECT_SECONDS = 5.0  #: for an address to answer


def connect(address: str | None, *, cpus: int | None) -> None:
    """Join the cluster at an address, or start one on this machine.

    Args:
        address: `auto`, HOST:PORT, or None for a local cluster of our own.
        cpus: How many processors a local cluster offers; None = all of the machine.

    Raises:
        InputError: If nobody answers at the address.
    """
    if address and address != "auto":
        _knock(address)
    try:
        with _silenced():
            if ray.is_initialized():
                raise RuntimeError("this process has joined one already; leave it first")
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


def _knock(address: str) -> None:
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

    def work(self, given: list[tuple[Assignment, Held | None]], seconds: float) -> list[Message]:
        """Take these on, then train for about that long, or until there is nothing to do."""
        end = time.monotonic() + seconds
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
            if time.monotonic() >= end:
                break
        return messages


@dataclass(slots=True, kw_only=True)
class _Worker:
    number: int
    actor: Any
    up: Any  #: resolves once the actor has started; None once it has
    deaths: int = 0  #: of actors with this number
    unfinished: dict[int, Assignment] = field(default_factory=dict)  #: by trial
    calls: int = 0  #: under way


class RayPool:
    """Workers on a Ray cluster that `connect` has joined."""

    def __init__(self, job: Job, *, workers: int) -> None:
        self._data = ray.put(job.data)
        self._job = replace(job, data=None)
        self._make = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
        self._workers = [self._new(number) for number in range(workers)]
        self._calls: dict[Any, _Worker] = {}
        self._last_up = time.monotonic()
        self._seconds = 1.0  # an assignment takes about that long
        self._await_first()

    @property
    def size(self) -> int:
        """How many actors were asked for."""
        return len(self._workers)

    @property
    def workers(self) -> int:
        """How many actors are up; one that a cluster has no room for yet does not count."""
        return sum(w.up is None for w in self._workers)

    def free(self) -> int:
        """One assignment a worker, and one more to wait behind it while they are short."""
        depth = 2 if self._seconds < SHORT_SECONDS else 1
        return sum(max(depth - len(w.unfinished), 0) for w in self._workers if w.up is None)

    def busy(self) -> int:
        """How many workers have something to do."""
        return sum(bool(w.unfinished) for w in self._workers)

    def submit(self, assignment: Assignment, held: Held | None) -> None:
        """To the worker that is up and has least to do, and that died least often."""
        worker = min(
            self._workers,
            key=lambda w: (w.up is not None, len(w.unfinished), w.deaths, w.number),
        )
        worker.unfinished[assignment.trial] = assignment
        self._call(worker, [(assignment, held)])

    def poll(self, seconds: float) -> list[Message]:
        """Messages of all calls that have returned; an actor's death is a Failure of its work."""
        starting = [w.up for w in self._workers if w.up is not None]
        if not (self._calls or starting):
            return []
        ray.wait([*self._calls, *starting], num_returns=1, timeout=seconds)
        self._look_who_is_up()
        self._somebody_is_up()
        messages = self._returned(0)
        for worker in self._workers:
            while worker.unfinished and worker.calls < CALLS:
                self._call(worker, [])
        return messages

    def drain(self) -> list[Message]:
        """Reports of the slice under way, if it ends within a tenth of a second."""
        return self._returned(DRAIN_SECONDS)

    def close(self) -> None:
        """Kill the actors: an epoch in flight is lost, nothing else."""
        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers, self._calls = [], {}

    def _new(self, number: int, deaths: int = 0) -> _Worker:
        actor = self._make.remote(self._job, self._data, number)
        return _Worker(number=number, actor=actor, up=actor.ready.remote(), deaths=deaths)

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
                self._lost(worker, e)
            else:
                worker.up = None

    def _somebody_is_up(self) -> None:
        """Nobody waits for ever: a pool without workers is given up after a while.

        Raises:
            PoolError: If no worker has been up for `PATIENCE_SECONDS`.
        """
        if self.workers:
            self._last_up = time.monotonic()
        elif time.monotonic() - self._last_up > PATIENCE_SECONDS:
            raise PoolError(
                f"all {len(self._workers)} workers are gone and none has come up again within "
                f"{PATIENCE_SECONDS:.0f} s; look at `ray status`"
            )

    def _await_first(self) -> None:
        """Go on as soon as one worker is up; the others follow.

        Raises:
            PoolError: If none comes up.
        """
        starting = [w.up for w in self._workers]
        done, _ = ray.wait(starting, num_returns=1, timeout=PATIENCE_SECONDS)
        try:
            ray.get(done)
        except ray.exceptions.RayError as e:
            raise PoolError(
                f"no worker could start: {str(e).splitlines()[0]} (RAY_AUTH_MODE is "
                f"{os.environ.get('RAY_AUTH_MODE', 'not set')}; it has to be the cluster's)"
            ) from e
        if not done:
            raise PoolError(
                f"no worker came up within {PATIENCE_SECONDS:.0f} s: {len(self._workers)} need "
                f"one processor each; "
                f"look at `ray status`, or give fewer with --workers"
            )
        self._look_who_is_up()

    def _returned(self, seconds: float) -> list[Message]:
        """Messages of all calls that return within that time."""
        if not self._calls:
            return []
        done, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=seconds)
        messages: list[Message] = []
        for call in done:
            worker = self._calls.pop(call, None)
            if worker is None:
                continue  # its actor died, which an earlier call has told
            worker.calls -= 1
            try:
                arrived = ray.get(call)
            except ray.exceptions.RayError as e:  # the actor died, or its answer with its host
                messages += self._lost(worker, e)
                continue
            for message in arrived:
                self._settle(worker, message)
            messages += arrived
        return messages

    def _call(self, worker: _Worker, given: list[tuple[Assignment, Held | None]]) -> None:
        call = worker.actor.work.remote(given, SLICE_SECONDS)
        self._calls[call] = worker
        worker.calls += 1

    def _settle(self, worker: _Worker, message: Message) -> None:
        """Strike off an assignment that has ended, and learn how long they take."""
        if isinstance(message, Report):
            assignment = worker.unfinished[message.trial]
            epochs = assignment.stop_epoch - assignment.start_epoch
            self._seconds += 0.1 * (message.seconds * epochs - self._seconds)
            if not message.last:
                return
        worker.unfinished.pop(message.trial)

    def _lost(self, worker: _Worker, error: Exception) -> list[Message]:
        """A dead actor's assignments come back as failures; a new one takes its place."""
        self._calls = {call: w for call, w in self._calls.items() if w is not worker}
        ray.kill(worker.actor)  # it may live, where only its answer was lost
        again = self._new(worker.number, worker.deaths + 1)
        self._workers[self._workers.index(worker)] = again
        return [
            Failure(
                trial=a.trial,
                attempt=a.attempt,
                kind="lost",
                message=f"worker {worker.number} died",
                traceback=str(error),
                worker=worker.number,
            )
            for a in worker.unfinished.values()
        ]
