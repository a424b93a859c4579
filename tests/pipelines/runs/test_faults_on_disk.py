"""A disk that is full or may not be written to: one line, and what it holds stays whole."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_faults import started, wait_for_rows
from test_runs import check_tables

from pipelines.runs.repair import replay_run
from pipelines.see.run import load_run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]


class Disk:
    """A file system of its own, in memory, mounted where a test may fill it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def mount(self, *words: str) -> None:
        subprocess.run(["mount", *words], check=True, capture_output=True, text=True)

    def resize(self, size: str) -> None:
        self.mount("-o", f"remount,size={size}", str(self.place))

    def protect(self, folder: Path) -> None:
        """What is opened below the folder from now on can only be read."""
        self.mount("--bind", str(folder), str(folder))
        self.mount("-o", "remount,bind,ro", str(folder))

    def unprotect(self, folder: Path) -> None:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield Disk(place)
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_ends_the_run_in_one_line_and_it_goes_on_where_there_is_room(
    disk: Disk, caviar: Any
) -> None:
    disk.resize("30m")
    folder = disk.place / "run"
    words = f"search digits --pool inline --total-epochs 900 --out {folder} --quiet".split()
    done = caviar(*words, code=2)
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    assert "`caviar resume` goes on" in done.stderr
    assert not list(folder.rglob("*.tmp"))
    known = load_run(folder).epochs
    assert len(known)

    disk.resize("500m")
    caviar("resume", str(folder), "--pool", "inline", "--quiet")
    check_tables(folder)
    run = load_run(folder)
    assert run.status == "finished"
    assert len(run.epochs) == 900
    assert run.epochs.head(len(known))["validation_log_loss"].equals(known["validation_log_loss"])
    assert replay_run(folder).difference == ""


def test_a_disk_without_any_room_is_said_and_nothing_is_left_behind(
    disk: Disk, caviar: Any
) -> None:
    (disk.place / "all").write_bytes(b"0" * 2**16)
    disk.resize("64k")
    done = caviar("search", "wine", "--pool", "inline", "--out", str(disk.place / "run"), code=2)
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    assert not (disk.place / "run").exists()


def test_a_folder_that_may_not_be_written_to_is_said_before_any_work(
    disk: Disk, caviar: Any
) -> None:
    folder = disk.place / "run"
    words = f"search wine --pool inline --trials 9 --out {folder}".split()
    caviar(*words)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    disk.protect(folder)
    try:
        for again in (words, ["resume", str(folder), "--trials", "9", "--pool", "inline"]):
            done = caviar(*again, code=2)
            assert done.stderr.count("\n") == 1
            assert re.search("needs a (folder|place) that can be written to", done.stderr)
        caviar("show", str(folder))  # looking needs no permission
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    finally:
        disk.unprotect(folder)


def test_a_folder_that_turns_read_only_ends_the_run_in_one_line(disk: Disk, caviar: Any) -> None:
    folder = disk.place / "run"
    with started(*f"search digits --pool inline --time 60s --out {folder}".split()) as process:
        wait_for_rows(folder, 10, process)
        disk.protect(folder)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 2, out + err
    assert err.count("\n") == 1
    assert "Read-only file system" in err
    known = len(load_run(folder).epochs)
    disk.unprotect(folder)
    caviar("resume", str(folder), "--total-epochs", "20", "--pool", "inline")
    check_tables(folder)
    assert len(load_run(folder).epochs) == known + 20
