"""What runs in each Ray worker process: it trains the assignments it is handed, in order."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import Any

from threadpoolctl import threadpool_limits

from orchestrator.runtime.checkpoint import Checkpoint, Message, ends_assignment
from orchestrator.runtime.trainer import Job
from orchestrator.runtime.worker import WorkerQueue
from orchestrator.search.events import TrialMessage
from orchestrator.search.messages import Assignment

__all__ = ["TrainingActor"]


class TrainingActor:
    """A worker process: trains one model at a time, with one BLAS thread.

    Args:
        job: What the trials of the run have in common, without its data.
        data: The run's data, read from the object store without a copy.
        number: The worker's number, which its reports carry.
    """

    def __init__(self, job: Job, data: Any, number: int) -> None:
        threadpool_limits(limits=1)
        # Ray raises SystemExit at SIGTERM, which would pass for an error of the trainer; a worker
        # that dies is replaced. Ctrl-C goes to the whole process group; the driver handles it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._queue = WorkerQueue(replace(job, data=data), worker=number)

    def ready(self) -> None:
        """Answer once the process is up and the data is there."""

    def deliver(self, message: TrialMessage) -> None:
        """Put a message where its trial's next epoch finds it."""
        self._queue.deliver(message)

    def work(
        self,
        assignments: list[tuple[Assignment, Checkpoint | None]],
        slice_seconds: float,
        stream_seconds: float,
    ) -> list[Message]:
        """Queue these assignments, then train until the queue is empty or a report is worth it.

        The call returns with the first assignment that ends after `slice_seconds`, or with the
        first epoch that ends after `stream_seconds`.
        """
        begin = time.monotonic()
        for assignment, checkpoint in assignments:
            self._queue.add(assignment, checkpoint)
        messages: list[Message] = []
        while self._queue:
            message = self._queue.work()
            messages.append(message)
            limit = slice_seconds if ends_assignment(message) else stream_seconds
            if time.monotonic() - begin >= limit:
                break
        return messages
