"""The dispatcher against a simulated cluster: no Ray, no clock, no sleep."""

from __future__ import annotations

import ast
import inspect
import logging
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from orchestrator.runtime import checkpoint, dispatch, workload
from orchestrator.runtime.checkpoint import Checkpoint, Message
from orchestrator.runtime.dispatch import (
    DEEPEST,
    GROW_SECONDS,
    SLICE_SECONDS,
    Action,
    Call,
    Dispatcher,
    KillWorker,
    StartWorker,
)
from orchestrator.runtime.workload import (
    LEAST_PATIENCE_SECONDS,
    PATIENCE,
    STREAM_SECONDS,
    WorkerId,
)
from orchestrator.search.messages import Assignment, Failure, Report
from orchestrator.search.objective import WORST

EPOCH_TIMEOUT = 50.0
RETRIES = 2


def assignment(trial: int, *, start: int = 0, stop: int = 2, **changes: object) -> Assignment:
    plain = Assignment(
        trial=trial, config={}, seed=0, start_epoch=start, stop_epoch=stop, attempt=1,
        explode_above=1e4,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type] # fields by name


def report(a: Assignment, epoch: int, seconds: float) -> Report:
    return Report(
        trial=a.trial, attempt=a.attempt, epoch=epoch, metrics={}, score=WORST, seconds=seconds,
        worker=0, last=epoch == a.stop_epoch,
    )  # fmt: skip


@dataclass
class Actor:
    """A worker process: it trains its assignments in order, whatever the driver thinks of it."""

    queue: deque[Assignment] = field(default_factory=deque)
    calls: deque[Call] = field(default_factory=deque)
    epochs: dict[int, int] = field(default_factory=dict)  #: the last one trained, by trial

    def receive(self, call: Call) -> None:
        self.calls.append(call)
        self.queue.extend(a for a, _ in call.assignments)

    def train(self, epochs: float, seconds: float, *, raises: bool = False) -> list[Message]:
        """Messages of at most that many epochs; the last is a failure if the trainer raises."""
        messages: list[Message] = []
        while self.queue and len(messages) < epochs:
            a = self.queue[0]
            epoch = self.epochs[a.trial] = self.epochs.get(a.trial, a.start_epoch) + 1
            messages.append(report(a, epoch, seconds))
            if epoch == a.stop_epoch:
                self.queue.popleft()
        if raises and self.queue:
            a = self.queue.popleft()
            messages.append(Failure(trial=a.trial, attempt=a.attempt, kind="raised", message="no"))
        return messages


class SimulatedCluster(RuleBasedStateMachine):
    """A pool of actors that come up, train, hang, die and answer late; a search that retries."""

    @initialize(workers=st.integers(1, 4), grows=st.booleans())
    def begin(self, workers: int, grows: bool) -> None:
        self.now, self.grows = 100.0, grows
        self.dispatcher = Dispatcher(
            workers=workers, grows=grows, epoch_timeout=EPOCH_TIMEOUT, now=self.now
        )
        self.actors: dict[WorkerId, Actor] = {}
        self.starting: list[WorkerId] = []
        self.given_up: list[Actor] = []
        self.deaths: Counter[int] = Counter()
        self.tasks: dict[WorkerId, dict[int, Assignment]] = {}  #: as the driver sees them
        self.under_way: dict[int, Assignment] = {}  #: by trial
        self.ends: Counter[tuple[int, int]] = Counter()  #: by trial and attempt
        self.trials = 0
        self.silent: dict[WorkerId, float] = {}  #: since a message, in time that the driver looked
        self.slowest: dict[tuple[int, int], float] = {}  #: epoch, by trial and attempt
        self.catch_up: dict[tuple[int, int], int] = {}  #: epochs before its first report
        self.looked = self.now
        self.perform(self.dispatcher.start_workers(self.now))

    # -------------------------------------------------------------- what the pool does

    def perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case StartWorker(worker):
                    assert worker.deaths == self.deaths[worker.number]
                    assert all(worker.number != other.number for other in self.actors)
                    self.actors[worker] = Actor()
                    self.starting.append(worker)
                    self.tasks[worker], self.silent[worker] = {}, 0.0
                case KillWorker(worker):
                    self.forget(worker)
                case Call():
                    self.send(action)
                case failure:
                    self.end(failure)

    def forget(self, worker: WorkerId) -> None:
        self.given_up.append(self.actors.pop(worker))
        self.deaths[worker.number] += 1
        self.starting = [w for w in self.starting if w != worker]
        del self.silent[worker]

    def send(self, call: Call) -> None:
        assert call.worker not in self.starting
        assert SLICE_SECONDS <= call.stream_seconds <= STREAM_SECONDS
        tasks = self.tasks[call.worker]
        if not tasks:
            self.silent[call.worker] = 0.0
        for a, _ in call.assignments:
            assert not (tasks and a.isolate), "it was queued behind another"
            assert not any(other.isolate for other in tasks.values()), "queued behind an isolated"
            tasks[a.trial] = a
        assert len(tasks) <= DEEPEST
        self.actors[call.worker].receive(call)

    def end(self, message: Message) -> None:
        """An assignment ends: once, and the search tries again what was lost."""
        key = message.trial, message.attempt
        self.ends[key] += 1
        assert self.ends[key] == 1
        a = self.under_way.pop(message.trial)
        assert a.attempt == message.attempt
        for tasks in self.tasks.values():
            tasks.pop(message.trial, None)
        if isinstance(message, Failure) and message.kind == "lost" and a.attempt <= RETRIES:
            self.hand_in(replace(a, attempt=a.attempt + 1, isolate=True))

    def hand_in(self, a: Assignment, checkpoint: Checkpoint | None = None) -> None:
        self.under_way[a.trial] = a
        key = a.trial, a.attempt
        self.slowest[key] = a.slowest_seconds
        usable = checkpoint is not None and checkpoint.epoch <= a.start_epoch
        self.catch_up[key] = a.start_epoch - (checkpoint.epoch if checkpoint and usable else 0)
        self.dispatcher.submit(a, checkpoint)

    def listen(self) -> None:
        passed = min(self.now - self.looked, 1.0)
        self.looked = self.now
        for worker in self.silent:
            self.silent[worker] += passed

    def take(self, worker: WorkerId, messages: list[Message]) -> None:
        call = self.actors[worker].calls.popleft()
        self.listen()
        if messages:
            self.silent[worker] = 0.0
        self.dispatcher.take_messages(call, messages, self.now)
        for message in messages:
            key = message.trial, message.attempt
            if isinstance(message, Report):
                self.slowest[key] = max(self.slowest[key], message.seconds)
                self.catch_up[key] = 0
            if isinstance(message, Failure) or message.last:
                self.end(message)

    # -------------------------------------------------------------- what happens

    @rule(
        epochs=st.integers(1, 4),
        start=st.integers(0, 3),
        checkpoint_epoch=st.none() | st.integers(1, 4),
        seconds=st.sampled_from([0.0, 0.01, 3.0]),
        isolate=st.booleans(),
        count=st.sampled_from([1, 1, 1, 3, 40]),
    )
    def submit(
        self,
        epochs: int,
        start: int,
        checkpoint_epoch: int | None,
        seconds: float,
        isolate: bool,
        count: int,
    ) -> None:
        state = None if checkpoint_epoch is None else Checkpoint(epoch=checkpoint_epoch, state={})
        for _ in range(count):
            self.trials += 1
            a = assignment(self.trials, start=start, stop=start + epochs, slowest_seconds=seconds)
            self.hand_in(replace(a, isolate=isolate and count < 40), state)
        self.plan()

    @rule()
    def fill(self) -> None:
        for _ in range(1 + DEEPEST * len(self.actors)):
            if self.dispatcher.free() <= 0:
                break
            self.trials += 1
            self.hand_in(assignment(self.trials))
        assert self.dispatcher.free() == 0
        self.plan()

    @rule(seconds_left=st.sampled_from([0.0, 1.0, math.inf]))
    def plan(self, seconds_left: float = math.inf) -> None:
        """Before time passes again, so that a worker's silence begins as the dispatcher has it."""
        self.perform(self.dispatcher.plan_calls(seconds_left))

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def come_up(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.starting))
        self.starting.remove(worker)
        self.dispatcher.mark_up(worker, self.now)
        self.plan()

    @precondition(lambda self: any(a.calls for a in self.actors.values()))
    @rule(
        data=st.data(),
        epochs=st.sampled_from([0, 1, 2, 9, math.inf]),
        seconds=st.sampled_from([1e-4, 0.05, 0.4, 5.0]),
        raises=st.booleans(),
    )
    def return_call(self, data: st.DataObject, epochs: float, seconds: float, raises: bool) -> None:
        worker = data.draw(st.sampled_from([w for w, a in self.actors.items() if a.calls]))
        self.take(worker, self.actors[worker].train(epochs, seconds, raises=raises))
        self.plan()

    @precondition(lambda self: any(a.calls for a in self.given_up))
    @rule(data=st.data())
    def return_late(self, data: st.DataObject) -> None:
        """As of a host that was cut off and comes back."""
        actor = data.draw(st.sampled_from([a for a in self.given_up if a.calls]))
        before = self.dispatcher.free(), self.dispatcher.busy()
        self.listen()
        self.dispatcher.take_messages(actor.calls.popleft(), actor.train(2, 0.1), self.now)
        assert (self.dispatcher.free(), self.dispatcher.busy()) == before

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.actors)))
        tasks = list(self.tasks[worker])
        actions = self.dispatcher.lose(worker, f"worker {worker.number} died", "")
        assert {f.trial for f in actions if isinstance(f, Failure)} >= set(tasks)
        self.perform(actions)
        assert self.dispatcher.lose(worker, "twice", "") == []
        self.plan()

    @rule(seconds=st.sampled_from([0.01, 0.2, 0.9, 1.0, 100.0]), looks=st.sampled_from([1, 1, 40]))
    def pass_time(self, seconds: float, looks: int) -> None:
        for _ in range(looks):
            self.now += seconds
            self.listen()
            silent = dict(self.silent)
            actions = self.dispatcher.check_deadlines(self.now)
            for action in actions:
                if isinstance(action, KillWorker):
                    assert silent[action.worker] > self.patience(action.worker) - 1e-6
            self.perform(actions)
            for worker in self.actors:
                assert self.silent[worker] <= self.patience(worker) + 1e-6
            self.plan()

    def patience(self, worker: WorkerId) -> float:
        """How long a worker may be silent with the task it is at; without a task, for ever."""
        a = next(iter(self.tasks[worker].values()), None)
        if a is None:
            return math.inf
        key = a.trial, a.attempt
        seconds = self.slowest[key]
        patience = max(LEAST_PATIENCE_SECONDS, PATIENCE * seconds) if seconds else EPOCH_TIMEOUT
        return patience * (1 + self.catch_up[key])

    @rule(processors=st.integers(1, 6), seconds=st.sampled_from([0.5, 2.5]))
    def look_for_processors(self, processors: int, seconds: float) -> None:
        self.now += seconds
        if not self.dispatcher.needs_processor_count(self.now):
            assert not self.grows or self.dispatcher.workers == 0 or seconds < GROW_SECONDS
            return
        assert self.grows
        before = self.dispatcher.size
        self.perform(self.dispatcher.grow(processors, self.now))
        assert self.dispatcher.size == max(before, processors) == len(self.actors)
        assert not self.dispatcher.needs_processor_count(self.now)

    @rule()
    def lose_all(self) -> None:
        failures = self.dispatcher.lose_all("the node died", "")
        for worker in list(self.actors):
            self.forget(worker)
        assert self.dispatcher.seconds_without_workers(self.now) == math.inf
        self.perform(failures)
        assert self.dispatcher.free() == 0
        self.looked = self.now
        self.perform(self.dispatcher.start_workers(self.now))

    # -------------------------------------------------------------- what must be true

    @invariant()
    def all_agree(self) -> None:
        if not hasattr(self, "dispatcher"):
            return
        self.dispatcher.validate()
        assert self.dispatcher.workers == len(self.actors) - len(self.starting)
        assert bool(self.dispatcher.busy()) == bool(self.under_way)

    @invariant()
    def an_idle_worker_is_offered(self) -> None:
        if not hasattr(self, "dispatcher"):
            return
        up = self.dispatcher.workers
        isolated = any(a.isolate for a in self.under_way.values())
        if up > self.dispatcher.busy() and not isolated:
            assert self.dispatcher.free() >= up - self.dispatcher.busy()

    def teardown(self) -> None:
        """Everything that was submitted ends, once every worker does its work."""
        if not hasattr(self, "dispatcher"):
            return
        for _ in range(10 + 2 * len(self.under_way)):
            while self.starting:
                self.dispatcher.mark_up(self.starting.pop(), self.now)
            self.perform(self.dispatcher.plan_calls())
            for worker in list(self.actors):
                while self.actors[worker].calls:
                    self.take(worker, self.actors[worker].train(math.inf, 0.01))
        assert self.under_way == {}
        assert self.dispatcher.busy() == 0
        assert self.dispatcher.free() >= self.dispatcher.workers == self.dispatcher.size
        assert set(self.ends.values()) <= {1}
        self.dispatcher.validate()


TestSimulatedCluster = SimulatedCluster.TestCase
TestSimulatedCluster.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# ---------------------------------------------------------------------- examples


def make(workers: int = 1, *, up: int | None = None, grows: bool = False) -> Dispatcher:
    """A dispatcher at time 0, some of whose workers are up."""
    dispatcher = Dispatcher(workers=workers, grows=grows, epoch_timeout=EPOCH_TIMEOUT, now=0.0)
    dispatcher.start_workers(0.0)
    for number in range(workers if up is None else up):
        dispatcher.mark_up(WorkerId(number, 0), 0.0)
    return dispatcher


def trials_of(calls: list[Call]) -> dict[int, list[int]]:
    """The trials that each worker is sent, by its number."""
    sent: dict[int, list[int]] = {}
    for call in calls:
        sent.setdefault(call.worker.number, []).extend(a.trial for a, _ in call.assignments)
    return sent


def test_the_pool_follows_the_processors_unless_the_number_of_workers_was_asked_for() -> None:
    dispatcher = make(2, grows=True)
    assert not dispatcher.needs_processor_count(GROW_SECONDS - 0.1)
    assert dispatcher.needs_processor_count(GROW_SECONDS)
    started = dispatcher.grow(4, GROW_SECONDS)
    assert started == [StartWorker(WorkerId(2, 0)), StartWorker(WorkerId(3, 0))]
    assert dispatcher.size == 4
    assert dispatcher.workers == 2
    assert not dispatcher.needs_processor_count(GROW_SECONDS + 0.1)
    dispatcher.mark_up(WorkerId(3, 0), 3.0)
    for trial in range(3):
        dispatcher.submit(assignment(trial), None)
    assert sorted(trials_of(dispatcher.plan_calls())) == [0, 1, 3]
    assert dispatcher.grow(1, 9.0) == []  # hosts that left are waited for
    assert dispatcher.size == 4
    assert not make(2, grows=False).needs_processor_count(1e9)


def test_a_cluster_without_a_worker_is_not_asked_for_its_processors() -> None:
    assert not make(2, up=0, grows=True).needs_processor_count(1e9)


def test_work_goes_to_idle_workers_first_and_there_to_those_that_died_least() -> None:
    dispatcher = make(3)
    dispatcher.lose(WorkerId(0, 0), "worker 0 died", "")
    dispatcher.mark_up(WorkerId(0, 1), 0.0)
    for trial in range(3):
        dispatcher.submit(assignment(trial), None)
    assert trials_of(dispatcher.plan_calls()) == {1: [0], 2: [1], 0: [2]}


def test_work_goes_to_the_worker_whose_work_ends_first() -> None:
    dispatcher = make(2)
    dispatcher.submit(assignment(0, stop=9, slowest_seconds=2.0), None)
    dispatcher.submit(assignment(1, stop=2, slowest_seconds=2.0), None)
    dispatcher.submit(assignment(2, stop=2, slowest_seconds=2.0), None)
    assert trials_of(dispatcher.plan_calls()) == {0: [0], 1: [1, 2]}


def test_a_checkpoint_makes_the_work_shorter_and_its_loss_makes_it_longer() -> None:
    dispatcher = make(2)
    a = assignment(0, start=8, stop=9, slowest_seconds=2.0)
    dispatcher.submit(a, None)
    dispatcher.submit(replace(a, trial=1), Checkpoint(epoch=8, state={}))
    dispatcher.submit(replace(a, trial=2), Checkpoint(epoch=8, state={}))
    assert trials_of(dispatcher.plan_calls()) == {0: [0], 1: [1, 2]}


def test_while_no_worker_is_up_assignments_wait() -> None:
    dispatcher = make(1, up=0)
    dispatcher.submit(assignment(0), None)
    assert dispatcher.plan_calls() == []
    assert dispatcher.busy() == 1
    dispatcher.mark_up(WorkerId(0, 0), 1.0)
    assert trials_of(dispatcher.plan_calls()) == {0: [0]}


def learn_epoch_seconds(dispatcher: Dispatcher, seconds: float) -> None:
    """Sixty trials of one epoch, so that the first guess is forgotten: 0.9^60 is 0.2 %."""
    for trial in range(1000, 1060):
        a = assignment(trial, stop=1)
        dispatcher.submit(a, None)
        for call in dispatcher.plan_calls():
            messages: list[Message] = [report(b, 1, seconds) for b, _ in call.assignments]
            dispatcher.take_messages(call, messages, 0.0)


def test_short_assignments_are_queued_up_to_a_bridge_and_never_deeper_than_the_limit() -> None:
    for seconds, least, most in ((0.05, 3, 4), (1e-6, DEEPEST, DEEPEST)):
        dispatcher = make(1)
        learn_epoch_seconds(dispatcher, seconds)
        assert least <= dispatcher.free() <= most
        for trial in range(100):
            dispatcher.submit(assignment(trial, stop=1), None)
        assert len(trials_of(dispatcher.plan_calls())[0]) == DEEPEST
        assert dispatcher.free() == 0
        dispatcher.validate()


def test_a_worker_gets_its_next_assignment_shortly_before_the_current_one_ends() -> None:
    dispatcher = make(1)
    dispatcher.submit(assignment(0, stop=2, slowest_seconds=0.5), None)
    assert dispatcher.free() == 0
    dispatcher.check_deadlines(0.84)
    assert dispatcher.free() == 0
    dispatcher.check_deadlines(0.86)
    assert dispatcher.free() == 1


def test_an_overdue_worker_gets_no_more_until_it_reports() -> None:
    dispatcher = make(1)
    a = assignment(0, stop=4, slowest_seconds=0.2)
    dispatcher.submit(a, None)
    (call, _) = dispatcher.plan_calls()
    for tenth in range(1, 12):
        dispatcher.check_deadlines(tenth / 10)
    assert dispatcher.free() == 1
    for tenth in range(12, 15):  # due after two streams and an epoch
        dispatcher.check_deadlines(tenth / 10)
    assert dispatcher.free() == 0
    dispatcher.submit(assignment(1), None)
    assert trials_of(dispatcher.plan_calls()) in ({}, {0: []})
    dispatcher.take_messages(call, [report(a, 1, 0.2)], 1.5)
    assert trials_of(dispatcher.plan_calls()) == {0: [1]}


def look(dispatcher: Dispatcher, *, until: float, begin: float = 0.0) -> Iterator[Action]:
    """What comes of looking each half second."""
    for half in range(int(2 * begin) + 1, int(2 * until) + 1):
        yield from dispatcher.check_deadlines(half / 2)


@pytest.mark.parametrize(
    ("changes", "patience", "reason"),
    [
        ({}, 50, "it had not reported yet (epoch timeout 50 s)"),
        ({"start": 2, "stop": 3}, 150, "it had not reported yet (epoch timeout 50 s)"),
        ({"slowest_seconds": 0.5}, 30, "the trial's slowest epoch took 0.5 s"),
        ({"slowest_seconds": 7.0}, 70, "the trial's slowest epoch took 7 s"),
    ],
)
def test_a_hung_worker_is_killed_and_replaced_after_its_patience(
    changes: dict[str, object], patience: float, reason: str
) -> None:
    dispatcher = make(1)
    dispatcher.submit(assignment(0, **changes), None)  # type: ignore[arg-type] # by name
    assert list(look(dispatcher, until=patience)) == []
    kill, start, failure = dispatcher.check_deadlines(patience + 0.5)
    assert kill == KillWorker(WorkerId(0, 0))
    assert start == StartWorker(WorkerId(0, 1))
    assert isinstance(failure, Failure)
    assert failure.message == f"worker 0 was silent for {patience} s and was killed; {reason}"


def test_after_the_first_report_nothing_is_allowed_for_epochs_trained_again() -> None:
    dispatcher = make(1)
    a = assignment(0, start=3, stop=9, slowest_seconds=1.0)  # three epochs without a checkpoint
    dispatcher.submit(a, None)
    assert list(look(dispatcher, until=60.0)) == []
    dispatcher.take_messages(dispatcher.plan_calls()[0], [report(a, 4, 1.0)], 60.0)
    assert list(look(dispatcher, begin=60.0, until=90.0)) == []
    assert KillWorker(WorkerId(0, 0)) in dispatcher.check_deadlines(90.5)


def test_what_was_queued_for_a_worker_that_died_is_not_sent_to_it() -> None:
    dispatcher = make(1)
    dispatcher.submit(assignment(0), None)
    (*_, failure) = dispatcher.lose(WorkerId(0, 0), "worker 0 died", "how")
    assert failure == Failure(
        trial=0, attempt=1, kind="lost", message="worker 0 died", traceback="how", worker=0
    )
    assert dispatcher.plan_calls() == []


def test_time_in_which_the_driver_did_not_look_does_not_count_as_silence() -> None:
    dispatcher = make(1)
    dispatcher.submit(assignment(0), None)
    assert dispatcher.check_deadlines(1e6) == []
    assert dispatcher.check_deadlines(2e6) == []


def test_an_idle_worker_is_never_overdue_or_hung() -> None:
    dispatcher = make(1)
    assert list(look(dispatcher, until=100.0)) == []
    assert dispatcher.free() == 1


def test_a_worker_is_reserved_for_an_isolated_assignment_and_runs_nothing_beside_it() -> None:
    dispatcher = make(2)
    first, second = assignment(0, stop=1), assignment(1, stop=9)
    dispatcher.submit(first, None)
    dispatcher.submit(second, None)
    dispatcher.submit(assignment(2, isolate=True), None)
    for trial in (3, 4):
        dispatcher.submit(assignment(trial), None)
    calls = dispatcher.plan_calls()
    assert trials_of(calls) == {0: [0], 1: [1, 3, 4]}  # worker 0 is reserved: it ends first
    dispatcher.take_messages(calls[0], [report(first, 1, 1.0)], 1.0)
    dispatcher.submit(assignment(5), None)
    assert trials_of(dispatcher.plan_calls()) == {0: [2], 1: [5]}


def test_a_reserved_worker_that_is_overdue_gives_the_reservation_to_another() -> None:
    dispatcher = make(2)
    dispatcher.submit(assignment(0, stop=1, slowest_seconds=0.1), None)
    b = assignment(1, stop=9, slowest_seconds=5.0)
    dispatcher.submit(b, None)
    calls = dispatcher.plan_calls()
    dispatcher.submit(assignment(2, isolate=True), None)
    list(look(dispatcher, until=5.0))  # worker 0 should have reported after 1.1 s
    dispatcher.submit(assignment(3), None)
    assert trials_of(dispatcher.plan_calls()) == {0: []}  # trial 3 waits: worker 1 is reserved
    (call, _) = [c for c in calls if c.worker.number == 1]
    dispatcher.take_messages(call, [report(b, epoch, 1.0) for epoch in range(1, 10)], 10.0)
    assert trials_of(dispatcher.plan_calls())[1] == [2]


def test_a_second_call_waits_in_a_worker_whose_work_exceeds_a_stream() -> None:
    dispatcher = make(2)
    dispatcher.submit(assignment(0, stop=1, slowest_seconds=STREAM_SECONDS / 2), None)
    dispatcher.submit(assignment(1, stop=9, slowest_seconds=STREAM_SECONDS), None)
    calls = dispatcher.plan_calls()
    assert Counter(call.worker.number for call in calls) == {0: 1, 1: 2}
    assert dispatcher.plan_calls() == []


@pytest.mark.parametrize(
    ("left", "stream"), [(math.inf, STREAM_SECONDS), (2.8, 0.3), (0.0, SLICE_SECONDS)]
)
def test_near_the_deadline_epochs_are_reported_sooner(left: float, stream: float) -> None:
    dispatcher = make(1)
    dispatcher.submit(assignment(0), None)
    assert dispatcher.plan_calls(left)[0].stream_seconds == pytest.approx(stream)


def test_what_happens_to_workers_is_logged_and_losses_are_warnings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="caviar"):
        dispatcher = make(1, grows=True)
        dispatcher.submit(assignment(0, slowest_seconds=0.1), None)
        list(look(dispatcher, until=31.0))
        dispatcher.submit(assignment(0, attempt=2, isolate=True), None)
        dispatcher.mark_up(WorkerId(0, 1), 31.0)
        dispatcher.grow(2, 33.0)
        dispatcher.lose_all("the driver's own Ray node died", "")
    lines = [f"{r.levelname} {r.name} {r.getMessage()}" for r in caplog.records]
    expected = [
        "INFO caviar.runtime.dispatch worker 0 is started (0 died before it)",
        "INFO caviar.runtime.dispatch worker 0 is up",
        "INFO caviar.runtime.dispatch worker 0 is silent for",
        "WARNING caviar.runtime.dispatch worker 0 was silent for 30 s and was killed",
        "INFO caviar.runtime.dispatch worker 0 is started (1 died before it)",
        "INFO caviar.runtime.dispatch trial 0 is tried again, isolated",
        "INFO caviar.runtime.dispatch worker 0 is up",
        "INFO caviar.runtime.dispatch the pool grows from 1 to 2 workers",
        "INFO caviar.runtime.dispatch worker 1 is started (0 died before it)",
        "WARNING caviar.runtime.dispatch the driver's own Ray node died; all 2 workers are lost",
    ]
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True)), lines


def test_the_dispatcher_imports_no_clock_and_no_ray() -> None:
    for module in (dispatch, workload, checkpoint):
        tree = ast.parse(inspect.getsource(module))
        imported = {
            name.partition(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not imported & {"time", "datetime", "ray", "threading", "socket", "os"}, module
