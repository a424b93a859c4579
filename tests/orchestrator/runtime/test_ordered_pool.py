"""The ordered pool: whichever worker is quicker, messages come in the same order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.runtime.checkpoint import Checkpoint, Message
from orchestrator.runtime.ordered_pool import OrderedPool
from orchestrator.search.events import TrialAdjusted, TrialMessage
from orchestrator.search.messages import Assignment, Failure, Report
from orchestrator.search.objective import WORST


class Shuffled:
    """A pool of so many places whose messages come back in the order a test draws."""

    def __init__(self, places: int, draws: Sequence[int]) -> None:
        self.size = self.workers = places
        self.out: list[Assignment] = []
        self.epoch: dict[int, int] = {}
        self.draws = list(draws)

    def free(self) -> int:
        return self.size - len(self.out)

    def busy(self) -> int:
        return len(self.out)

    def submit(self, assignment: Assignment, checkpoint: Checkpoint | None) -> None:
        assert self.free() > 0
        self.out.append(assignment)
        self.epoch[assignment.trial] = assignment.start_epoch

    def deliver(self, message: TrialMessage) -> bool:
        raise AssertionError("when a message arrives depends on the workers' speed")

    def poll(self, seconds: float, *, left: float = math.inf) -> list[Message]:
        if not self.out:
            return []
        draw = self.draws.pop() if self.draws else 0
        a = self.out[draw % len(self.out)]
        if draw % 7 == 3:
            self.out.remove(a)
            return [failure(a)]
        self.epoch[a.trial] += 1
        if self.epoch[a.trial] == a.stop_epoch:
            self.out.remove(a)
        return [report(a, self.epoch[a.trial])]

    def drain(self) -> list[Message]:
        raise AssertionError("what is out of turn is not taken")

    def close(self) -> None:
        self.out.clear()


def assignment(trial: int, stop: int = 2) -> Assignment:
    return Assignment(
        trial=trial, config={}, seed=0, start_epoch=0, stop_epoch=stop, attempt=1,
        explode_above=1e4,
    )  # fmt: skip


def report(a: Assignment, epoch: int) -> Report:
    return Report(
        trial=a.trial, attempt=a.attempt, epoch=epoch, metrics={}, score=WORST,
        seconds=0.0, worker=0, last=epoch == a.stop_epoch,
    )  # fmt: skip


def failure(a: Assignment) -> Failure:
    return Failure(trial=a.trial, attempt=a.attempt, kind="lost", message="gone")


def order_of_ends(
    places: int, draws: Sequence[int], *, max_in_flight: int, count: int
) -> list[int]:
    """The trials in the order in which they end, when each one that failed is tried again."""
    pool = OrderedPool(Shuffled(places, draws), max_in_flight=max_in_flight)
    begun, ended = 0, []
    while len(ended) < count:
        while pool.free() and begun < count:
            pool.submit(assignment(begun, stop=1 + begun % 3), None)
            begun += 1
        messages = pool.poll(0.1)
        if not messages:
            continue
        assert len({m.trial for m in messages}) == 1
        assert pool.free() == 1 or begun == count
        last = messages[-1]
        if isinstance(last, Failure):
            a = assignment(last.trial, stop=1 + last.trial % 3)
            pool.submit(replace(a, attempt=last.attempt + 1), None)
        else:
            ended.append(last.trial)
    assert pool.busy() == 0
    return ended


@given(
    st.integers(1, 5),
    st.lists(st.integers(0, 100), max_size=80),
    st.integers(1, 9),
    st.integers(0, 20),
)
def test_assignments_end_in_the_order_in_which_they_were_submitted(
    places: int, draws: list[int], max_in_flight: int, count: int
) -> None:
    assert order_of_ends(places, draws, max_in_flight=max_in_flight, count=count) == list(
        range(count)
    )


def test_as_many_are_in_flight_as_asked_for_whatever_the_pool_has_room_for() -> None:
    inner = Shuffled(2, [])
    pool = OrderedPool(inner, max_in_flight=5)
    for trial in range(5):
        assert pool.free() == 5 - trial
        pool.submit(assignment(trial), None)
    assert pool.free() == 0
    pool.poll(0.1)
    assert len(inner.out) == 2


def test_no_message_is_delivered_for_its_epoch_would_depend_on_the_workers_speed() -> None:
    pool = OrderedPool(Shuffled(1, []), max_in_flight=1)
    pool.submit(assignment(0), None)
    assert not pool.deliver(TrialAdjusted(trial=0, attempt=1, changes={}))
