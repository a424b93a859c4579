"""Looking on from outside: what is shown is what the tables say, and nothing is touched."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from test_faults import started, wait_for_rows
from test_runs import searched

from orchestrator.errors import RunError
from orchestrator.search.events import Kind
from pipelines.see.run import RunTables, load_run
from pipelines.see.watch import draw_panel, draw_sparkline, estimate_run_time_left, watch_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunTables:
    return load_run(searched(tmp_path_factory.mktemp("watch") / "run", trials=40))


def drawn(run: RunTables) -> str:
    file = io.StringIO()
    Console(file=file, width=100).print(draw_panel(run))
    return file.getvalue()


def test_a_sparkline_rises_with_its_values_and_has_a_gap_where_there_is_none() -> None:
    assert draw_sparkline(np.arange(8)) == "▁▂▃▄▅▆▇█"
    assert draw_sparkline(np.array([1.0, np.nan, 1.0])) == "▁ ▁"
    assert draw_sparkline(np.array([np.inf, np.nan])) == "  "
    assert len(draw_sparkline(np.random.default_rng(0).random(1000), 27)) == 27


def test_it_shows_the_best_the_stage_and_what_became_of_the_trials(run: RunTables) -> None:
    told = drawn(run)
    best = run.epochs["validation_accuracy"].max()
    assert f"validation accuracy {best:.4g}"[:24] in told
    assert "fine, box" in told
    assert f"40 ({(run.trials['status'] == 'PAUSED').sum()} paused" in told.replace("\n", " ")
    assert "(finished)" in told


def test_a_running_run_shows_its_workers_and_how_long_it_has(run: RunTables) -> None:
    trials, epochs = run.trials.copy(), run.epochs.sort_values("seq", ignore_index=True)
    last = epochs["trial"].iloc[-1]
    trials.loc[trials["trial"] == last, "status"] = "RUNNING"
    live = replace(
        run, trials=trials, epochs=epochs, status="running", session=replace(run.session, workers=3)
    )
    assert drawn(live).count("between trials") == 3
    epochs.loc[epochs.index[-1], "last"] = False
    told = drawn(live)
    assert f"worker 0  trial {last}" in told
    assert "worker 1  between trials" in told and "worker 2  between trials" in told
    assert "1 in flight" in told


def test_the_time_left_of_a_budget_of_trials_goes_by_those_begun(run: RunTables) -> None:
    events = run.events.copy()
    session, starts = events["kind"] == Kind.SESSION, events["kind"] == Kind.START
    events.loc[session, ["budget_trials", "budget_epochs"]] = [100, None]
    events.loc[session, "at_seconds"] = 0.0
    events.loc[starts, "at_seconds"] = np.linspace(0, 10, 40)
    found = estimate_run_time_left(replace(run, events=events), 10.0)
    assert found is not None
    assert found.seconds == pytest.approx(15, rel=0.05)
    assert found.low <= 15 <= found.high < 20
    events.loc[session, "budget_trials"] = 40
    assert estimate_run_time_left(replace(run, events=events), 10.0) is None


def test_the_time_left_of_a_budget_of_epochs_is_the_rest_at_its_pace(run: RunTables) -> None:
    events, epochs = run.events.copy(), run.epochs.copy()
    session = events["kind"] == Kind.SESSION
    events.loc[session, ["budget_trials", "budget_epochs"]] = [None, 3 * len(epochs)]
    events.loc[session, "at_seconds"] = 0.0
    epochs["at_seconds"] = np.linspace(0, 10, len(epochs))
    steady = estimate_run_time_left(replace(run, events=events, epochs=epochs), 10.0)
    assert steady is not None
    assert steady.seconds == pytest.approx(20, rel=0.02)
    assert steady.low <= steady.seconds <= steady.high
    assert steady.high - steady.low < 5
    epochs["at_seconds"] = 10 * np.linspace(0, 1, len(epochs)) ** 3
    unsteady = estimate_run_time_left(replace(run, events=events, epochs=epochs), 10.0)
    assert unsteady is not None
    assert unsteady.high - unsteady.low > steady.high - steady.low
    events.loc[session, "budget_seconds"] = 12.0
    sooner = estimate_run_time_left(replace(run, events=events, epochs=epochs), 10.0)
    assert sooner is not None
    assert str(sooner) == "2.0 s left"


def test_where_there_is_no_run_it_says_what_begins_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"`caviar search DATA --out {tmp_path}` begins one"):
        watch_run(tmp_path, console=Console(file=io.StringIO()))


def test_without_a_terminal_it_looks_once_and_touches_nothing(run: RunTables) -> None:
    def files() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}

    before = files()
    watch_run(run.folder, console=Console(file=io.StringIO(), width=100))
    assert files() == before


@pytest.mark.slow
def test_it_follows_a_run_to_its_end_and_draws_what_it_came_to(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = f"search wine --pool inline --time 5s --out {folder} --quiet".split()
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True)
    with started(*words) as process:
        wait_for_rows(folder, 5, process)
        watch_run(folder, console=console)
        process.wait()
    told = file.getvalue()
    assert "(running)" in told
    assert "(finished)" in told
    assert told.count("\x1b[?25l") == told.count("\x1b[?25h")  # the cursor is given back
