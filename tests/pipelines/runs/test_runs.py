"""Whole runs in this process: what a run's folder says must be true."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss

import caviar
from caviar import CaviarError, InputError
from orchestrator.errors import RunError
from orchestrator.runtime.pool import InlinePool
from orchestrator.store.lock import Lock
from pipelines.cli import main
from pipelines.data.datasets import read_table
from pipelines.data.model import load_model
from pipelines.data.splits import split_rows
from pipelines.runs import launch
from pipelines.runs.execution import ExecutionOptions, make_budget
from pipelines.runs.new_spec import SearchRequest
from pipelines.see.placement import locate_best_values
from pipelines.see.run import load_run
from pipelines.see.summary import summarize_run

INLINE = ExecutionOptions(pool="inline")
TOYS = str(Path(__file__).parents[2] / "toys")


def searched(
    folder: Path,
    source: str = "wine",
    *,
    trials: int = 12,
    spec_file: Path | None = None,
    **typed: Any,
) -> Path:
    """The folder of a search in this process, however it ended."""
    request = SearchRequest(source=source, spec=spec_file, trust_trainer=True, **typed)
    budget = make_budget(None, trials, None)
    return launch.search(request, out=folder, budget=budget, options=INLINE).folder


def toy_spec(folder: Path, trainer: str, **changes: Any) -> Path:
    """A spec for a trainer of the user's own, with one hyperparameter."""
    path = folder / "toy.yaml"
    space = {"floor": {"linear": [0, 1]}}
    content = {"trainer": f"toy_trainers:{trainer}", "max_epochs": 9, "space": space} | changes
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOYS)


def check_tables(folder: Path) -> None:
    """What holds for every run that is not running."""
    run = load_run(folder)
    epochs, trials = run.epochs, run.trials
    assert not epochs.duplicated(["trial", "epoch"]).any()
    for trial, rows in epochs.groupby("trial")["epoch"]:
        assert sorted(rows) == list(range(1, len(rows) + 1)), f"trial {trial} has a gap"
    assert "RUNNING" not in set(trials["status"])
    assert list(trials["trial"]) == list(range(len(trials)))
    counted = epochs.groupby("trial")["epoch"].max().reindex(trials["trial"], fill_value=0)
    assert list(counted) == list(trials["epochs"])
    seqs = sorted([*run.events["seq"], *epochs["seq"]])
    assert len(set(seqs)) == len(seqs)
    told = run.events[run.events["trial"].notna()]
    assert told["reason"].str.len().gt(0).all()


def untimed(details: str) -> str:
    """An end's details without the workers' time."""
    return json.dumps({k: v for k, v in json.loads(details).items() if k != "worker_seconds"})


def values(folder: Path) -> dict[str, pd.DataFrame]:
    """A run's tables without the columns that measure time."""
    run = load_run(folder)
    events = run.events[~run.events["kind"].isin(["session"])].drop(columns=["at_seconds"])
    ends = events["kind"] == "end"
    events.loc[ends, "details"] = [untimed(text) for text in events.loc[ends, "details"]]
    return {
        "events": events,
        "epochs": run.epochs.drop(columns=["at_seconds", "epoch_seconds"]),
        "trials": run.trials.drop(
            columns=["started_at_seconds", "ended_at_seconds", "epoch_seconds"]
        ),
    }


@pytest.mark.usefixtures("toys")
def test_utilisation_is_of_the_workers_that_were_there_not_of_those_a_run_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec_file = toy_spec(tmp_path, "Slow", max_epochs=3)
    monkeypatch.setattr(InlinePool, "workers", 3)  # it says 1 when the session begins
    folder = searched(tmp_path / "run", trials=2, spec_file=spec_file)
    assert 0.1 < summarize_run(load_run(folder))["utilisation"] <= 1 / 3


def test_the_same_seed_gives_the_same_trials_epochs_and_decisions(tmp_path: Path) -> None:
    a = values(searched(tmp_path / "a", trials=30, seed=7))
    b = values(searched(tmp_path / "b", trials=30, seed=7))
    c = values(searched(tmp_path / "c", trials=30, seed=8))
    for name in a:
        pd.testing.assert_frame_equal(a[name], b[name])
    assert not a["trials"].equals(c["trials"])


def test_a_run_is_coarse_first_then_fine_and_says_where_fine_trials_come_from(
    tmp_path: Path,
) -> None:
    run = load_run(searched(tmp_path / "run", trials=40))
    check_tables(tmp_path / "run")
    stages = list(run.trials["stage"])
    assert stages == sorted(stages)  # coarse comes before fine
    fine = run.trials[run.trials["stage"] == "fine"]
    assert set(fine["zoom"]) == {1, 2}
    starts = run.events[run.events["kind"] == "start"].set_index("trial")
    for trial, parents in zip(fine["trial"], fine["parents"], strict=True):
        assert len(parents) > 0
        assert max(parents) < trial
        start = starts.loc[trial]
        if pd.isna(start["expected"]):
            assert start["reason"].startswith("from box")  # too early for the model
            continue
        units = {name: start[f"unit_{name}"] for name in json.loads(start["box"])}
        inside = all(
            pd.isna(units[name]) or low <= units[name] <= high
            for name, (low, high) in json.loads(start["box"]).items()
        )
        assert ("inside box" in start["reason"]) == inside
        assert start["expected_low"] < start["expected"] < start["expected_high"]


def test_a_budget_of_trials_trains_the_best_to_the_end(tmp_path: Path, toys: None) -> None:
    spec = toy_spec(tmp_path, "Toy")
    for trials in (1, 2, 5):
        run = load_run(searched(tmp_path / str(trials), trials=trials, spec_file=spec))
        assert len(run.trials) == trials
        completed = run.trials[run.trials["status"] == "COMPLETED"]
        assert list(completed["epochs"].unique()) == [9]


def test_a_budget_of_epochs_is_kept_to_the_epoch(tmp_path: Path) -> None:
    caviar.search("wine", out=tmp_path / "run", epochs=50, pool="inline")
    assert len(load_run(tmp_path / "run").epochs) == 50
    check_tables(tmp_path / "run")
    caviar.resume(tmp_path / "run", epochs=25, pool="inline")
    assert len(load_run(tmp_path / "run").epochs) == 75
    check_tables(tmp_path / "run")


def test_a_budget_of_time_ends_the_run_and_what_was_in_flight_goes_on_later(
    tmp_path: Path,
) -> None:
    caviar.search("wine", out=tmp_path / "run", time=1.5, pool="inline")
    check_tables(tmp_path / "run")
    first = load_run(tmp_path / "run")
    assert 1.5 <= summarize_run(first)["seconds"] < 4
    caviar.resume(tmp_path / "run", time=60, trials=1, pool="inline")
    check_tables(tmp_path / "run")
    second = load_run(tmp_path / "run")
    stopped = first.trials[first.trials["status"] == "STOPPED"]["trial"]
    after = second.trials.set_index("trial").loc[stopped]
    assert not (after["status"] == "STOPPED").any()
    pd.testing.assert_frame_equal(second.epochs.head(len(first.epochs)), first.epochs)


def test_budgets_on_an_existing_run_are_added_and_searched_from_coarse_to_fine(
    tmp_path: Path,
) -> None:
    searched(tmp_path / "run", trials=20)
    searched(tmp_path / "run", trials=20)
    run = load_run(tmp_path / "run")
    check_tables(tmp_path / "run")
    assert len(run.trials) == 40
    stages = list(run.trials["stage"])
    assert stages[20:] == sorted(stages[20:])
    assert "coarse" in stages[20:]
    assert list(run.events[run.events["kind"] == "zoom"]["zoom"]) == [1, 2, 3, 4]


def test_a_finished_run_says_that_its_budget_is_used_up(tmp_path: Path) -> None:
    searched(tmp_path / "run", trials=5)
    with pytest.raises(RunError, match="used up its budget; add to it"):
        caviar.resume(tmp_path / "run", pool="inline")


def test_another_spec_is_refused_and_said_how_it_differs(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run", trials=3)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(RunError, match="seed: 0 -> 5"):
        searched(folder, trials=3, seed=5)
    with pytest.raises(RunError, match=r"data\.fingerprint"):
        searched(folder, "digits", trials=3)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run", trials=3)
    lock = Lock(folder)
    with pytest.raises(RunError, match=r"process \d+ on .* is writing to this run"):
        caviar.resume(folder, trials=1, pool="inline")
    assert load_run(folder).status == "running"
    lock.release()
    assert load_run(folder).status == "finished"


def test_data_that_has_changed_is_refused_and_data_that_has_moved_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((60, 3)), columns=["a", "b", "c"])
    frame["label"] = np.where(frame["a"] > 0.5, "big", "small")
    frame.to_csv(tmp_path / "one.csv", index=False)
    folder = searched(tmp_path / "run", str(tmp_path / "one.csv"), trials=3)
    (tmp_path / "one.csv").rename(tmp_path / "two.csv")
    searched(folder, str(tmp_path / "two.csv"), trials=2)
    assert len(load_run(folder).trials) == 5
    frame.assign(a=0.25).to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(RunError, match="not those this run was made with"):
        caviar.resume(folder, trials=1, pool="inline")


def test_the_best_model_gives_the_figures_that_the_run_says(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run", "digits", trials=12)
    best = summarize_run(load_run(folder))["best"]
    x, y = load_digits(return_X_y=True)
    parts = split_rows(read_table("digits"), task="classification", seed=0)
    frame = pd.DataFrame(x, columns=[str(c) for c in read_table("digits").features.columns])
    for part in ("validation", "test"):
        rows = getattr(parts, part)
        frame.iloc[rows].to_csv(tmp_path / "part.csv", index=False)
        predicted, _ = load_model(folder / "best").predict(str(tmp_path / "part.csv"))
        chances = predicted[[f"probability_{c}" for c in range(10)]].to_numpy()
        found = best[part]
        assert found["accuracy"] == pytest.approx(accuracy_score(y[rows], predicted["prediction"]))
        assert found["log_loss"] == pytest.approx(log_loss(y[rows], chances), rel=1e-4)


def test_regression_is_decided_by_rmse(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run", "diabetes", trials=12)
    run = load_run(folder)
    best = summarize_run(run)["best"]
    assert best["metric"] == "validation_rmse"
    assert best["validation"]["rmse"] == pytest.approx(run.epochs["validation_rmse"].min())
    assert set(best["test"]) == {"rmse", "mae", "r2"}


def test_another_metric_can_decide(tmp_path: Path) -> None:
    run = load_run(searched(tmp_path / "run", trials=8, metric="log_loss"))
    best = summarize_run(run)["best"]
    assert best["metric"] == "validation_log_loss"
    lowest = run.epochs.loc[run.epochs["validation_log_loss"].idxmin()]
    assert (best["trial"], best["epoch"]) == (lowest["trial"], lowest["epoch"])


def test_a_run_of_many_trials_leaves_few_files(tmp_path: Path, toys: None) -> None:
    spec = toy_spec(tmp_path, "Toy")
    folder = searched(tmp_path / "run", trials=300, spec_file=spec)
    files = [p for p in folder.rglob("*") if p.is_file() and p.parent.name != "checkpoints"]
    assert len(files) <= 12, files


def test_a_trainer_that_raises_fails_its_trial_and_the_run_goes_on(
    tmp_path: Path, toys: None
) -> None:
    spec = toy_spec(tmp_path, "Raising")
    run = load_run(searched(tmp_path / "run", trials=9, spec_file=spec))
    check_tables(tmp_path / "run")
    failed = run.events[run.events["kind"] == "fail"]
    assert len(failed) > 0
    assert failed["details"].str.contains("the second epoch is not for me").all()
    assert (run.trials["status"] == "PAUSED").any()


def test_a_metric_that_was_not_declared_fails_the_trial_and_is_named(
    tmp_path: Path, toys: None
) -> None:
    spec = toy_spec(tmp_path, "Undeclared")
    with pytest.raises(CaviarError, match=r"every trial failed: .*surprise"):
        caviar.search(
            "wine",
            out=tmp_path / "run",
            trials=3,
            pool="inline",
            spec=spec,
            trust_trainer=True,
        )
    trials = load_run(tmp_path / "run").trials
    assert set(trials["status"]) == {"FAILED"}
    assert trials["reason"].str.contains("surprise").all()


def test_a_run_in_which_every_trial_fails_says_so_and_exits_1(
    tmp_path: Path,
    toys: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = toy_spec(tmp_path, "NeverTrains")
    words = (
        f"caviar search wine --spec {spec} --trust-trainer --pool inline --out {tmp_path / 'run'}"
    )
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert "every trial failed: RuntimeError: no epoch ever" in told.err
    assert told.err.count("\n") == 1


def test_a_loss_that_is_not_finite_is_diverged_and_never_the_best(
    tmp_path: Path, toys: None
) -> None:
    spec = toy_spec(tmp_path, "Diverging")
    run = load_run(searched(tmp_path / "run", trials=9, spec_file=spec))
    check_tables(tmp_path / "run")
    diverged = run.trials[run.trials["status"] == "DIVERGED"]
    assert len(diverged) > 0
    assert (diverged["epochs"] == 2).all()
    assert diverged["reason"].str.contains("validation_loss is nan").all()
    best = summarize_run(run)["best"]
    assert best is not None
    assert best["epoch"] == 1


@pytest.mark.parametrize("pruning", ["median", "none", "asha"])
@pytest.mark.parametrize("sampler", ["grid", "random", "sobol"])
def test_every_sampler_works_with_every_pruning(
    sampler: str, pruning: str, tmp_path: Path, toys: None
) -> None:
    search = {"sampler": sampler, "pruning": pruning, "grid_levels": 12}
    spec = toy_spec(tmp_path, "Toy", search=search)
    run = load_run(searched(tmp_path / "run", trials=20, spec_file=spec))
    check_tables(tmp_path / "run")
    assert len(run.trials) == 20
    assert (run.trials["status"] == "COMPLETED").any()
    if pruning == "none":
        assert set(run.trials["epochs"]) == {9}


def test_configurations_given_in_the_spec_are_tried_first(tmp_path: Path, toys: None) -> None:
    search = {"initial_configs": [{"floor": 0.125}, {"floor": 0.75}]}
    spec = toy_spec(tmp_path, "Toy", search=search)
    trials = load_run(searched(tmp_path / "run", trials=6, spec_file=spec)).trials
    assert list(trials["stage"][:3]) == ["given", "given", "coarse"]
    assert list(trials["config_floor"][:2]) == [0.125, 0.75]


def test_a_value_on_the_border_of_its_range_is_warned_of(tmp_path: Path, toys: None) -> None:
    search = {"initial_configs": [{"floor": 0.0}]}
    spec = toy_spec(tmp_path, "Toy", search=search)
    folder = searched(tmp_path / "run", trials=4, spec_file=spec)
    found = locate_best_values(load_run(folder))
    assert [(p.name, p.border) for p in found] == [("floor", "low")]


def test_states_over_their_budget_prune_the_least_promising(tmp_path: Path, toys: None) -> None:
    spec = toy_spec(tmp_path, "Toy", search={"state_budget": 1000})
    run = load_run(searched(tmp_path / "run", trials=30, spec_file=spec))
    check_tables(tmp_path / "run")
    pruned = run.trials[run.trials["status"] == "PRUNED"]
    assert len(pruned) > 0
    assert pruned["reason"].str.contains("budget").all()


def test_what_a_run_prints_as_json_is_all_that_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"caviar search wine --pool inline --trials 5 --json --out {tmp_path / 'run'}"
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert told.err == ""
    found = json.loads(told.out)
    wanted = "run status seconds trials epochs paused pruned diverged failed utilisation best"
    assert set(wanted.split()) <= set(found)
    assert set(found["best"]) >= {
        "trial", "epoch", "stage", "config", "validation", "test", "model",
    }  # fmt: skip
    assert set(found["best"]["validation"]) == {"accuracy", "log_loss"}
    assert set(found["best"]["test"]) == {"accuracy", "log_loss"}
    assert 0 < found["utilisation"] <= 1
    assert (found["trials"], found["status"]) == (5, "finished")


def test_a_damaged_or_missing_best_model_is_made_anew(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run", trials=6)
    figures = summarize_run(load_run(folder))["best"]["test"]
    for harm in (lambda p: p.write_bytes(p.read_bytes()[:100]), lambda p: p.unlink()):
        harm(folder / "best" / "model.safetensors")
        with pytest.raises(RunError, match=r"caviar resume|cannot be read"):
            load_model(folder / "best")
        caviar.resume(folder, epochs=1, pool="inline")
        assert load_model(folder / "best").trial == summarize_run(load_run(folder))["best"]["trial"]
    if summarize_run(load_run(folder))["best"]["epoch"]:
        assert summarize_run(load_run(folder))["best"]["test"] == figures


def test_a_run_without_any_result_has_failed(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("search: {explode_above: 1.0e-9}")
    with pytest.raises(CaviarError, match="no trial had a result"):
        caviar.search(
            "wine", out=tmp_path / "run", trials=5, pool="inline", spec=tmp_path / "spec.yaml"
        )
    assert load_run(tmp_path / "run").status == "failed"


def test_tables_that_do_not_fit_together_are_an_error_of_one_line(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run", trials=6)
    (folder / "epochs" / "part-00000.parquet").unlink()
    with pytest.raises(RunError, match="do not fit together"):
        caviar.resume(folder, trials=1, pool="inline")


def test_a_range_of_its_own_keeps_what_a_parameter_depends_on(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("space: {units: 32, momentum_beta: {linear: [0.5, 0.9]}}")
    trials = load_run(searched(tmp_path / "run", spec_file=tmp_path / "spec.yaml")).trials
    assert set(trials["config_units_1"]) == {32}
    with_beta = trials["config_momentum_beta"].notna()
    assert (with_beta == (trials["config_optimizer"] == "momentum")).all()


def test_what_a_trainer_prints_does_not_stand_beside_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loud.py").write_text(
        "from toy_trainers import Toy\n\nclass Loud(Toy):\n"
        "    def epoch(self):\n        print('hello')\n        return super().epoch()\n"
    )
    monkeypatch.syspath_prepend(TOYS)
    (tmp_path / "spec.yaml").write_text("trainer: loud:Loud\nspace: {floor: {linear: [0, 1]}}\n")
    words = f"caviar search wine --spec {tmp_path}/spec.yaml --pool inline --trials 2 --json"
    out = ["--trust-trainer", "--out", str(tmp_path / "a run")]
    monkeypatch.setattr(sys, "argv", [*words.split(), *out])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["trials"] == 2
    assert "hello" in told.err


def test_a_folder_that_holds_no_run_is_refused_by_the_python_api_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the folder of a run"):
        caviar.load(tmp_path)
