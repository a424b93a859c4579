"""One paragraph a trial: every decision about it, with its figures, and nothing made up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_runs import TOYS, searched, toy_spec

import caviar
from caviar import Added, Crew
from orchestrator.errors import RunError
from orchestrator.events import Kind
from pipelines.analysis import Run, load
from pipelines.terms import figure
from pipelines.why import why


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load(searched(tmp_path_factory.mktemp("why") / "run", trials=40))


def test_every_trial_has_a_paragraph_with_all_that_was_decided_about_it(run: Run) -> None:
    for trial in run.trials["trial"]:
        told = why(run, trial)
        assert told.startswith(f"Trial {trial} began after ")
        assert "\n" not in told and "nan" not in told.lower() and "<NA>" not in told
        own = run.events[(run.events["trial"] == trial) & (run.events["kind"] != Kind.TEST)]
        for reason in own["reason"]:
            assert reason in told
        for epoch in own[own["kind"] == Kind.PROMOTE]["stop_epoch"]:
            assert f"it went on to epoch {epoch}" in told


def test_the_places_it_names_are_those_of_the_trials_results(run: Run) -> None:
    best = run.epochs.groupby("trial")["validation_accuracy"].max()
    told = {t: why(run, t) for t in run.trials["trial"]}
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
        assert f"its best validation accuracy is {figure(float(best[t]))} " in told[t]


def test_what_the_model_expected_is_said_where_it_had_a_say(run: Run) -> None:
    starts = run.events[run.events["kind"] == Kind.START].set_index("trial")
    modelled = starts.index[starts["expected"].notna()]
    assert len(modelled)
    for trial in modelled:
        row = starts.loc[trial]
        assert f"the model expected {figure(-row['expected'])} at the last epoch" in why(run, trial)


def test_a_trial_that_failed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOYS)
    spec = toy_spec(
        tmp_path, "Raising", space={"floor": {"linear": [0, 1]}}, search={"given": [{"floor": 0.1}]}
    )
    folder = caviar.search(
        "wine",
        out=tmp_path / "run",
        spec_file=spec,
        added=Added(trials=3),
        crew=Crew(pool="inline"),
    ).folder
    assert "At epoch 1 it failed: " in why(load(folder), 0)
    assert "the second epoch is not for me" in why(load(folder), 0)


def test_a_trial_that_is_not_there_is_said_in_one_line(run: Run) -> None:
    with pytest.raises(RunError, match="needs one of its trials, 0 to 39, got 40"):
        why(run, 40)
