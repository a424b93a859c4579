"""The order of epochs in a frame is the order of their scores."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.search.events import SessionDetails
from orchestrator.search.objective import WORST, Objective
from pipelines.see.ranking import compute_losses, compute_scores, number_configs, rank_epochs
from pipelines.see.run import RunTables

values = st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0]) | st.floats()
rows = st.lists(st.tuples(values, values, st.sampled_from([None, None, "exploded"])), min_size=1)
objectives = st.builds(
    Objective,
    metric=st.just("validation_a"),
    maximize=st.booleans(),
    tie_metric=st.sampled_from([None, "validation_b"]),
    tie_maximize=st.booleans(),
)


def run_of(epochs: pd.DataFrame, objective: Objective, **session: str) -> RunTables:
    trials = pd.DataFrame({"trial": epochs["trial"].unique()})
    details = SessionDetails(objective=objective, **session)
    return RunTables(
        folder=Path("none"), events=pd.DataFrame(), epochs=epochs, trials=trials,
        session=details, status="finished",
    )  # fmt: skip


def frame(epochs: list[tuple[float, float, str | None]]) -> pd.DataFrame:
    table = pd.DataFrame(epochs, columns=["validation_a", "validation_b", "cause"])
    return table.assign(trial=range(len(table)), epoch=1, seq=range(len(table)))


@given(epochs=rows, objective=objectives)
@settings(max_examples=80)
def test_scores_of_a_frame_are_those_of_the_objective(
    epochs: list[tuple[float, float, str | None]], objective: Objective
) -> None:
    table = frame(epochs)
    run = run_of(table, objective)
    scores = compute_scores(run, table)
    one_by_one = [
        WORST if cause else objective.score({"validation_a": a, "validation_b": b})
        for a, b, cause in epochs
    ]
    assert list(zip(scores["loss"], scores["tie_breaker"], strict=True)) == one_by_one
    assert list(compute_losses(run, table)) == [loss for loss, _ in one_by_one]
    sound = [i for i, (_, _, cause) in enumerate(epochs) if cause is None]
    by_score = sorted(sound, key=lambda i: (one_by_one[i], i))
    assert list(rank_epochs(run)["trial"]) == by_score


def test_among_finalists_the_best_mean_comes_first() -> None:
    table = frame([(0.9, 0, None), (0.2, 0, None), (0.6, 0, None), (0.6, 0, None)])
    objective = Objective(metric="validation_a", maximize=True)
    run = run_of(table, objective, method="finalists")
    configs = run.trials.assign(config_rate=[1.0, 1.0, 2.0, 2.0])
    run = RunTables(**{**vars(run), "trials": configs})
    assert list(number_configs(run)) == [0, 0, 1, 1]
    assert list(rank_epochs(run)["trial"]) == [2, 3, 0, 1]
    assert list(rank_epochs(run_of(table, objective))["trial"]) == [0, 2, 3, 1]


def test_without_an_epoch_there_is_nothing_to_rank() -> None:
    run = run_of(frame([]), Objective(metric="validation_a", maximize=True))
    assert rank_epochs(run).empty


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("maximize", [True, False])
def test_what_is_not_finite_is_the_worst_whatever_the_goal(value: float, maximize: bool) -> None:
    objective = Objective(metric="validation_a", maximize=maximize)
    run = run_of(frame([(value, 0, None), (0.5, 0, None)]), objective)
    assert list(rank_epochs(run)["trial"]) == [1, 0]
