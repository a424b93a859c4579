"""What runs in each Ray worker process: it trains the assignments it is handed, in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from threadpoolctl import threadpool_limits

from orchestrator.runtime.checkpoint import Checkpoint, Message
from orchestrator.runtime.trainer import Job
from orchestrator.runtime.worker import train
from orchestrator.search.messages import Assignment, Report

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
        self._job = replace(job, data=data)
        self._number = number
        self._queue: deque[Iterator[Message]] = deque()

    def ready(self) -> None:
        """Answer once the process is up and the data is there."""

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
        self._queue.extend(
            train(self._job, assignment, checkpoint, worker=self._number)
            for assignment, checkpoint in assignments
        )
        messages: list[Message] = []
        while self._queue:
            message = next(self._queue[0], None)
            if message is None:
                self._queue.popleft()
                continue
            messages.append(message)
            unfinished = isinstance(message, Report) and not message.last
            if time.monotonic() - begin >= (stream_seconds if unfinished else slice_seconds):
                break
        return messages
