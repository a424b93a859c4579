"""The contract of a pool of workers, and the pool that is this process."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from threadpoolctl import threadpool_limits

from orchestrator.runtime.trainer import Job
from orchestrator.runtime.worker import Checkpoint, Message, train
from orchestrator.search.messages import Assignment, Failure

__all__ = ["EPOCH_TIMEOUT", "InlinePool", "Pool"]

EPOCH_TIMEOUT = 600.0  #: seconds until a trial's first report; a worker that needs more is killed


class Pool(Protocol):
    """Does what it is assigned, one model at a time in each worker, and decides nothing.

    Every assignment submitted ends in exactly one Report with `last`, or one Failure, in the
    messages that `poll` returns. One BLAS thread in each worker: one or two give different bits.
    """

    @property
    def size(self) -> int:
        """How many workers it has once all are up."""

    @property
    def workers(self) -> int:
        """How many work side by side now."""

    def free(self) -> int:
        """How many more assignments it would take now."""

    def busy(self) -> int:
        """How many workers have something to do."""

    def submit(self, assignment: Assignment, held: Checkpoint | None) -> None:
        """Hand an assignment to a worker, with the trial's last state there is."""

    def poll(self, seconds: float, *, left: float = math.inf) -> list[Message]:
        """What has come in, waiting for the first message at most that long.

        `left` is what remains until the deadline: what a worker has not told by then is lost.
        """

    def drain(self) -> list[Message]:
        """At the end: what is trained already but not yet here; nothing new begins."""

    def close(self) -> None:
        """Let go of the workers; what is in flight is lost."""


class InlinePool:
    """One worker: this process. For tests, debugging, and runs that must repeat exactly."""

    size = workers = 1

    def __init__(self, job: Job) -> None:
        self._job = job
        self._waiting: deque[Iterator[Message]] = deque()
        self._limits = threadpool_limits(limits=1)

    def free(self) -> int:
        """One at a time."""
        return 1 - len(self._waiting)

    def busy(self) -> int:
        """One, while there is anything to do."""
        return len(self._waiting)

    def submit(self, assignment: Assignment, held: Checkpoint | None) -> None:
        """Trained when polled."""
        self._waiting.append(train(self._job, assignment, held, worker=0))

    def poll(self, seconds: float, *, left: float = math.inf) -> list[Message]:
        """Train one epoch, however long it takes."""
        if not self._waiting:
            return []
        message = next(self._waiting[0])
        if isinstance(message, Failure) or message.last:
            self._waiting.popleft()
        return [message]

    def drain(self) -> list[Message]:
        """Nothing is trained that has not been polled."""
        return []

    def close(self) -> None:
        """Give the BLAS its threads back."""
        self._waiting.clear()
        self._limits.restore_original_limits()
