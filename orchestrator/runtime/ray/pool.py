"""The pool of Ray actors: it carries out what the dispatcher decides.

Each actor holds one model at a time and lives as long as the run; the data lies in the object store
once and is read there without a copy. A call hands over assignments and brings back the reports of
at most `STREAM_SECONDS`, so long assignments stream and short ones cost one round trip. Where the
first call will not do all the work, a second waits behind it: a worker never waits for the driver.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import ray

from orchestrator.errors import PoolError
from orchestrator.quote import get_first_line
from orchestrator.runtime.checkpoint import Checkpoint, Message
from orchestrator.runtime.dispatch import Action, Call, Dispatcher, KillWorker, StartWorker
from orchestrator.runtime.pool import EPOCH_TIMEOUT
from orchestrator.runtime.ray.actor import TrainingActor
from orchestrator.runtime.ray.cluster import count_processors, describe_authentication
from orchestrator.runtime.ray.internals import is_node_alive
from orchestrator.runtime.trainer import Job
from orchestrator.runtime.workload import WorkerId
from orchestrator.search.events import TrialMessage
from orchestrator.search.messages import Assignment

__all__ = ["RayPool"]

logger = logging.getLogger("caviar.runtime.ray.pool")

DRAIN_SECONDS = 0.1  #: at the deadline, for reports of the last slice
START_SECONDS = 60.0  #: for a first worker to come up
#: Without any worker for this long, a cluster that Caviar did not start is given up. At 60 s Ray
#: ends the driver itself, without a message, where the cluster's head is gone.
GONE_SECONDS = 30.0
#: Without any worker for this long, Ray is started again; an actor takes 1-3 s to come up.
REVIVE_SECONDS = 10.0
#: Time between two checks that this host's Ray node lives: when the cluster's head notices its
#: death, after 3-15 s, Ray ends a driver that still holds on to it.
NODE_CHECK_SECONDS = 0.5


class RayPool:
    """Workers on a Ray cluster that `connect` has joined.

    Args:
        job: What the workers are made with.
        workers: The number of workers; None = as many as the cluster has processors, also when
            hosts join.
        epoch_timeout: Seconds until a trial's first report; a worker that takes longer is killed.
        revive: Starts Ray again, on this machine; None where Caviar did not start the cluster.

    Raises:
        PoolError: If no worker comes up.
    """

    def __init__(
        self,
        job: Job,
        *,
        workers: int | None,
        epoch_timeout: float = EPOCH_TIMEOUT,
        revive: Callable[[], None] | None = None,
    ) -> None:
        self._job, self._revive = job, revive
        self._dispatcher = Dispatcher(
            workers=workers or count_processors(),
            grows=workers is None,
            epoch_timeout=epoch_timeout,
            now=time.monotonic(),
        )
        self._start()

    def _start(self) -> None:
        """Put the data into the object store, and start the actors."""
        self._data = ray.put(self._job.data)
        self._job_without_data = replace(self._job, data=None)
        self._make_actor = ray.remote(num_cpus=1, max_restarts=0)(TrainingActor).remote
        self._actors: dict[WorkerId, Any] = {}
        self._starting: dict[Any, WorkerId] = {}  #: by the reference to their `ready`
        self._calls: dict[Any, Call] = {}  #: under way, by the reference to their messages
        now = self._node_checked_at = time.monotonic()
        self._perform(self._dispatcher.start_workers(now))
        self._wait_for_first()

    @property
    def size(self) -> int:
        """The number of actors that were asked for."""
        return self._dispatcher.size

    @property
    def workers(self) -> int:
        """The number of actors that are up; one that a cluster has no room for does not count."""
        return self._dispatcher.workers

    def free(self) -> int:
        """The number of assignments that keep every worker busy until it can get the next."""
        return self._dispatcher.free()

    def busy(self) -> int:
        """The number of workers that have something to do."""
        return self._dispatcher.busy()

    def submit(self, assignment: Assignment, checkpoint: Checkpoint | None) -> None:
        """Queue an assignment at the worker whose work ends first; it is sent by `poll`."""
        self._dispatcher.submit(assignment, checkpoint)

    def deliver(self, message: TrialMessage) -> bool:
        """Send a message to the actor that has the attempt.

        The actor takes it up after the calls that it was sent before, at most two: within two
        epochs, or two times STREAM_SECONDS where that is longer.
        """
        worker = self._dispatcher.find_worker(message.trial, message.attempt)
        if worker is None:
            return False
        self._actors[worker].deliver.remote(message)
        return True

    def poll(self, seconds: float, *, left: float = math.inf) -> list[Message]:
        """Return the messages of all calls that have returned, and failures of lost workers.

        Raises:
            PoolError: If no worker has been up for `GONE_SECONDS`, or Ray cannot be started again.
        """
        now = time.monotonic()
        self._check_workers(now)
        if now - self._node_checked_at > NODE_CHECK_SECONDS:
            self._node_checked_at = now
            if not is_node_alive():
                return self._lose_node("")
        if self._dispatcher.needs_processor_count(now):
            self._perform(self._dispatcher.grow(count_processors(), now))
        self._perform(self._dispatcher.plan_calls(left))
        if not (self._calls or self._starting):
            return []
        news, _ = ray.wait([*self._calls, *self._starting], num_returns=1, timeout=seconds)
        messages: list[Message] = []
        if news:
            self._take_started()
            messages = self._take_returned(0)
        return messages + self._perform(self._dispatcher.check_deadlines(time.monotonic()))

    def drain(self) -> list[Message]:
        """Return the reports of the slice under way, if it ends within a tenth of a second."""
        return self._take_returned(DRAIN_SECONDS)

    def close(self) -> None:
        """Kill the actors; an epoch in flight is lost, nothing else."""
        for actor in self._actors.values():
            ray.kill(actor)
        self._forget_actors()

    def _forget_actors(self) -> None:
        self._actors, self._starting, self._calls = {}, {}, {}

    # ------------------------------------------------------------------ actions

    def _perform(self, actions: Iterable[Action]) -> list[Message]:
        """Carry out what the dispatcher decided; the failures among it go to the session."""
        failures: list[Message] = []
        for action in actions:
            match action:
                case Call():
                    self._send(action)
                case StartWorker(worker):
                    self._start_actor(worker)
                case KillWorker(worker):
                    self._kill_actor(worker)
                case failure:
                    failures.append(failure)
        return failures

    def _send(self, call: Call) -> None:
        actor = self._actors[call.worker]
        reference = actor.work.remote(call.assignments, call.slice_seconds, call.stream_seconds)
        self._calls[reference] = call
        if logger.isEnabledFor(logging.DEBUG):
            trials = [assignment.trial for assignment, _ in call.assignments]
            logger.debug("call of worker %d with trials %s", call.worker.number, trials)

    def _start_actor(self, worker: WorkerId) -> None:
        actor = self._make_actor(self._job_without_data, self._data, worker.number)
        self._actors[worker] = actor
        self._starting[actor.ready.remote()] = worker

    def _kill_actor(self, worker: WorkerId) -> None:
        """Kill an actor; it may still live, where only its answer was lost."""
        ray.kill(self._actors.pop(worker))
        logger.info("worker %d is killed", worker.number)

    # ------------------------------------------------------------------ taking in

    def _take_returned(self, seconds: float) -> list[Message]:
        """Messages of all calls that return within that time."""
        if not self._calls:
            return []
        done, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=seconds)
        messages: list[Message] = []
        now = time.monotonic()
        for reference in done:
            call = self._calls.pop(reference)
            if call.worker not in self._actors:
                # It was given up: these are late, and the search refuses them by their attempt.
                with contextlib.suppress(ray.exceptions.RayError):
                    messages += ray.get(reference)
                continue
            try:
                arrived: list[Message] = ray.get(reference)
            except ray.exceptions.RayError as e:  # the actor died, or its answer with its host
                if not is_node_alive():
                    return messages + self._lose_node(str(e))
                messages += self._lose_actor(call.worker, str(e))
                continue
            self._dispatcher.take_messages(call, arrived, now)
            messages += arrived
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%d calls returned %d messages", len(done), len(messages))
        return messages

    def _take_started(self) -> None:
        """Note the actors that have started; replace those that died before they had."""
        if not self._starting:
            return
        references = list(self._starting)
        for reference in ray.wait(references, num_returns=len(references), timeout=0)[0]:
            worker = self._starting.pop(reference)
            try:
                ray.get(reference)
            except ray.exceptions.RayError as e:
                self._lose_actor(worker, str(e))  # it had nothing to do yet: no failures
            else:
                self._dispatcher.mark_up(worker, time.monotonic())

    # ------------------------------------------------------------------ losses

    def _lose_actor(self, worker: WorkerId, traceback: str) -> list[Message]:
        message = f"worker {worker.number} died"
        return self._perform(self._dispatcher.lose(worker, message, traceback))

    def _lose_node(self, traceback: str) -> list[Message]:
        """Give up all actors: this host's Ray node has died, and they will.

        Nothing of it may be touched any more: Ray ends a driver that asks a dead node's object
        store, without a message.
        """
        self._forget_actors()
        return list(self._dispatcher.lose_all("the driver's own Ray node died", traceback))

    def _check_workers(self, now: float) -> None:
        """Start Ray again, once, if no worker is up for long; then give up.

        Raises:
            PoolError: If no worker has been up for `GONE_SECONDS`, or Ray cannot be started.
        """
        seconds = self._dispatcher.seconds_without_workers(now)
        if self._revive is not None and seconds > REVIVE_SECONDS:
            revive, self._revive = self._revive, None
            logger.warning("no worker has been up for %.0f s: Ray is started again", seconds)
            self._forget_actors()
            self._dispatcher.lose_all("Ray is started again", "")
            revive()
            self._start()
        elif seconds > GONE_SECONDS:
            since = "" if seconds == math.inf else f" for {seconds:.0f} s"
            raise PoolError(
                f"all {self.size} workers are gone{since}, and with them Ray on this host or its "
                f"head; look at `ray status`"
            )

    def _wait_for_first(self) -> None:
        """Wait until one worker is up; the others follow.

        Raises:
            PoolError: If none comes up.
        """
        done, _ = ray.wait(list(self._starting), num_returns=1, timeout=START_SECONDS)
        try:
            ray.get(done)
        except ray.exceptions.RayError as e:
            raise PoolError(
                f"no worker could start: {get_first_line(e)} ({describe_authentication()})"
            ) from e
        if not done:
            raise PoolError(
                f"no worker came up within {START_SECONDS:.0f} s: {self.size} workers need one "
                f"processor each; look at `ray status`, or ask for fewer with `workers`"
            )
        self._take_started()
