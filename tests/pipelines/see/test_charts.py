"""The page's charts are ones that Plotly takes, and show what the tables say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from test_runs import searched

from orchestrator.search.trial import Status
from orchestrator.space.domains import Choice, Integer, Real
from pipelines.runs.spec import Spec
from pipelines.see import charts
from pipelines.see.importance import compute_importance
from pipelines.see.run import RunTables, load_run
from pipelines.see.run_spec import read_run_spec
from pipelines.see.summary import describe_best
from pipelines.see.views import list_worker_spans, list_zooms, trace_incumbent


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, RunTables]:
    folder = searched(tmp_path_factory.mktemp("charts") / "run", "digits", trials=60)
    return read_run_spec(folder), load_run(folder)


def all_charts(spec: Spec, run: RunTables) -> dict[str, Any]:
    alone, _ = compute_importance(spec, run)
    names = [d.name for d in spec.parameters().dimensions]
    return {
        "spent": charts.draw_incumbent(run, over="spent"),
        "seconds": charts.draw_incumbent(run, over="at_seconds"),
        "curves": charts.draw_learning_curves(run),
        **{name: charts.draw_parameter(run, name) for name in names},
        "coordinates": charts.draw_parallel_coordinates(run, names),
        "importance": charts.draw_importance(alone),
        "rungs": charts.draw_rungs(run),
        "workers": charts.draw_workers(run),
        "over": charts.draw_runs([(spec, run)]),
    }


def test_plotly_takes_every_chart_and_every_axis_has_a_name(known: tuple[Spec, RunTables]) -> None:
    for name, chart in all_charts(*known).items():
        go.Figure(chart)  # raises at a name or a value that Plotly does not know
        json.dumps(chart, allow_nan=False)
        assert chart["data"], name
        if name != "coordinates":
            assert chart["layout"]["xaxis"]["title"]["text"], name


def test_the_best_so_far_is_drawn_as_it_was(known: tuple[Spec, RunTables]) -> None:
    _, run = known
    (trace,) = charts.draw_incumbent(run, over="spent")["data"]
    assert trace["x"] == list(trace_incumbent(run)["spent"])
    np.testing.assert_allclose(trace["y"], trace_incumbent(run)["best"], rtol=1e-5)


def test_every_curve_is_drawn_once_in_the_colour_of_its_fate_the_winner_last(
    known: tuple[Spec, RunTables],
) -> None:
    _, run = known
    drawn = charts.draw_learning_curves(run)["data"]
    top = describe_best(run)
    assert top is not None
    assert drawn[-1]["name"] == f"trial {top['trial']}, the best"
    shown = sum(sum(x is not None for x in trace["x"]) for trace in drawn)
    assert shown == len(run.epochs)
    fates = run.trials.set_index("trial")["status"].drop(top["trial"])
    assert {t["name"] for t in drawn[:-1]} == {s.lower() for s in fates.unique()}
    points = sum(sum(size > 0 for size in t["marker"]["size"][:-1:2]) for t in drawn)
    assert points >= (run.trials["epochs"] == 1).sum() > 0  # which no line can show
    low, high = charts.draw_learning_curves(run)["layout"]["yaxis"]["range"]
    assert all(low <= y <= high for y in drawn[-1]["y"] if y is not None)


def test_what_a_trial_does_not_have_is_not_drawn_as_a_value(known: tuple[Spec, RunTables]) -> None:
    _, run = known
    names = [d.name for d in run.space.dimensions if run.trials[f"unit_{d.name}"].isna().any()]
    assert names
    axes = charts.draw_parallel_coordinates(run, names)["data"][0]["dimensions"]
    for name, axis in zip(names, axes, strict=False):
        absent = run.trials[f"unit_{name}"].isna() & run.trials["validation_accuracy"].notna()
        assert axis["values"].count(charts.INACTIVE) == absent.sum()
        assert axis["ticktext"][0] == "inactive"


def test_an_option_that_looks_like_markup_stays_text() -> None:
    domain = Choice(options=("<b>bold</b>", "a & b"))
    assert charts._make_ticks(domain)["ticktext"] == ["&lt;b&gt;bold&lt;/b&gt;", "a &amp; b"]


def test_a_long_run_is_thinned_out_and_keeps_its_best(known: tuple[Spec, RunTables]) -> None:
    spec, run = known
    many = 200
    epochs = pd.concat(
        [run.epochs.assign(trial=run.epochs["trial"] + 60 * i, seq=run.epochs["seq"] + 10_000 * i)
         for i in range(many)], ignore_index=True,
    )  # fmt: skip
    trials = pd.concat(
        [run.trials.assign(trial=run.trials["trial"] + 60 * i) for i in range(many)],
        ignore_index=True,
    )
    long = replace(run, epochs=epochs, trials=trials)
    size = sum(len(json.dumps(c)) for c in all_charts(spec, long).values())
    assert size < 10 * sum(len(json.dumps(c)) for c in all_charts(spec, run).values())
    top = describe_best(long)
    assert top is not None
    assert (
        f"trial {top['trial']}, the best" == charts.draw_learning_curves(long)["data"][-1]["name"]
    )
    shown = charts.tabulate_trials(long)
    assert len(shown["trial"]) == charts.POINTS
    assert top["trial"] in shown["trial"]


def test_the_pair_chart_has_every_trial_with_a_result_and_every_box(
    known: tuple[Spec, RunTables],
) -> None:
    _, run = known
    shown = charts.tabulate_trials(run)
    sound = run.trials[run.trials["validation_accuracy"].notna()]
    assert shown["trial"] == list(sound["trial"])
    for name, units in shown["unit"].items():
        expected = sound[f"unit_{name}"].to_numpy(float)
        np.testing.assert_allclose(np.array(units, float), expected, rtol=1e-3, equal_nan=True)
    assert len(shown["boxes"]) == len(list_zooms(run)) > 0
    json.dumps(shown, allow_nan=False)


def test_ticks_carry_the_values_of_their_scale(known: tuple[Spec, RunTables]) -> None:
    spec, run = known
    axis = charts.draw_parameter(run, "learning_rate")["layout"]["xaxis"]
    low, high = spec.space["learning_rate"]["log"]
    shown = np.array([float(t) for t in axis["ticktext"]])
    assert len(shown) == charts.TICKS
    np.testing.assert_allclose(
        axis["tickvals"], np.log(shown / low) / np.log(high / low), atol=1e-9
    )


def test_ticks_are_numbers_that_a_person_would_write() -> None:
    beta = Real(low=0.9, high=0.9999, scale="reverse_log")
    for domain, expected in (
        (Integer(low=32, high=512, scale="log2"), ["32", "64", "128", "256", "512"]),
        (beta, ["0.9", "0.98", "0.997", "0.9994", "0.9999"]),
        (Integer(low=1, high=4), ["1", "2", "3", "4"]),
        (Integer(low=3, high=700), ["3", "180", "350", "530", "700"]),
        (Real(low=0, high=1), ["0", "0.25", "0.5", "0.75", "1"]),
    ):
        assert charts._make_ticks(domain)["ticktext"] == expected


def test_merging_stretches_that_no_eye_can_tell_apart_loses_no_time(
    known: tuple[Spec, RunTables],
) -> None:
    _, run = known
    found = list_worker_spans(run)
    merged = charts._merge_spans(found, gap=0.0)
    assert (merged["end_seconds"] - merged["begin_seconds"]).sum() == pytest.approx(
        (found["end_seconds"] - found["begin_seconds"]).sum(), rel=0.02
    )
    assert len(charts._merge_spans(found, gap=1e9)) == found["worker"].nunique()


def test_seeds_of_a_kind_are_one_band(known: tuple[Spec, RunTables], tmp_path: Path) -> None:
    folders = [searched(tmp_path / str(seed), trials=8, seed=seed) for seed in range(3)]
    runs = [(read_run_spec(f), load_run(f)) for f in folders]
    low, high, mean = charts.draw_runs(runs)["data"]
    triples = list(zip(low["y"], mean["y"], high["y"], strict=True))
    assert triples and all(a - 1e-6 <= b <= c + 1e-6 for a, b, c in triples)
    assert mean["y"] == sorted(mean["y"])
    # by hand, at each step of any of them: what each had reached by then
    ordered = [run.epochs.sort_values("seq")["validation_accuracy"] for _, run in runs]
    for x, y in zip(mean["x"], mean["y"], strict=True):
        then = [values.head(int(x)).max() for values in ordered]
        assert y == pytest.approx(np.mean(then), abs=1e-5)
    assert mean["x"][-1] == min(len(run.epochs) for _, run in runs)


def test_colours_can_be_told_apart_by_those_who_see_no_red() -> None:
    """Distances after Viénot, Brettel & Mollon 1999's projection for protanopia, deuteranopia."""
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714],
                       [0.0299566, 0.184309, 1.46709]])  # fmt: skip
    protan = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
    deutan = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    fates = (Status.COMPLETED, Status.PAUSED, Status.DIVERGED)
    codes = [charts.FATES[fate] for fate in fates]
    colours = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) / 255 for c in codes]
    for blind in (protan, deutan):
        seen = [np.linalg.inv(to_lms) @ blind @ to_lms @ c for c in colours]
        for i, a in enumerate(seen):
            for b in seen[i + 1 :]:
                assert np.linalg.norm(a - b) > 0.15
