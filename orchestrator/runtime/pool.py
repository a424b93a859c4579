"""The contract of a pool of workers, and the pool that trains in this process."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from threadpoolctl import threadpool_limits

from orchestrator.runtime.checkpoint import Checkpoint, Message
from orchestrator.runtime.trainer import Job
from orchestrator.runtime.worker import WorkerQueue
from orchestrator.search.events import TrialMessage
from orchestrator.search.messages import Assignment

__all__ = ["EPOCH_TIMEOUT", "STOP_SIGNALS", "InlinePool", "Pool"]

#: Signals that end a session: Ctrl-C, the end of a service or a container, a closed terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EPOCH_TIMEOUT = 600.0  #: seconds until a trial's first report; a worker that needs more is killed


class Pool(Protocol):
    """A number of workers that train what they are assigned, each one model at a time.

    Every assignment that is submitted ends in exactly one Report with `last`, or in one Failure,
    among the messages that `poll` and `drain` return. Reports of one assignment come in the order
    of their epochs. Messages of an attempt that already ended in a Failure may still come in late,
    from a worker that was given up; the search refuses them by their attempt.

    Each worker computes with one BLAS thread: two threads give other bits than one.
    """

    @property
    def size(self) -> int:
        """The number of workers that the pool has once all are up."""

    @property
    def workers(self) -> int:
        """The number of workers that are up now."""

    def free(self) -> int:
        """The number of assignments that the pool needs now to keep every worker busy."""

    def busy(self) -> int:
        """The number of workers that have something to do; 0 only if nothing is under way."""

    def submit(self, assignment: Assignment, checkpoint: Checkpoint | None) -> None:
        """Take on an assignment, also if `free` is 0.

        Args:
            assignment: The epochs to train.
            checkpoint: The trial's latest checkpoint, if there is one; a checkpoint of a later
                epoch than the assignment's start is not used.
        """

    def deliver(self, message: TrialMessage) -> bool:
        """Send a message to the worker that trains this attempt of its trial.

        The worker carries it out between two epochs and sends it back among its messages.

        Returns:
            False if no worker has this attempt; the message is dropped then.
        """

    def poll(self, seconds: float, *, left: float = math.inf) -> list[Message]:
        """Return the messages that have come in, in the order in which they came.

        Args:
            seconds: How long to wait for the first message.
            left: Time until the run's deadline; what a worker has not reported by then is lost.

        Raises:
            PoolError: If the workers are gone and cannot be replaced.
        """

    def drain(self) -> list[Message]:
        """Return what is trained but has not come in yet, at the end; nothing new begins."""

    def close(self) -> None:
        """End the workers; epochs in flight are lost."""


class InlinePool:
    """A pool of one worker, which is this process.

    For tests, for debugging a trainer, and for runs that must repeat exactly.
    """

    size = workers = 1

    def __init__(self, job: Job) -> None:
        self._queue = WorkerQueue(job, worker=0)
        self._limits = threadpool_limits(limits=1)

    def free(self) -> int:
        """The number of assignments that the pool needs: 1 if it has none, else 0 or less."""
        return 1 - len(self._queue)

    def busy(self) -> int:
        """The number of assignments that wait or are under way."""
        return len(self._queue)

    def submit(self, assignment: Assignment, checkpoint: Checkpoint | None) -> None:
        """Queue an assignment, which `poll` trains."""
        self._queue.add(assignment, checkpoint)

    def deliver(self, message: TrialMessage) -> bool:
        """Put a message where the trial's next epoch finds it."""
        return self._queue.deliver(message)

    def poll(self, seconds: float, *, left: float = math.inf) -> list[Message]:
        """Train one epoch, however long it takes, and return its report."""
        if not self._queue:
            return []
        with _undoing_changes_to_process():
            return [self._queue.work()]

    def drain(self) -> list[Message]:
        """Return nothing: every epoch that was trained has been returned by `poll`."""
        return []

    def close(self) -> None:
        """Drop the assignments that wait, and let BLAS have its threads again."""
        self._queue.clear()
        self._limits.restore_original_limits()


@contextmanager
def _undoing_changes_to_process() -> Iterator[None]:
    """Undo what a trainer may change in its process and the session needs.

    These are the working directory, because the run's folder may be a relative path, and the
    handlers of the signals that stop a session. Costs 5 microseconds.
    """
    folder = os.open(".", os.O_RDONLY)  # a descriptor, because the directory may have been removed
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        os.fchdir(folder)
        os.close(folder)
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
