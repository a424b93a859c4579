"""One paragraph a trial: every decision about it, with its figures, and nothing made up."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_runs import TOYS, searched, toy_spec

import caviar
from orchestrator.errors import RunError
from orchestrator.search.events import Kind
from orchestrator.search.pruning.rungs import Rungs
from orchestrator.store.reading import read_entries
from pipelines.runs.from_spec import make_search, make_tables
from pipelines.see.formatting import format_number
from pipelines.see.run import RunTables, load_run
from pipelines.see.run_spec import read_run_spec
from pipelines.see.why import explain_trial


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunTables:
    return load_run(searched(tmp_path_factory.mktemp("why") / "run", trials=40))


def test_every_trial_has_a_paragraph_with_all_that_was_decided_about_it(run: RunTables) -> None:
    for trial in run.trials["trial"]:
        told = explain_trial(run, trial)
        assert told.startswith(f"Trial {trial} began after ")
        assert "\n" not in told and "nan" not in told.lower() and "<NA>" not in told
        own = run.events[(run.events["trial"] == trial) & (run.events["kind"] != Kind.TEST)]
        for reason in own["reason"]:
            assert reason in told
        for epoch in own[own["kind"] == Kind.PROMOTE]["stop_epoch"]:
            assert f"it went on to epoch {epoch}" in told


def test_the_places_it_names_are_those_of_the_trials_results(run: RunTables) -> None:
    best = run.epochs.groupby("trial")["validation_accuracy"].max()
    told = {t: explain_trial(run, t) for t in run.trials["trial"]}
    places = {
        t: int(found[1])
        for t, text in told.items()
        if (found := re.search(r"place (\d+) of the", text))
    }
    assert sorted(places.values()) == list(range(1, len(places) + 1))
    by_place = sorted(places, key=lambda t: places[t])
    accuracies = [best[t] for t in by_place]
    assert accuracies == sorted(accuracies, reverse=True)
    for t in by_place:
        assert f"its best validation accuracy is {format_number(float(best[t]))} " in told[t]


def test_what_the_model_expected_is_said_where_it_had_a_say(run: RunTables) -> None:
    starts = run.events[run.events["kind"] == Kind.START].set_index("trial")
    modelled = starts.index[starts["expected"].notna()]
    assert len(modelled)
    for trial in modelled:
        row = starts.loc[trial]
        assert (
            f"the model expected {format_number(-row['expected'])} at the last epoch"
            in explain_trial(run, trial)
        )


def test_a_trial_that_failed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOYS)
    spec = toy_spec(
        tmp_path,
        "Raising",
        space={"floor": {"linear": [0, 1]}},
        search={"initial_configs": [{"floor": 0.1}]},
    )
    folder = tmp_path / "run"
    caviar.search("wine", out=folder, spec=spec, trials=3, pool="inline", trust_trainer=True)
    assert "At epoch 1 it failed: " in explain_trial(load_run(folder), 0)
    assert "the second epoch is not for me" in explain_trial(load_run(folder), 0)


def test_one_that_the_end_found_waiting_is_placed_among_all_that_came_to_its_rung(
    run: RunTables,
) -> None:
    search = make_search(read_run_spec(run.folder))
    for _, _, entry in read_entries(run.folder, make_tables(read_run_spec(run.folder))):
        search.apply(entry)
    waiting = run.trials.loc[run.trials["status"] == "PAUSED", "trial"]
    assert len(waiting)
    for trial in waiting:
        epoch = search.trials[trial].epoch
        pruner = search.method._pruner
        assert isinstance(pruner, Rungs)
        rung = pruner._rungs[epoch]
        assert (
            f"The search ended with it waiting in rung {epoch}, by then place {rung.rank(trial)} "
            f"of {len(rung)} there; others were expected to improve more; its best "
        ) in explain_trial(run, trial)
        assert "It is PAUSED; " in explain_trial(replace(run, status="running"), trial)


def test_an_audit_says_whom_it_repeats(tmp_path: Path) -> None:
    run = load_run(searched(tmp_path / "run", trials=30, audit=0.3))
    assert run.audit is not None
    for trial, (repeated,) in zip(
        run.audit.trials["trial"], run.audit.trials["parents"], strict=True
    ):
        told = explain_trial(run, trial)
        assert f"what would have become of trial {repeated}, which was left behind" in told
        assert f"It repeats trial {repeated}, which pruning left behind, and is COMPLETED" in told
        assert f"of the {len(run.audit.trials)} audits with a result" in told
    last = run.audit.trials["trial"].max()
    with pytest.raises(RunError, match=f"0 to {last}, got {last + 1}"):
        explain_trial(run, last + 1)


def test_a_trial_that_is_not_there_is_said_in_one_line(run: RunTables) -> None:
    with pytest.raises(RunError, match="needs one of its trials, 0 to 39, got 40"):
        explain_trial(run, 40)
