from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_examples import Toy, assignment, job, limit_examples

from orchestrator.errors import SpecError
from orchestrator.runtime.trainer import choose_objective, load_trainer
from orchestrator.runtime.worker import Checkpoint, Message, WorkerQueue, restore_trainer, train
from orchestrator.search.events import TrialAdjusted, TrialMessage
from orchestrator.search.messages import Failure, Report
from orchestrator.search.objective import WORST


def trained(a: Any, *, checkpoint: Checkpoint | None = None, trainer: str = "Toy") -> list[Message]:
    ticks = iter(np.arange(1_000) * 0.5)
    return list(train(job(trainer), a, checkpoint, worker=7, clock=lambda: float(next(ticks))))


def reports(messages: list[Message]) -> list[Report]:
    assert all(isinstance(m, Report) for m in messages)
    return [m for m in messages if isinstance(m, Report)]


def last_failure(messages: list[Message]) -> Failure:
    assert isinstance(messages[-1], Failure)
    return messages[-1]


# ---------------------------------------------------------------------- reports


@given(start=st.integers(0, 4), epochs=st.integers(1, 5))
@limit_examples(20)
def test_each_epoch_of_an_assignment_is_reported_once_and_the_last_one_says_so(
    start: int, epochs: int
) -> None:
    messages = reports(trained(assignment(start=start, stop=start + epochs)))
    assert [r.epoch for r in messages] == list(range(start + 1, start + epochs + 1))
    assert [r.last for r in messages] == [False] * (epochs - 1) + [True]
    assert {(r.trial, r.attempt, r.worker, r.cause) for r in messages} == {(4, 2, 7, "")}
    assert all(r.seconds == 0.5 for r in messages)
    assert all(r.score == (r.metrics["validation_loss"], 0.0) for r in messages)


def test_a_report_comes_before_the_next_epoch_is_trained() -> None:
    messages = train(job(), assignment(stop=3, raises_in=2), None, worker=0)
    first = next(messages)
    assert isinstance(first, Report) and first.epoch == 1
    assert isinstance(next(messages), Failure)
    assert next(messages, None) is None


# ---------------------------------------------------------------------- states


@given(start=st.integers(0, 6), checkpoint_epoch=st.integers(1, 9), epochs=st.integers(1, 4))
@limit_examples(30)
def test_from_any_state_or_none_training_goes_on_as_if_it_had_never_stopped(
    start: int, checkpoint_epoch: int, epochs: int
) -> None:
    straight = reports(trained(assignment(stop=12)))
    whole = job().make({}, 11)
    for _ in range(checkpoint_epoch):
        whole.epoch()
    state = Checkpoint(epoch=checkpoint_epoch, state=whole.state())
    for checkpoint in (state, None):
        messages = reports(
            trained(assignment(start=start, stop=start + epochs), checkpoint=checkpoint)
        )
        assert [r.metrics for r in messages] == [
            r.metrics for r in straight[start : start + epochs]
        ]


@given(
    after=st.lists(st.integers(0, 7), max_size=4).map(sorted),
    checkpoint_epoch=st.integers(0, 7),
    start=st.integers(0, 7),
)
@limit_examples(30)
def test_a_trial_that_is_trained_again_gets_its_messages_after_the_same_epochs(
    after: list[int], checkpoint_epoch: int, start: int
) -> None:
    """An adjusted trial goes on from any checkpoint, or from none, as if it had never stopped."""
    changes = [
        TrialAdjusted(trial=4, attempt=2, epoch=epoch, changes={"scale": float(n + 2)})
        for n, epoch in enumerate(after)
    ]
    inbox: deque[TrialMessage] = deque()
    messages: list[Message] = []
    inbox += [replace(c, epoch=-1) for c in changes if c.epoch == 0]
    for message in train(job(), assignment(stop=8), None, worker=0, inbox=inbox):
        messages.append(message)
        if isinstance(message, Report):
            inbox += [replace(c, epoch=-1) for c in changes if c.epoch == message.epoch]
    assert [m for m in messages if isinstance(m, TrialAdjusted)] == changes
    straight = [m.metrics for m in messages if isinstance(m, Report)]
    received = tuple(c for c in changes if c.epoch <= start)
    whole = restore_trainer(job(), {}, 11, None, epoch=checkpoint_epoch, received=changes)
    states = [None, Checkpoint(epoch=checkpoint_epoch, state=whole.state())]
    for checkpoint in states:
        again = replace(assignment(start=start, stop=start + 1), received=received)
        (report,) = reports(trained(again, checkpoint=checkpoint))
        assert report.metrics == straight[start]


def test_a_message_to_another_attempt_is_not_taken() -> None:
    queue = WorkerQueue(job(), worker=0)
    message = TrialAdjusted(trial=4, attempt=1, changes={})
    assert not queue.deliver(message)
    queue.add(assignment(stop=2), None)
    assert not queue.deliver(message)
    assert queue.deliver(replace(message, attempt=2))


def test_a_state_of_a_later_epoch_is_not_used() -> None:
    """An epoch cannot be taken back: the trial is trained again from the start."""
    later = job().make({}, 11)
    for _ in range(5):
        later.epoch()
    trainer = restore_trainer(job(), {}, 11, Checkpoint(epoch=5, state=later.state()), epoch=2)
    assert trainer.state()["epochs"] == 2
    assert np.array_equal(trainer.state()["weights"], sum_of_draws(2))


def sum_of_draws(epochs: int) -> np.ndarray:
    """The toy's weights by hand: that many normal draws of its seed, added up."""
    rng = np.random.default_rng(11)
    return np.sum([rng.normal(size=3) for _ in range(epochs)], axis=0)


def test_the_last_report_carries_the_state_and_so_does_each_new_best() -> None:
    messages = reports(trained(assignment(stop=8)))
    best = math.inf
    for r in messages:
        assert (r.state is not None) == (r.score[0] < best or r.last)
        if r.state is not None:
            assert r.state["epochs"] == r.epoch
            assert np.array_equal(r.state["weights"], sum_of_draws(r.epoch))
        best = min(best, r.score[0])


def test_a_best_of_the_trial_that_is_not_the_runs_best_carries_no_state() -> None:
    a = replace(assignment(stop=8), best_score=(-1.0, 0.0))
    assert [r.epoch for r in reports(trained(a)) if r.state is not None] == [8]


# ---------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("config", "cause"),
    [
        ({"nan_in": 2}, "validation_loss is nan"),
        ({"explodes_in": 2}, "train_loss 1e+09 exploded above 10000"),
    ],
)
def test_an_epoch_that_blows_up_ends_the_assignment_at_once(
    config: dict[str, int], cause: str
) -> None:
    messages = reports(trained(assignment(stop=5, **config)))
    assert [r.epoch for r in messages] == [1, 2]
    bad = messages[-1]
    assert bad.last and bad.cause == cause and bad.state is None
    assert bad.score == WORST  # what went bad is never the best, whatever its other metrics say


def test_any_metric_that_is_not_finite_ends_the_assignment() -> None:
    for value in (math.nan, math.inf, -math.inf):
        (bad,) = reports(trained(assignment(extra={"train_loss": value})))
        assert bad.cause == f"train_loss is {value}" and bad.score == WORST


def test_a_trainer_that_raises_ends_in_a_failure_with_one_line_and_a_traceback() -> None:
    messages = trained(assignment(stop=5, raises_in=3))
    assert [r.epoch for r in reports(messages[:-1])] == [1, 2]
    failure = last_failure(messages)
    assert (failure.trial, failure.attempt, failure.kind, failure.worker) == (4, 2, "raised", 7)
    assert failure.message == "RuntimeError: the kettle is empty"
    assert "second line" in failure.traceback and "in epoch" in failure.traceback


@pytest.mark.parametrize(
    ("trainer", "config", "message"),
    [
        ("Toy", {"extra": {"speed": 1.0}}, "ValueError: .*did not declare: speed"),
        ("Forgetful", {}, "ValueError: .*did not report a metric it declared: train_loss"),
        ("Toy", {"extra": {"train_loss": "low"}}, "ValueError: .*'low'"),
        ("Toy", {"extra": {"train_loss": None}}, "TypeError: "),
        ("Toy", {"extra": []}, "TypeError: "),
        ("Absent", {}, "SpecError: .*Absent"),
    ],
)
def test_what_a_trainer_does_wrong_is_a_failure_that_says_what(
    trainer: str, config: dict[str, Any], message: str
) -> None:
    messages = trained(assignment(**config), trainer=trainer)
    assert len(messages) == 1
    failure = last_failure(messages)
    assert failure.kind == "raised" and "\n" not in failure.message
    assert re.search(message, failure.message)


def test_a_metric_of_another_number_type_becomes_the_declared_one() -> None:
    (r,) = reports(trained(assignment(stop=1, extra={"train_loss": np.float32(0.5)})))
    assert type(r.metrics["train_loss"]) is float
    assert list(r.metrics) == list(Toy.metrics)


# ---------------------------------------------------------------------- finding the trainer


@pytest.mark.parametrize(
    "path",
    ["search_examples:Absent", "no_such_module:Toy", "search_examples:Silent", ".relative:Toy"],
)
def test_a_trainer_that_cannot_be_had_is_an_error_of_the_spec(path: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_trainer(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "declared", [(float, "up"), ("float", "max"), "max", (complex, "min"), None]
)
def test_metrics_that_are_declared_wrong_are_an_error_that_names_one(
    declared: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "metrics", {"validation_loss": (float, "min"), "speed": declared})
    with pytest.raises(SpecError, match="metric 'speed' needs"):
        load_trainer("search_examples:Toy")


def test_the_first_metric_with_a_goal_decides_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics = {
        "train_loss": (float, "none"),
        "validation_accuracy": (float, "max"),
        "validation_log_loss": (float, "min"),
    }
    monkeypatch.setattr(Toy, "metrics", metrics)
    for asked, first, tie in (
        (None, ("validation_accuracy", True), ("validation_log_loss", False)),
        ("log_loss", ("validation_log_loss", False), ("validation_accuracy", True)),
        ("validation_log_loss", ("validation_log_loss", False), ("validation_accuracy", True)),
    ):
        found = choose_objective(Toy, asked)
        assert (found.metric, found.maximize) == first
        assert (found.tie_metric, found.tie_maximize) == tie
    for asked in ("speed", "train_loss"):
        with pytest.raises(SpecError, match=r"accuracy \| log_loss; got"):
            choose_objective(Toy, asked)
