"""Real processes, killed: whatever reached the disk is kept, and nothing stands twice."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from test_runs import check_tables, values

import caviar
from orchestrator.errors import RunError
from pipelines.data.model import load_model
from pipelines.runs.repair import replay_run
from pipelines.see.run import load_run
from pipelines.see.summary import summarize_run

pytestmark = pytest.mark.faults
COMMAND = [sys.executable, "-m", "pipelines.cli"]


@contextmanager
def started(
    *words: str, before: Sequence[str] = (), **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, in a process group of its own."""
    process = subprocess.Popen(
        [*before, *COMMAND, *words],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for_rows(folder: Path, rows: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if len(load_run(folder).epochs) >= rows:
                return
        except RunError:
            pass
        time.sleep(0.05)
    out, err = process.communicate() if process.poll() is not None else ("", "still running")
    raise AssertionError(f"{rows} rows never came: {out}\n{err}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_driver_killed_at_any_moment_loses_nothing_that_reached_the_disk(
    tmp_path: Path, kills: int
) -> None:
    rng = random.Random(0)
    folder = tmp_path / "run"
    total = 600 * kills
    spec = tmp_path / "spec.yaml"
    spec.write_text("search: {method: asha}\n")
    first = f"search wine --spec {spec} --pool inline --total-epochs {total} --out {folder} --quiet"
    again = f"resume {folder} --pool inline --quiet"
    known = pd.DataFrame()
    for kill in range(kills):
        with started(*(again if kill else first).split()) as process:
            wait_for_rows(folder, len(known) + 10, process)
            time.sleep(0.5 * rng.random())
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        run = load_run(folder)
        assert run.status == "killed"
        now = run.epochs[["trial", "epoch", "validation_log_loss"]]
        assert not now.duplicated(["trial", "epoch"]).any()
        if kill:
            pd.testing.assert_frame_equal(now.head(len(known)), known)  # nothing is lost
        known = now
    assert len(known) < total
    caviar.resume(folder, pool="inline")
    check_tables(folder)
    assert replay_run(folder).difference == ""
    run = load_run(folder)
    assert run.status == "finished"
    assert len(run.epochs) == total
    best = summarize_run(run)["best"]
    assert best is not None
    model = load_model(folder / "best")
    assert (model.trial, model.epoch) == (best["trial"], best["epoch"])
    assert best["test"]["accuracy"] > 0.8


def test_a_run_can_be_shown_whose_driver_died_between_epochs_and_events(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    caviar.search("wine", out=folder, trials=9, pool="inline")
    best = summarize_run(load_run(folder))["best"]
    assert best is not None
    events, trials = (folder / name / "part-00000.parquet" for name in ("events", "trials"))
    rows = pq.read_table(events)
    frame = rows.to_pandas()
    (begin,) = frame.loc[(frame["kind"] == "start") & (frame["trial"] == best["trial"]), "seq"]
    events.rename(events.with_name(f".{events.name}.staged"))
    pq.write_table(rows.filter(pc.less(rows["seq"], begin)), events)
    known = pq.read_table(trials)
    pq.write_table(known.filter(pc.less(known["trial"], best["trial"])), trials)
    found = summarize_run(load_run(folder))
    assert found["status"] == "killed"
    assert found["trials"] == best["trial"]


def test_a_clock_that_is_set_back_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = itertools.count(0, -3600)
    monkeypatch.setattr(time, "time", lambda: 1.8e9 + next(hours))
    folder = tmp_path / "run"
    for _ in range(2):
        caviar.search("wine", out=folder, time=1, pool="inline")
    check_tables(folder)
    run = load_run(folder)
    for table in (run.events, run.epochs):
        assert table.sort_values("seq")["at_seconds"].is_monotonic_increasing
    assert 2 <= run.events["at_seconds"].max() < 6
    assert replay_run(folder).difference == ""


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """With one worker and a budget of trials, no decision depends on time."""
    words = "wine --pool inline --trials 120 --seed 3 --quiet".split()
    whole = tmp_path / "whole"
    caviar.search("wine", out=whole, trials=120, pool="inline", seed=3)
    folder = tmp_path / "killed"
    with started("search", *words, "--out", str(folder)) as process:
        wait_for_rows(folder, 60, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    caviar.resume(folder, pool="inline")
    check_tables(folder)
    a, b = values(whole)["epochs"], values(folder)["epochs"]
    shared = ["trial", "epoch", "validation_accuracy", "validation_log_loss", "train_loss"]
    pd.testing.assert_frame_equal(
        a[shared].sort_values(shared[:2], ignore_index=True),
        b[shared].sort_values(shared[:2], ignore_index=True),
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_cleanly_and_says_how_to_go_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = f"search wine --pool inline --time 60s --out {folder}".split()
    with started(*words) as process:
        wait_for_rows(folder, 20, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"caviar resume {folder}" in out
    assert err == ""
    assert "\x1b" not in out
    check_tables(folder)
    assert load_run(folder).status == "interrupted"


@pytest.mark.slow
def test_a_session_that_nohup_started_survives_its_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = f"search wine --pool inline --total-epochs 600 --quiet --out {folder}".split()
    with started(*words, before=["nohup"]) as process:
        wait_for_rows(folder, 20, process)
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert len(load_run(folder).epochs) == 600


@pytest.mark.slow
def test_a_second_writer_exits_2_and_the_first_goes_on(tmp_path: Path, caviar: Any) -> None:
    folder = tmp_path / "run"
    words = f"search wine --pool inline --time 60s --out {folder}".split()
    with started(*words) as process:
        wait_for_rows(folder, 5, process)
        done = caviar("resume", str(folder), "--pool", "inline", code=2)
        assert f"process {process.pid} on" in done.stderr
        assert done.stderr.count("\n") == 1
        shown = caviar("show", str(folder))
        assert "(running)" in shown.stdout
        assert process.poll() is None


def asked_again(read: Callable[[], int]) -> int:
    """What a reader finds that opens a file twice, and may find another one the second time."""
    for _ in range(3):
        try:
            return read()
        except (duckdb.Error, polars.exceptions.PolarsError, OSError):
            time.sleep(0.01)
    return read()


@pytest.mark.slow
def test_pandas_duckdb_and_polars_read_while_the_run_writes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = f"search wine --pool inline --time 6s --out {folder} --quiet".split()
    files = folder / "epochs" / "*.parquet"
    query = f"select count(*) from '{files}'"
    with started(*words) as process:
        wait_for_rows(folder, 1, process)
        counts = []
        while process.poll() is None:
            counts.append(len(pd.read_parquet(folder / "epochs")))
            counts.append(asked_again(lambda: duckdb.sql(query).fetchall()[0][0]))
            counts.append(asked_again(lambda: polars.read_parquet(files).height))
            time.sleep(0.02)
    assert counts == sorted(counts)
    assert len(set(counts)) >= 3
