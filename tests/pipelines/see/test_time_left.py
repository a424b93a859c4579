"""One estimate of the time left, for the terminal and for `caviar watch`."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.search.budget import Budget
from orchestrator.search.events import Kind, SessionStarted
from orchestrator.search.messages import Observation, Report
from pipelines.see.run import load_run
from pipelines.see.terminal import SessionClock
from pipelines.see.time_left import LimitedWork, TimeLeft, estimate_time_left
from pipelines.see.watch import estimate_run_time_left

RECORDED = Path(__file__).parents[2] / "recordings" / "run-0.2"


def steady(count: int, *, begun: float, now: float) -> np.ndarray:
    """Times of units at equal distances, each in the middle of its share of the time."""
    return begun + (now - begun) * (np.arange(count) + 0.5) / count


@given(
    count=st.integers(1, 500), begun=st.floats(0, 1e4), length=st.floats(1, 1e4),
    remaining=st.integers(1, 10_000),
)  # fmt: skip
@settings(max_examples=80)
def test_at_a_steady_pace_it_is_the_rest_over_the_pace(
    count: int, begun: float, length: float, remaining: int
) -> None:
    now = begun + length
    work = LimitedWork(done_at=steady(count, begun=begun, now=now), remaining=remaining)
    left = estimate_time_left([work], deadline=None, begun=begun, now=now)
    assert left is not None
    # the later half of the slices holds half of the units, up to those on its edges
    assert left.seconds == pytest.approx(remaining * length / count, rel=2.5 / max(count, 5))
    assert 0 < left.low <= left.seconds <= left.high


@given(deadline=st.floats(0, 100), now=st.floats(0, 200))
def test_a_deadline_is_known_exactly_and_never_below_zero(deadline: float, now: float) -> None:
    left = estimate_time_left([], deadline=deadline, begun=0.0, now=now)
    assert left is not None
    assert left.seconds == left.low == left.high == max(deadline - now, 0.0)


@given(deadline=st.floats(1, 1e4), remaining=st.integers(1, 10_000))
def test_the_limit_that_is_reached_first_counts(deadline: float, remaining: int) -> None:
    work = LimitedWork(done_at=steady(64, begun=0.0, now=10.0), remaining=remaining)
    both = [work, replace(work, remaining=2 * remaining)]
    left = estimate_time_left(both, deadline=deadline, begun=0.0, now=10.0)
    assert left is not None
    assert left.seconds == pytest.approx(min(remaining / 6.4, max(deadline - 10, 0.0)))


@pytest.mark.parametrize(
    ("done_at", "remaining"), [([], 9), ([1.0], 0), ([1.0], -3), ([1.0], math.inf)]
)
def test_where_nothing_tells_it_there_is_no_estimate(done_at: list[float], remaining: int) -> None:
    work = LimitedWork(done_at=np.array(done_at), remaining=remaining)
    assert estimate_time_left([work], deadline=None, begun=0.0, now=2.0) is None


def test_the_pace_of_late_counts_once_there_is_enough_of_it() -> None:
    slow, fast = steady(16, begun=0.0, now=50.0), steady(64, begun=50.0, now=100.0)
    work = LimitedWork(done_at=np.append(slow, fast), remaining=128)
    left = estimate_time_left([work], deadline=None, begun=0.0, now=100.0)
    assert left is not None and left.seconds == pytest.approx(100)
    early = LimitedWork(done_at=np.array([1.0, 9.0]), remaining=10)
    left = estimate_time_left([early], deadline=None, begun=0.0, now=10.0)
    assert left is not None and left.seconds == pytest.approx(50)
    assert left.low < 50 < left.high < math.inf


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (TimeLeft(seconds=2, low=2, high=2), "2.0 s left"),
        (TimeLeft(seconds=60, low=50, high=90), "about 1 min left (50 s to 1 min 30 s)"),
        (TimeLeft(seconds=60, low=30, high=math.inf), "about 1 min left"),
    ],
)
def test_it_is_written_with_its_range(left: TimeLeft, text: str) -> None:
    assert str(left) == text


# ---------------------------------------------------------------------- both places


def session_of(*, now: float, epochs: int, budget: Budget, expected: float = math.inf) -> Any:
    """What the terminal asks of a session."""
    return SimpleNamespace(
        now=lambda: now, search=SimpleNamespace(epochs=epochs), budget=budget,
        expected_epochs=expected,
    )  # fmt: skip


def record_epochs(clock: SessionClock, times: np.ndarray, *, begun: float) -> None:
    clock.record(SessionStarted(), begun)
    for i, at_seconds in enumerate(times):
        report = Report(
            trial=0, attempt=1, epoch=i + 1, metrics={}, score=(0.0, 0.0), seconds=0.1, worker=0
        )
        clock.record(Observation(report=report, at_seconds=at_seconds), at_seconds)


def test_the_terminal_and_watch_say_the_same_of_the_same_run() -> None:
    run = load_run(RECORDED)
    events, epochs = run.events.copy(), run.epochs.copy()
    limits = ["budget_seconds", "budget_trials", "budget_epochs"]
    events.loc[events["kind"] == Kind.SESSION, limits] = [None, None, 3 * len(epochs)]
    events.loc[events["kind"] == Kind.SESSION, "at_seconds"] = 5.0
    times = 5.0 + 10 * np.linspace(0.01, 1, len(epochs)) ** 2
    epochs["at_seconds"] = times
    seen = estimate_run_time_left(replace(run, events=events, epochs=epochs, audit=None), 15.0)
    clock = SessionClock()
    record_epochs(clock, times, begun=5.0)
    budget = Budget(epochs=3 * len(epochs))
    session = session_of(now=15.0, epochs=len(epochs), budget=budget)
    assert seen is not None and seen == clock.estimate_time_left(session)


def test_the_terminal_counts_a_budget_of_trials_in_the_epochs_it_will_need() -> None:
    clock = SessionClock()
    record_epochs(clock, steady(64, begun=0.0, now=10.0), begun=0.0)
    session = session_of(now=10.0, epochs=64, budget=Budget(trials=100), expected=128.0)
    left = clock.estimate_time_left(session)
    assert left is not None and left.seconds == pytest.approx(10)
    sooner = session_of(now=10.0, epochs=64, budget=Budget(trials=100, seconds=12.0), expected=128)
    assert str(clock.estimate_time_left(sooner)) == "2.0 s left"


def test_before_the_first_epoch_the_terminal_knows_a_deadline_alone() -> None:
    clock = SessionClock()
    clock.record(SessionStarted(), 0.0)
    assert clock.estimate_time_left(session_of(now=1.0, epochs=0, budget=Budget(trials=9))) is None
    left = clock.estimate_time_left(session_of(now=1.0, epochs=0, budget=Budget(seconds=60.0)))
    assert re.fullmatch(r"59 s left", str(left))
