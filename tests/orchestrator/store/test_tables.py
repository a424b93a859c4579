from __future__ import annotations

import io
import math
from dataclasses import fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from search_examples import (
    CONDITIONAL,
    METRICS,
    OBJECTIVE,
    Toy,
    limit_examples,
    points,
    space_of,
    spaces,
    values,
)

from orchestrator.errors import SpecError
from orchestrator.runtime.trainer import load_trainer
from orchestrator.search.budget import Budget
from orchestrator.search.events import (
    Comparison,
    EndDetails,
    Event,
    Forecast,
    ModelTested,
    SessionDetails,
    SessionEnded,
    SessionStarted,
    TrialAdjusted,
    TrialCompleted,
    TrialDiverged,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialPruned,
    TrialRetried,
    TrialStarted,
    TrialStopped,
    ZoomedIn,
)
from orchestrator.search.messages import Observation, Report
from orchestrator.search.objective import WORST, Objective
from orchestrator.space.domains import Choice, Real, Value
from orchestrator.space.space import Parameter, Space
from orchestrator.store.tables import Tables
from orchestrator.store.trials_table import TrialsTable


def tables_for(space: Space, metrics: dict[str, type] | None = None) -> Tables:
    return Tables(space=space, metrics=metrics or METRICS, objective=OBJECTIVE)


def through_parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> list[dict[str, Any]]:
    """What the rows are after they stood in a file."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return pq.read_table(file, schema=schema).to_pylist()


def exact(value: object) -> str:
    """Equal for what is the same to the last bit and type; NaN is itself."""
    return repr(value)


# ---------------------------------------------------------------------- there and back

number = st.integers(0, 2**31 - 1)
large_number = st.integers(0, 2**63 - 1)
real = st.floats(allow_nan=False)
text = st.text(max_size=8)
sides = st.tuples(st.floats(0, 1), st.floats(0, 1))
boxes = st.dictionaries(st.text("abc", min_size=1), sides, max_size=3)
parents = st.lists(large_number, max_size=3).map(tuple)
maybe = st.none
of_a_trial = {"reason": text, "trial": large_number}
assigning = {**of_a_trial, "attempt": number, "start_epoch": number, "stop_epoch": number}
comparisons = st.builds(
    Comparison, rung=maybe() | number, rank=maybe() | large_number, peers=maybe() | large_number,
    cutoff=maybe() | real,
)  # fmt: skip
forecasts = maybe() | st.builds(Forecast, expected=real, low=real, high=real)
ended = {
    **of_a_trial, "attempt": maybe() | number, "epoch": maybe() | number, "value": maybe() | real,
    "comparison": comparisons,
}  # fmt: skip
budgets = st.builds(
    Budget, seconds=maybe() | real, trials=maybe() | large_number, epochs=maybe() | large_number
)
details = st.builds(
    SessionDetails, workers=number, pool=text, address=maybe() | text, process=number,
    versions=st.dictionaries(text, text, max_size=2), method=text,
    objective=maybe() | st.just(Objective(metric="validation_loss", maximize=False)),
    rows=st.dictionaries(text, number, max_size=2),
)  # fmt: skip
intervals = st.dictionaries(text, st.dictionaries(text, sides, max_size=2), max_size=2)
any_event = st.one_of(
    st.builds(SessionStarted, reason=text, budget=budgets, details=details),
    st.builds(
        SessionEnded, reason=text, status=st.sampled_from(["finished", "failed", "interrupted"]),
        details=st.builds(EndDetails, dropped_reports=number, worker_seconds=maybe() | real),
    ),
    st.builds(ZoomedIn, reason=text, zoom=number, box=boxes, parents=parents),
    st.builds(
        TrialStarted, **assigning, stage=text, config=st.just({}), unit=st.just({}),
        seed=large_number, zoom=maybe() | number, box=maybe() | boxes, parents=maybe() | parents,
        forecast=forecasts,
    ),
    st.builds(
        TrialPromoted, **assigning, value=maybe() | real, comparison=comparisons, forecast=forecasts
    ),
    st.builds(TrialRetried, **assigning),
    *(st.builds(cls, **ended) for cls in (TrialPaused, TrialCompleted, TrialDiverged, TrialPruned)),
    st.builds(
        TrialFailed, **of_a_trial, attempt=maybe() | number, epoch=maybe() | number,
        traceback=maybe() | text,
    ),
    st.builds(
        TrialAdjusted, **of_a_trial, attempt=number, epoch=number,
        changes=st.dictionaries(text, real | text | st.booleans() | number, max_size=3),
    ),
    st.builds(TrialStopped, **of_a_trial, epoch=maybe() | number),
    st.builds(
        ModelTested, **of_a_trial, epoch=maybe() | number, intervals=intervals,
        metrics=st.just({}) | st.just({"test_loss": 0.1}),
    ),
)  # fmt: skip


@given(event=any_event)
@example(event=SessionStarted(budget=Budget(trials=3)))
@limit_examples(60)
def test_an_event_is_the_same_after_it_stood_in_a_file(event: Event) -> None:
    tables = tables_for(space_of(CONDITIONAL))
    (row,) = through_parquet([tables.event_row(3, 1.5, event)], tables.events)
    assert (row["seq"], row["at_seconds"]) == (3, 1.5)
    assert exact(tables.event(row)) == exact(event)


@given(data=st.data())
@limit_examples(60)
def test_a_start_of_any_config_is_the_same_after_it_stood_in_a_file(data: st.DataObject) -> None:
    space = data.draw(spaces())
    tables = tables_for(space)
    config = space.to_config(data.draw(points(space)))
    unit = {
        d.name: float(u)
        for d, u in zip(space.dimensions, space.to_point(config), strict=True)
        if not math.isnan(u)
    }
    event = TrialStarted(trial=0, stage="coarse", config=config, unit=unit, seed=7, stop_epoch=3)
    (row,) = through_parquet([tables.event_row(0, 0.0, event)], tables.events)
    assert exact(tables.event(row)) == exact(event)


@given(options=st.lists(values, min_size=1, max_size=6, unique_by=lambda v: (type(v), v)))
@example(options=[1, "1"])
@example(options=[True, "True", 1])
@example(options=[1, 1.0])
@limit_examples(60)
def test_two_options_never_become_one_in_the_file(options: list[Value]) -> None:
    tables = tables_for(Space([Parameter(name="kind", domain=Choice(options=tuple(options)))]))
    starts = [
        TrialStarted(
            trial=i, stage="coarse", config={"kind": o}, unit={"kind": 0.5}, seed=7, stop_epoch=3
        )
        for i, o in enumerate(options)
    ]
    rows = [tables.event_row(i, 0.0, start) for i, start in enumerate(starts)]
    back = [tables.event(row) for row in through_parquet(rows, tables.events)]
    assert exact(back) == exact(starts)


@given(
    metrics=st.fixed_dictionaries(
        {"train_loss": st.floats(), "validation_loss": st.floats(), "steps": st.integers(0, 2**40)}
    ),
    epoch=st.integers(1, 2**31 - 1),
    cause=st.text(max_size=5),
    seconds=st.floats(0, 1e6),
    last=st.booleans(),
)
@limit_examples(60)
def test_a_report_is_the_same_after_it_stood_in_a_file(
    metrics: dict[str, Any], epoch: int, cause: str, seconds: float, last: bool
) -> None:
    tables = tables_for(space_of(), {"train_loss": float, "validation_loss": float, "steps": int})
    score = WORST if cause else OBJECTIVE.score(metrics)  # what went bad is never the best
    report = Report(
        trial=2**40, attempt=3, epoch=epoch, metrics=metrics, score=score,
        seconds=seconds, worker=7, cause=cause, last=last,
    )  # fmt: skip
    observation = Observation(report=report, at_seconds=seconds)
    (row,) = through_parquet([tables.epoch_row(9, observation)], tables.epochs)
    back = tables.observation(row)
    # the metrics come back in the order in which the trainer declares them
    assert list(back.report.metrics) == ["train_loss", "validation_loss", "steps"]
    for name, value in metrics.items():
        assert exact(back.report.metrics[name]) == exact(value)
    assert exact((back.report.score, back.at_seconds)) == exact((report.score, seconds))
    for field in fields(Report):
        if field.name not in ("metrics", "score"):
            assert getattr(back.report, field.name) == getattr(report, field.name), field.name


# ---------------------------------------------------------------------- schemas


def test_every_table_has_a_typed_column_for_every_name_a_config_may_have() -> None:
    tables = tables_for(space_of(CONDITIONAL))
    wanted = {
        "config_rate": pa.float64(), "config_optimizer": pa.string(), "config_beta": pa.float64(),
        "config_nesterov": pa.bool_(), "config_lookahead": pa.int64(),
        "config_epsilon": pa.float64(), "config_layers": pa.int64(), "config_units_3": pa.int64(),
        "config_drop_3": pa.float64(), "config_clip": pa.string(), "config_activation": pa.string(),
        "unit_rate": pa.float64(), "unit_units_3": pa.float64(), "test_loss": pa.float64(),
    }  # fmt: skip
    for schema in (tables.events, tables.trials):
        for name, kind in wanted.items():
            assert schema.field(name).type == kind, name
        assert "unit_epsilon" not in schema.names  # fixed: no coordinate
    assert tables.epochs.field("validation_loss").type == pa.float64()
    assert tables_for(space_of(), {"steps": int}).epochs.field("steps").type == pa.int64()


def test_no_column_stands_twice_and_every_schema_names_its_version() -> None:
    tables = tables_for(space_of(CONDITIONAL))
    for schema in (tables.events, tables.epochs, tables.trials):
        assert len(set(schema.names)) == len(schema.names)
        assert schema.metadata[b"caviar_schema_version"] == b"3"


@pytest.mark.parametrize("name", ["seq", "epoch", "trial", "last", "epoch_seconds"])
def test_a_metric_cannot_take_the_place_of_one_of_the_logs_own_columns(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that declares `epoch` as a metric is refused, or its number stands elsewhere."""
    monkeypatch.setattr(Toy, "metrics", {"validation_loss": (float, "min"), name: (int, "none")})
    report = Report(
        trial=1, attempt=1, epoch=2, metrics={"validation_loss": 0.5, name: 7},
        score=(0.5, 0.0), seconds=0.25, worker=0,
    )  # fmt: skip
    observation = Observation(report=report, at_seconds=3.0)
    try:
        declared = load_trainer("search_examples:Toy").metrics
        tables = tables_for(space_of(), {n: kind for n, (kind, _) in declared.items()})
    except SpecError:
        return
    (row,) = through_parquet([tables.epoch_row(9, observation)], tables.epochs)
    assert row["seq"] == 9
    assert exact(tables.observation(row)) == exact(observation)


# ---------------------------------------------------------------------- one row a trial


def test_a_trials_row_adds_up_what_happened_to_it() -> None:
    space = Space([Parameter(name="rate", domain=Real(low=0.0, high=1.0))])
    ledger = TrialsTable(tables_for(space))
    start = TrialStarted(
        trial=0, attempt=1, stage="fine", zoom=2, parents=(5, 6), seed=9,
        config={"rate": 0.5}, unit={"rate": 0.5}, stop_epoch=2, reason="drawn",
    )  # fmt: skip
    ledger.apply(start, 1.0)
    for epoch, loss in ((1, 0.3), (2, 0.4)):
        report = Report(
            trial=0, attempt=1, epoch=epoch, metrics={"train_loss": loss, "validation_loss": loss},
            score=(loss, 0.0), seconds=0.25, worker=0, last=epoch == 2,
        )  # fmt: skip
        ledger.apply(Observation(report=report, at_seconds=2.0), 2.0)
    promotion = TrialPromoted(trial=0, attempt=2, start_epoch=2, stop_epoch=9, reason="goes on")
    ledger.apply(TrialPaused(trial=0, reason="waits"), 3.0)
    ledger.apply(promotion, 4.0)
    (row,) = ledger.rows(0)
    assert row == {
        "trial": 0, "status": "RUNNING", "stage": "fine", "zoom": 2, "parents": (5, 6), "seed": 9,
        "attempts": 2, "epochs": 2, "best_epoch": 1, "started_at_seconds": 1.0,
        "ended_at_seconds": 4.0, "epoch_seconds": 0.5, "reason": "goes on", "train_loss": 0.3,
        "validation_loss": 0.3, "config_rate": 0.5, "unit_rate": 0.5,
    }  # fmt: skip
    assert row.keys() <= set(tables_for(space).trials.names)
    assert ledger.changed == {0}


def test_the_objective_flips_the_sign_once_and_counts_what_is_not_finite_as_the_worst() -> None:
    accuracy = Objective(
        metric="validation_accuracy", maximize=True, tie_metric="validation_log_loss"
    )
    names = ("validation_accuracy", "validation_log_loss")
    for given_, score in (
        ((0.9, 0.2), (-0.9, 0.2)),
        ((math.nan, 0.2), (math.inf, math.inf)),
        ((math.inf, 0.2), (math.inf, math.inf)),
        ((0.9, math.nan), (-0.9, math.inf)),
    ):
        assert accuracy.score(dict(zip(names, given_, strict=True))) == score
    assert accuracy.value(-0.9) == 0.9
