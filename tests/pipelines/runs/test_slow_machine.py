"""Disks that are slow, clocks that jump, many readers, little memory: a result, or one line."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_faults import started, wait_for_rows
from test_runs import check_tables, searched

import caviar as api
from orchestrator.errors import RunError
from orchestrator.store import log as log_module
from orchestrator.store import memory
from pipelines.cli import main
from pipelines.see.run import load_run
from pipelines.see.watch import draw_panel

RECORDED = Path(__file__).parents[2] / "recordings" / "run-0.2"
YEAR_SECONDS = 365 * 86400.0


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_on_a_disk_whose_fsync_takes_5_seconds_flushes_take_a_small_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, flushes = Clock(), 0
    monkeypatch.setattr(log_module.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(os, "fsync", lambda _: setattr(clock, "now", clock.now + 5.0))
    real = log_module.Log.flush

    def flush(log: log_module.Log, **options: bool) -> None:
        nonlocal flushes
        flushes += 1
        real(log, **options)

    monkeypatch.setattr(log_module.Log, "flush", flush)
    folder = searched(tmp_path / "run", trials=8)
    assert load_run(folder).status == "finished"
    check_tables(folder)
    assert flushes < 10


@pytest.mark.parametrize("jump", [YEAR_SECONDS, -YEAR_SECONDS])
def test_a_system_clock_that_jumps_by_a_year_changes_no_time_of_the_run(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = time.time, 0

    def jumping() -> float:
        nonlocal calls
        calls += 1
        return real() + jump * (calls > 3)

    monkeypatch.setattr(time, "time", jumping)
    folder = tmp_path / "run"
    api.search("wine", out=folder, trials=5, time="60s", pool="inline")
    run = load_run(folder)
    assert run.status == "finished"
    assert len(run.trials) == 5
    assert run.events["at_seconds"].max() < 60
    for part in folder.glob("*/part-*.parquet"):
        os.utime(part, (real() - jump, real() - jump))
    object.__setattr__(run, "status", "running")
    draw_panel(run)


def test_a_hundred_readers_at_once_see_whole_tables(tmp_path: Path) -> None:
    run = Path(shutil.copytree(RECORDED, tmp_path / "run"))
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(len(load_run(run).epochs)))
        for _ in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [len(load_run(run).epochs)] * 100


@pytest.mark.faults
@pytest.mark.timeout(200)
def test_readers_beside_a_running_search_see_whole_tables_that_only_grow(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with started(*f"search wine --pool inline --time 12s --out {folder}".split()) as process:
        wait_for_rows(folder, 1, process)
        wrong: list[str] = []

        def read() -> None:
            seen = 0
            while process.poll() is None:
                rows = len(load_run(folder).epochs)
                wrong.extend([f"{rows} after {seen}"] if rows < seen else [])
                seen = rows

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.communicate()
    assert process.returncode == 0
    assert not wrong
    check_tables(folder)


@pytest.mark.parametrize("words", ["show run", "why run 3", "search wine --pool inline --trials 2"])
@pytest.mark.parametrize("megabytes", [500, 1700])
def test_under_a_limit_of_the_address_space_a_command_says_what_it_needs(
    words: str, megabytes: int, tmp_path: Path
) -> None:
    shutil.copytree(RECORDED, tmp_path / "run")
    limit = megabytes * 10**6
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *words.split()],
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "needs an address space of 3 GB" in done.stderr


def test_tables_that_do_not_fit_into_memory_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(RECORDED, tmp_path / "run"))
    monkeypatch.setattr(memory, "measure_free_memory", lambda: 5e4)
    with pytest.raises(RunError, match=r"of memory, 5e\+04 bytes|50000 bytes are free") as caught:
        load_run(run)
    assert "\n" not in str(caught.value)


def test_a_driver_without_memory_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(RECORDED, tmp_path / "run"))

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 1.00 TiB")

    monkeypatch.setattr("pipelines.see.summary.summarize_run", fail)
    monkeypatch.setattr(sys, "argv", ["caviar", "show", str(run)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("caviar: needs more memory")
