"""The dispatcher alone, up to ten thousand workers, in virtual time.

    python -m benchmarks.dispatch [--assignments 50000]

Each worker trains the assignments it is handed, each epoch in a time of its own, and returns its
calls as an actor does. Each returned call is a poll of its own, the most expensive case. Only the
dispatcher is timed, not the simulation around it: every method that the pool calls between two
messages, divided by the number of assignments that were handed out.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer

from orchestrator.runtime.checkpoint import Message
from orchestrator.runtime.dispatch import Call, Dispatcher, StartWorker
from orchestrator.search.messages import Assignment, Report
from orchestrator.search.objective import WORST

WORKERS = (10, 100, 1_000, 10_000)
REPEATS = 3  #: runs of each size, of which the median counts
EPOCH_SECONDS = 0.2  #: median time of an epoch; the spread is a factor of 1.65 (log-normal, 0.5)


@dataclass
class Meter:
    """Adds up the time spent in the calls that it makes."""

    seconds: float = 0.0

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the function, add its time, and return its result."""
        begin = time.perf_counter()
        result = function(*arguments)
        self.seconds += time.perf_counter() - begin
        return result


class Cluster:
    """Workers in virtual time: a worker that is handed a call returns it some epochs later."""

    def __init__(self, workers: int) -> None:
        rng = np.random.default_rng(0)
        self._paces = EPOCH_SECONDS * rng.lognormal(0, 0.5, 2**12)
        self._queues: list[deque[tuple[Assignment, int]]] = [deque() for _ in range(workers)]
        self._idle_at = [0.0] * workers
        self._order = 0
        self._returns: list[tuple[float, int, Call, list[Message]]] = []

    def send(self, call: Call, now: float) -> None:
        """Begin a call once the worker's earlier ones have ended, and plan its return."""
        number = call.worker.number
        self._queues[number].extend((a, a.start_epoch + 1) for a, _ in call.assignments)
        seconds, messages = self._train(self._queues[number], call)
        self._idle_at[number] = max(now, self._idle_at[number]) + seconds
        self._order += 1
        heapq.heappush(self._returns, (self._idle_at[number], self._order, call, messages))

    def wait(self) -> tuple[float, Call, list[Message]]:
        """Return the next call that ends: its time, the call and its messages."""
        at, _, call, messages = heapq.heappop(self._returns)
        return at, call, messages

    def _train(
        self, queue: deque[tuple[Assignment, int]], call: Call
    ) -> tuple[float, list[Message]]:
        """Compute the seconds and the messages of a call, as `TrainingActor.work` would."""
        spent, messages = 0.0, list[Message]()
        while queue:
            a, epoch = queue.popleft()
            seconds = float(self._paces[a.trial % len(self._paces)])
            spent, last = spent + seconds, epoch == a.stop_epoch
            messages.append(
                Report(
                    trial=a.trial, attempt=1, epoch=epoch, metrics={}, score=WORST,
                    seconds=seconds, worker=0, last=last,
                )
            )  # fmt: skip
            if not last:
                queue.appendleft((a, epoch + 1))
            if spent >= (call.slice_seconds if last else call.stream_seconds):
                break
        return spent, messages


def measure(workers: int, assignments: int) -> float:
    """Microseconds of the dispatcher for each assignment that was handed out."""
    meter, cluster, now, trial = Meter(), Cluster(workers), 0.0, 0
    dispatcher = Dispatcher(workers=workers, grows=False, epoch_timeout=600.0, now=now)
    for action in dispatcher.start_workers(now):
        assert isinstance(action, StartWorker)
        dispatcher.mark_up(action.worker, now)
    todo = [
        Assignment(
            trial=trial, config={}, seed=0, start_epoch=0, stop_epoch=1 + trial % 3, attempt=1,
            explode_above=1e4,
        )
        for trial in range(assignments)
    ]  # fmt: skip
    while trial < assignments:
        while trial < assignments and meter(dispatcher.free) > 0:
            meter(dispatcher.submit, todo[trial], None)
            trial += 1
        for call in meter(dispatcher.plan_calls):
            cluster.send(call, now)
        now, call, messages = cluster.wait()
        meter(dispatcher.take_messages, call, messages, now)
        meter(dispatcher.check_deadlines, now)
    dispatcher.validate()
    return 1e6 * meter.seconds / assignments


def main(
    assignments: Annotated[
        int, typer.Option(help="smallest number of assignments in a run")
    ] = 50_000,
) -> None:
    """Print microseconds for each handed-out assignment, by the number of workers."""
    print(f"dispatcher, median of {REPEATS} runs; clock included (0.1 us for each method)")
    for workers in WORKERS:
        count = max(assignments, 5 * workers)
        figures = [measure(workers, count) for _ in range(REPEATS)]
        print(f"{workers:6,d} workers  {np.median(figures):6.1f} us an assignment", flush=True)


if __name__ == "__main__":
    typer.run(main)
