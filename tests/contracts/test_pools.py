"""What every pool must keep: the same tests for this process and for Ray actors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import threadpoolctl

from orchestrator.runtime.checkpoint import Checkpoint, Message, ends_assignment
from orchestrator.runtime.find_trainer import find_trainer_code
from orchestrator.runtime.pool import InlinePool, Pool
from orchestrator.runtime.trainer import Job
from orchestrator.search.events import TrialAdjusted
from orchestrator.search.messages import Assignment, Failure, Report
from orchestrator.search.objective import WORST, Objective

TOYS = Path(__file__).parents[1] / "toys"
JOB = Job(
    trainer="toy_trainers:Toy",
    data=None,
    max_epochs=9,
    objective=Objective(metric="validation_loss", maximize=False),
    code=find_trainer_code("toy_trainers:Toy", [TOYS]),
)
MakePool = Callable[[str], Pool]


def assignment(trial: int = 0, *, start: int = 0, stop: int = 3, **changes: object) -> Assignment:
    whole = Assignment(
        trial=trial,
        config={"floor": 1.0},
        seed=trial,
        start_epoch=start,
        stop_epoch=stop,
        attempt=1,
        explode_above=1e4,
        best_score=(-math.inf, -math.inf),
    )
    return replace(whole, **changes)  # type: ignore[arg-type] # fields by name


def finished(pool: Pool, expected: int, seconds: float = 60) -> list[Message]:
    """Messages until that many assignments have ended."""
    messages: list[Message] = []
    deadline = time.monotonic() + seconds
    while sum(ends_assignment(m) for m in messages) < expected:
        assert time.monotonic() < deadline, f"only {messages} came in"
        messages += pool.poll(0.5)
    return messages


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    from orchestrator.runtime.ray.cluster import connect, disconnect

    connect(None, cpus=2)
    assert ray.is_initialized()
    yield
    disconnect()


@pytest.fixture(params=["inline", pytest.param("ray", marks=pytest.mark.ray)])
def make_pool(request: pytest.FixtureRequest) -> Iterator[MakePool]:
    pools: list[Pool] = []

    def make(trainer: str) -> Pool:
        job = replace(JOB, trainer=f"toy_trainers:{trainer}")
        if request.param == "inline":
            pools.append(InlinePool(job))
        else:
            request.getfixturevalue("cluster")
            from orchestrator.runtime.ray.pool import RayPool

            pools.append(RayPool(job, workers=2))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def reports_of(messages: list[Message]) -> list[Report]:
    assert all(isinstance(m, Report) for m in messages), messages
    return [m for m in messages if isinstance(m, Report)]


def test_an_assignment_ends_with_its_last_report_and_the_state_on_it(make_pool: MakePool) -> None:
    pool = make_pool("Toy")
    pool.submit(assignment(), None)
    reports = reports_of(finished(pool, 1))
    assert [r.epoch for r in reports] == [1, 2, 3]
    assert [r.last for r in reports] == [False, False, True]
    assert [r.state is not None for r in reports] == [False, False, True]
    assert pool.busy() == 0


def test_a_trial_goes_on_from_its_state_as_if_it_had_never_stopped(make_pool: MakePool) -> None:
    pool = make_pool("Toy")
    pool.submit(assignment(stop=6), None)
    whole = [r.metrics for r in reports_of(finished(pool, 1))]
    pool.submit(assignment(stop=3), None)
    first = reports_of(finished(pool, 1))
    assert first[-1].state is not None
    checkpoint = Checkpoint(epoch=3, state=first[-1].state)
    pool.submit(assignment(start=3, stop=6, attempt=2), checkpoint)
    second = reports_of(finished(pool, 1))
    assert [r.metrics for r in first + second] == whole


def test_a_trial_whose_state_is_lost_trains_again_without_reporting_again(
    make_pool: MakePool,
) -> None:
    pool = make_pool("Toy")
    pool.submit(assignment(stop=6), None)
    whole = [r.metrics for r in reports_of(finished(pool, 1))]
    pool.submit(assignment(start=3, stop=6), None)
    reports = reports_of(finished(pool, 1))
    assert [r.epoch for r in reports] == [4, 5, 6]
    assert [r.metrics for r in reports] == whole[3:]


def test_a_new_best_brings_its_state_along(make_pool: MakePool) -> None:
    pool = make_pool("Toy")
    pool.submit(assignment(best_score=WORST), None)
    assert all(r.state is not None for r in reports_of(finished(pool, 1)))


def test_many_assignments_all_end_each_with_its_own_epochs(make_pool: MakePool) -> None:
    pool = make_pool("Toy")
    waiting = [assignment(trial, stop=1 + trial % 4) for trial in range(20)]
    messages: list[Message] = []
    while sum(m.last for m in reports_of(messages)) < 20:
        while waiting and pool.free() > 0:
            pool.submit(waiting.pop(), None)
        messages += pool.poll(0.5)
    for trial in range(20):
        epochs = [r.epoch for r in reports_of(messages) if r.trial == trial]
        assert epochs == list(range(1, 2 + trial % 4))


def test_a_message_comes_back_before_the_first_epoch_that_it_changed(make_pool: MakePool) -> None:
    pool = make_pool("Slow")
    message = TrialAdjusted(trial=0, attempt=1, changes={"floor": 1e6})
    pool.submit(assignment(stop=60), None)
    messages = pool.poll(0.5)
    while not messages:  # the assignment is sent by the first poll
        messages = pool.poll(0.5)
    assert pool.deliver(message)
    assert not pool.deliver(replace(message, trial=1))
    assert not pool.deliver(replace(message, attempt=2))
    messages += finished(pool, 1)
    (answer,) = [m for m in messages if isinstance(m, TrialAdjusted)]
    assert replace(answer, epoch=0) == message
    before, after = messages[: messages.index(answer)], messages[messages.index(answer) + 1 :]
    assert [r.epoch for r in reports_of(before)] == list(range(1, answer.epoch + 1))
    assert [r.epoch for r in reports_of(after)] == list(range(answer.epoch + 1, 61))
    assert max(r.metrics["validation_loss"] for r in reports_of(before)) < 10
    assert min(r.metrics["validation_loss"] for r in reports_of(after)) > 1e5
    assert not pool.deliver(message), "the attempt has ended"


def test_what_a_trainer_raises_is_a_failure_with_its_traceback(make_pool: MakePool) -> None:
    pool = make_pool("Raising")
    pool.submit(assignment(config={"floor": 0.0}), None)
    messages = finished(pool, 1)
    assert isinstance(messages[0], Report)
    failure = messages[-1]
    assert isinstance(failure, Failure)
    assert failure.kind == "raised"
    assert "the second epoch is not for me" in failure.message
    assert "Traceback" in failure.traceback


def test_a_metric_that_was_not_declared_is_a_failure_that_names_it(make_pool: MakePool) -> None:
    pool = make_pool("Undeclared")
    pool.submit(assignment(), None)
    failure = finished(pool, 1)[-1]
    assert isinstance(failure, Failure)
    assert "surprise" in failure.message


@pytest.mark.parametrize("start", [0, 3])
def test_an_assignment_of_no_epochs_ends_in_a_failure_that_says_so(
    start: int, make_pool: MakePool
) -> None:
    pool = make_pool("Toy")
    pool.submit(assignment(0, start=start, stop=start), None)
    pool.submit(assignment(1), None)
    messages = finished(pool, 2)
    (failure,) = [m for m in messages if isinstance(m, Failure)]
    assert (failure.trial, failure.kind) == (0, "raised")
    assert "at least one epoch" in failure.message
    assert [m.epoch for m in messages if isinstance(m, Report)] == [1, 2, 3]
    assert pool.busy() == 0


def test_a_loss_that_is_not_finite_ends_the_assignment_at_once(make_pool: MakePool) -> None:
    pool = make_pool("Diverging")
    pool.submit(assignment(stop=9), None)
    reports = reports_of(finished(pool, 1))
    assert [r.epoch for r in reports] == [1, 2]
    assert reports[-1].last
    assert reports[-1].cause == "validation_loss is nan"
    assert reports[-1].state is None


def test_a_pool_without_work_has_nothing_to_say_and_room_for_more(make_pool: MakePool) -> None:
    pool = make_pool("Toy")
    assert pool.poll(0.01) == []
    assert pool.drain() == []
    assert pool.busy() == 0
    assert pool.free() >= pool.workers >= 1
    assert pool.size >= pool.workers


def test_an_inline_pool_trains_with_one_blas_thread_and_gives_them_back() -> None:
    def most() -> int:
        return max(found["num_threads"] for found in threadpoolctl.threadpool_info())

    before = most()
    pool = InlinePool(JOB)
    assert most() == 1
    pool.close()
    assert most() == before


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_dead_worker_is_a_failure_and_another_takes_its_place(cluster: None) -> None:
    from orchestrator.runtime.ray.pool import RayPool

    pool = RayPool(replace(JOB, trainer="toy_trainers:KillsItsWorker"), workers=1)
    pool.submit(assignment(config={"deadly": True}), None)
    failure = finished(pool, 1)[-1]
    assert isinstance(failure, Failure)
    assert failure.kind == "lost"
    pool.submit(assignment(1), None)
    assert [r.epoch for r in reports_of(finished(pool, 1))] == [1, 2, 3]
    pool.close()


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_workers_that_a_cluster_has_no_room_for_get_no_work(cluster: None) -> None:
    from orchestrator.runtime.ray.pool import RayPool

    pool = RayPool(JOB, workers=3)  # on two processors
    assert pool.size == 3
    waiting = [assignment(trial) for trial in range(9)]
    messages: list[Message] = []
    while sum(m.last for m in reports_of(messages)) < 9:
        while waiting and pool.free() > 0:
            pool.submit(waiting.pop(), None)
        messages += pool.poll(0.5)
    assert pool.workers <= 2
    pool.close()


def batches_of(pool: Pool, *, left: float) -> list[list[Message]]:
    """What comes in at a time, until an assignment ends."""
    batches: list[list[Message]] = []
    while not any(m.last for batch in batches for m in reports_of(batch)):
        batches.append(pool.poll(1.0, left=left))
    return [batch for batch in batches if batch]


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_epochs_stream_and_what_a_deadline_would_cut_off_is_reported_at_once(cluster: None) -> None:
    from orchestrator.runtime.ray.pool import RayPool

    pool = RayPool(replace(JOB, trainer="toy_trainers:Slow"), workers=1)  # epochs of 50 ms
    pool.submit(assignment(stop=40), None)
    streamed = [len(batch) for batch in batches_of(pool, left=math.inf)]
    assert len(streamed) >= 3
    assert max(streamed) > 6
    pool.submit(assignment(trial=1, stop=40), None)
    assert max(len(batch) for batch in batches_of(pool, left=0.5)) <= 6  # of two calls at most
    pool.close()


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_ends_are_reported_at_once_for_the_next_decision_waits_for_them(cluster: None) -> None:
    from orchestrator.runtime.ray.pool import RayPool

    pool = RayPool(replace(JOB, trainer="toy_trainers:Slow"), workers=1)
    for trial in range(8):
        pool.submit(assignment(trial, stop=3), None)  # 150 ms each
    first = reports_of(next(batch for _ in range(100) if (batch := pool.poll(1.0))))
    assert first[-1].last
    assert len(first) <= 6  # of two calls at most
    assert len(reports_of(finished(pool, 8 - len(first) // 3))) == 24 - len(first)
    pool.close()


def hanging(tmp_path: Path, *, epoch: int) -> dict[str, object]:
    return {"floor": 1.0, "hangs_in": epoch, "marker": str(tmp_path / "hung")}


@pytest.mark.ray
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("epoch", "reason"), [(1, "epoch timeout 1 s"), (3, "slowest epoch took 0.3")]
)
def test_a_worker_that_hangs_is_killed_and_another_takes_its_place(
    epoch: int,
    reason: str,
    cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from orchestrator.runtime import workload
    from orchestrator.runtime.ray import pool as ray_pool

    monkeypatch.setattr(workload, "LEAST_PATIENCE_SECONDS", 1.0)
    job = replace(JOB, trainer="toy_trainers:Hanging")
    pool = ray_pool.RayPool(job, workers=1, epoch_timeout=1.0)
    pool.submit(assignment(config=hanging(tmp_path, epoch=epoch)), None)
    messages = finished(pool, 1)
    reports = reports_of(messages[:-1])
    assert [r.epoch for r in reports] == list(range(1, epoch))
    silent = max([1.0, *(10 * r.seconds for r in reports)])
    failure = messages[-1]
    assert isinstance(failure, Failure)
    assert failure.kind == "lost"
    assert f"silent for {silent:.3g} s" in failure.message
    assert reason in failure.message
    again = assignment(attempt=2, config=hanging(tmp_path, epoch=epoch), isolate=True)
    pool.submit(again, None)
    assert [r.epoch for r in reports_of(finished(pool, 1))] == [1, 2, 3]
    pool.close()


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_worker_that_is_overdue_is_given_no_more_to_lose(cluster: None, tmp_path: Path) -> None:
    from orchestrator.runtime.ray.pool import RayPool

    pool = RayPool(replace(JOB, trainer="toy_trainers:Hanging"), workers=2, epoch_timeout=5.0)
    pool.submit(assignment(0, stop=1, config=hanging(tmp_path, epoch=1)), None)
    trial, messages = 0, list[Message]()
    while not any(isinstance(m, Failure) for m in messages):
        while pool.free():
            trial += 1
            pool.submit(assignment(trial, stop=1), None)
        messages += pool.poll(0.1)
    lost = [m.trial for m in messages if isinstance(m, Failure)]
    assert 0 in lost
    assert len(lost) <= 8  # what about a second had room for, of the five until it was given up
    pool.close()


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_late_reports_of_a_worker_that_was_given_up_carry_their_old_attempt(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a host that was cut off and comes back: it is the search that turns these away."""
    from orchestrator.runtime.ray import pool as ray_pool

    monkeypatch.setattr(ray_pool.ray, "kill", lambda actor: None)  # it does not reach the worker
    job = replace(JOB, trainer="toy_trainers:Hanging")
    pool = ray_pool.RayPool(job, workers=1, epoch_timeout=1.0)
    late = {"floor": 1.0, "hangs_in": 1, "hangs_seconds": 4, "marker": str(tmp_path / "hung")}
    pool.submit(assignment(config=late), None)
    assert isinstance(finished(pool, 1)[-1], Failure)
    messages: list[Message] = []
    deadline = time.monotonic() + 30
    while not messages and time.monotonic() < deadline:
        messages = pool.poll(0.5)
    assert [(r.attempt, r.epoch) for r in reports_of(messages)][:1] == [(1, 1)]
    monkeypatch.undo()
    pool.close()


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_what_is_trained_again_without_a_report_has_longer(cluster: None, tmp_path: Path) -> None:
    from orchestrator.runtime.ray.pool import RayPool

    pool = RayPool(replace(JOB, trainer="toy_trainers:Slow"), workers=1, epoch_timeout=0.2)
    pool.submit(assignment(start=8, stop=9), None)  # its state is lost: eight epochs of 50 ms
    assert [r.epoch for r in reports_of(finished(pool, 1))] == [9]
    pool.close()


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_work_whose_worker_was_lost_is_tried_again_isolated(cluster: None) -> None:
    """So that a configuration that kills its worker takes no other with it twice."""
    from orchestrator.runtime.ray.pool import RayPool

    pool = RayPool(replace(JOB, trainer="toy_trainers:KillsItsWorker"), workers=1)
    for trial in range(8):  # short ones: they wait behind each other
        pool.submit(assignment(trial, config={"deadly": trial == 3}), None)
    messages = finished(pool, 8)
    lost = {m.trial for m in messages if isinstance(m, Failure)}
    assert 3 in lost
    for trial in sorted(lost):
        config = {"deadly": trial == 3}
        pool.submit(assignment(trial, attempt=2, isolate=True, config=config), None)
    assert pool.free() == 0
    again = finished(pool, len(lost))
    assert {m.trial for m in again if isinstance(m, Failure)} == {3}
    pool.close()
