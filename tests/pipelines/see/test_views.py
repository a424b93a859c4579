"""What is drawn adds up to what the tables say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_runs import TOYS, searched, toy_spec

from orchestrator.search.events import Kind
from orchestrator.search.trial import Status
from pipelines.see.run import RunTables, load_run
from pipelines.see.summary import describe_best
from pipelines.see.views import (
    count_saved_epochs,
    count_trials_by_rung,
    group_failures,
    list_worker_spans,
    list_zooms,
    trace_incumbent,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunTables:
    return load_run(searched(tmp_path_factory.mktemp("views") / "run", trials=60))


def test_the_best_so_far_only_rises_and_ends_at_the_best(run: RunTables) -> None:
    found = trace_incumbent(run)
    assert found["best"].is_monotonic_increasing
    assert found["spent"].is_monotonic_increasing
    assert found["at_seconds"].is_monotonic_increasing
    assert found["spent"].iloc[-1] == len(run.epochs)
    top = describe_best(run)
    assert top is not None
    assert found["best"].iloc[-1] == pytest.approx(top["validation"]["accuracy"])
    assert (found["trial"].iloc[-1], found["epoch"].iloc[-1]) == (top["trial"], top["epoch"])
    # by hand: the running maximum over the epochs in the order in which they came in
    by_hand = run.epochs.sort_values("seq")["validation_accuracy"].cummax().to_numpy(float)
    np.testing.assert_array_equal(by_hand[found["spent"].to_numpy(int) - 1], found["best"])


ENDS = ["waiting", "complete", "pruned", "bad", "under_way"]


def test_the_funnel_counts_every_trial_once_and_narrows(run: RunTables) -> None:
    found = count_trials_by_rung(run)
    assert found["epoch"].is_monotonic_increasing
    assert found["entered"].is_monotonic_decreasing
    assert found[ENDS].to_numpy().sum() == len(run.trials)
    np.testing.assert_array_equal(
        found["entered"], found[["went_on", "waiting", "complete", "pruned"]].sum(axis=1)
    )


@pytest.mark.parametrize("toy", ["Diverging", "NeverTrains", "Raising"])
def test_pruning_has_saved_nothing_of_what_went_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: str
) -> None:
    monkeypatch.syspath_prepend(TOYS)
    run = load_run(searched(tmp_path / "run", spec_file=toy_spec(tmp_path, toy), trials=12))
    found = count_trials_by_rung(run)
    assert found[ENDS].to_numpy().sum() == len(run.trials)
    assert found["bad"].sum() == run.trials["status"].isin(["DIVERGED", "FAILED"]).sum() > 0
    left = run.trials[run.trials["status"].isin(["PAUSED", "PRUNED"])]
    assert count_saved_epochs(run, 9) == (9 - left["epochs"]).sum()


def test_median_stopping_has_a_funnel_too(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("search: {method: median}\n")
    run = load_run(searched(tmp_path / "run", spec_file=spec, trials=30))
    assert count_trials_by_rung(run)[ENDS].to_numpy().sum() == 30
    assert (
        count_trials_by_rung(run)["pruned"].sum() == (run.trials["status"] == Status.PRUNED).sum()
    )


def test_the_timeline_holds_every_epoch_and_no_worker_is_in_two_places(run: RunTables) -> None:
    found = list_worker_spans(run)
    assert found["epochs"].sum() == len(run.epochs)
    assert (found["end_seconds"] >= found["begin_seconds"]).all()
    for _, own in found.groupby("worker"):
        overlap = own["end_seconds"].to_numpy()[:-1] - own["begin_seconds"].to_numpy()[1:]
        assert overlap.max(initial=0) < 0.05


def test_each_box_lies_in_the_cube_around_trials_of_the_run(run: RunTables) -> None:
    found = list_zooms(run)
    assert len(found) == (run.events["kind"] == Kind.ZOOM).sum() > 0
    for zoom in found:
        assert set(zoom["parents"]) <= set(run.trials["trial"])
        for low, high in zoom["box"].values():
            assert 0 <= low < high <= 1


def test_failures_of_a_kind_stand_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOYS)
    folder = searched(tmp_path / "run", spec_file=toy_spec(tmp_path, "Raising"), trials=20)
    run = load_run(folder)
    found = group_failures(run)
    failed = run.trials[run.trials["status"] == Status.FAILED]
    assert list(found["kind"]) == [Kind.FAIL]
    assert found["trials"].iloc[0] == len(failed) > 0
    assert "the second epoch is not for me" in found["reason"].iloc[0]
    assert found["example"].iloc[0] in set(failed["trial"])


def test_a_run_that_has_just_begun_has_nothing_to_draw(run: RunTables, tmp_path: Path) -> None:
    trials = pd.DataFrame({"trial": [], "status": [], "stage": []})
    empty = replace(run, events=run.events.head(1), epochs=pd.DataFrame(), trials=trials)
    for draw in (trace_incumbent, count_trials_by_rung, list_worker_spans, group_failures):
        assert draw(empty).empty
    assert list_zooms(empty) == []
