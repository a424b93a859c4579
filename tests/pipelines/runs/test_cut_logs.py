"""A run whose driver was killed after any entry of its log: it goes on, and it ends well."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_bad_input import typed
from test_runs import INLINE, check_tables, searched

from orchestrator.errors import RunError
from orchestrator.runtime.session import Session
from orchestrator.search.budget import Budget
from orchestrator.search.events import SessionEnded, ZoomedIn
from orchestrator.search.messages import Entry, Observation
from orchestrator.store.log import Log
from orchestrator.store.reading import read_entries
from pipelines.data.model import load_model
from pipelines.runs import launch
from pipelines.runs.from_spec import make_tables
from pipelines.runs.new_spec import SearchRequest
from pipelines.runs.repair import repair, replay_run
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec
from pipelines.see.summary import describe_best

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TRIALS = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("whole") / "run", trials=TRIALS, max_epochs=4)


def entries_of(run: Path) -> list[tuple[float, Entry]]:
    tables = make_tables(read_run_spec(run))
    return [(at_seconds, entry) for _, at_seconds, entry in read_entries(run, tables)]


def cut(run: Path, folder: Path, length: int) -> Path:
    """The folder as a driver leaves it that is killed after a flush of its first entries.

    The trials table, the checkpoints and the best model come later than the rows; they are missing.
    """
    folder.mkdir()
    shutil.copy(run / "spec.yaml", folder)
    log = Log(folder, make_tables(read_run_spec(run)))
    for at_seconds, entry in entries_of(run)[:length]:
        log.append(entry, at_seconds)
    log.flush()
    assert not list((folder / "trials").iterdir())
    return folder


def check_whole(folder: Path) -> None:
    """The run has ended, its tables fit together, and its best model has its test figures."""
    check_tables(folder)
    run = load_run(folder)
    assert run.status == "finished"
    assert list(pd.read_parquet(folder / "trials")["status"]) == list(run.trials["status"])
    best = describe_best(run)
    assert best is not None and best["test"]
    model = load_model(folder / "best")
    assert (model.trial, model.epoch) == (best["trial"], best["epoch"])


def test_a_run_goes_on_from_every_prefix_of_its_log(whole: Path, tmp_path: Path) -> None:
    entries = entries_of(whole)
    for length in range(1, len(entries)):
        folder = cut(whole, tmp_path / f"run-{length}", length)
        assert launch.resume(folder, options=INLINE).ending.status == "finished"
        check_whole(folder)
        assert len(load_run(folder).trials) == TRIALS
        kept = [entry for _, entry in entries_of(folder)[:length]]
        assert kept == [entry for _, entry in entries[:length]]  # no row is changed
        if not isinstance(entries[length - 1][1], ZoomedIn):  # one decision with the next start
            assert replay_run(folder).difference == ""


def test_a_run_goes_on_from_every_prefix_of_its_log_after_a_repair(
    whole: Path, tmp_path: Path
) -> None:
    for length in range(1, len(entries_of(whole)), 3):
        folder = cut(whole, tmp_path / f"run-{length}", length)
        repair(folder)
        assert launch.resume(folder, options=INLINE).ending.status == "finished"
        check_whole(folder)


def test_a_report_without_its_decision_gets_the_same_one(whole: Path, tmp_path: Path) -> None:
    entries = entries_of(whole)
    last = [i for i, (_, e) in enumerate(entries) if isinstance(e, Observation) and e.report.last]
    for index in last:
        folder = cut(whole, tmp_path / f"run-{index}", index + 1)
        launch.resume(folder, options=INLINE)
        assert entries_of(folder)[index + 1][1] == entries[index + 1][1]


def test_a_killed_run_whose_budget_is_spent_is_closed_and_then_it_is_used_up(
    whole: Path, tmp_path: Path
) -> None:
    entries = entries_of(whole)
    assert isinstance(entries[-1][1], SessionEnded)  # nothing follows that a kill could cost
    folder = cut(whole, tmp_path / "run", len(entries) - 2)
    assert launch.resume(folder, options=INLINE).ending.status == "finished"
    check_whole(folder)
    with pytest.raises(RunError, match="used up its budget"):
        launch.resume(folder, options=INLINE)


@pytest.mark.parametrize("limit", [Budget(seconds=1.0), Budget(epochs=12)])
def test_budgets_of_time_and_epochs_are_closed_too(limit: Budget, tmp_path: Path) -> None:
    request = SearchRequest(source="wine")
    run = launch.search(request, out=tmp_path / "run", budget=limit, options=INLINE).folder
    entries = entries_of(run)
    folder = cut(run, tmp_path / "cut", len(entries) - 2)
    launch.resume(folder, options=INLINE)
    check_whole(folder)
    assert len(load_run(folder).epochs) == len(load_run(run).epochs)


def test_a_refused_resume_brings_the_trials_table_up_to_date(whole: Path, tmp_path: Path) -> None:
    folder = cut(whole, tmp_path / "run", len(entries_of(whole)))
    with pytest.raises(RunError, match="used up its budget"):
        launch.resume(folder, options=INLINE)
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "trials"), pd.read_parquet(whole / "trials")
    )


def test_finalists_end_from_every_prefix_of_their_log(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = f"finalists {whole} --top 2 --seeds 2 --pool inline --quiet --out"
    made = tmp_path / "made"
    assert typed(f"{words} {made}", monkeypatch) == 0
    ranking = capsys.readouterr().out
    for length in range(0, len(entries_of(made)), 3):
        folder = cut(made, tmp_path / f"run-{length}", length)
        assert typed(f"{words} {folder}", monkeypatch) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert re.sub(r"model .*", "", printed.out) == re.sub(r"model .*", "", ranking)
        assert len(load_run(folder).trials) == 4


def test_a_run_that_was_killed_before_its_first_row_goes_on_with_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"

    def kill(session: Session) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(Session, "run", kill)
        typed(f"search wine --trials {TRIALS} --pool inline --quiet --out {folder}", monkeypatch)
    assert not list((folder / "events").glob("*.parquet"))
    capsys.readouterr()
    assert typed(f"resume {folder} --pool inline --quiet", monkeypatch) == 0
    assert capsys.readouterr().err == ""
    check_whole(folder)
    assert len(load_run(folder).trials) == TRIALS
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("content", ["[", "trials: many", "- 3", "seconds: -.inf", "link"])
def test_a_first_budget_that_cannot_be_used_is_asked_for(
    content: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = cut(whole, tmp_path / "run", 0)
    if content == "link":
        (folder / ".budget.yaml").symlink_to(folder / "spec.yaml")
    else:
        (folder / ".budget.yaml").write_text(content)
    assert typed(f"resume {folder} --pool inline", monkeypatch) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_without_rows_and_without_a_first_budget_asks_for_its_budget(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut(whole, tmp_path / "run", 0)
    assert typed(f"resume {folder} --pool inline", monkeypatch) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "killed before its budget was written; name it again" in err
    assert "--time 60s" in err
    assert typed(f"resume {folder} --pool inline --trials {TRIALS} --quiet", monkeypatch) == 0
    check_whole(folder)
