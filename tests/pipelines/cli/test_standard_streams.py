"""Standard output and error that are closed, full or missing: no traceback, no lost training."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_runs import INLINE, check_tables

from orchestrator.search.budget import Budget
from pipelines.runs import launch
from pipelines.runs.logged_watcher import LoggedWatcher
from pipelines.runs.new_spec import SearchRequest
from pipelines.see.run import load_run

COMMAND = shlex.join([sys.executable, "-m", "pipelines.cli"])
#: What a shell can do to standard output. `true` closes the pipe at once, `head` after a line.
BROKEN = ["| true", "| head -1", ">/dev/full", ">&-", "<&- >&- 2>&-"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wine") / "run"
    launch.search(SearchRequest(source="wine"), out=folder, budget=Budget(trials=6), options=INLINE)
    return folder


def shell(line: str, **environment: str) -> tuple[int, str, str]:
    """Exit code of the command at the beginning of a line of bash, and what the line printed."""
    done = subprocess.run(
        ["bash", "-c", f"{COMMAND} {line}; exit ${{PIPESTATUS[0]}}"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "broken"),
    [
        *(("show {}", broken) for broken in BROKEN),
        ("show {} --json", "| true"),
        ("why {} 0", "| true"),
        *((words, broken) for words in ("watch {}", "--help") for broken in ("| true", ">&-")),
    ],
)
def test_a_command_that_only_prints_exits_141_without_a_traceback(
    words: str, broken: str, run: Path
) -> None:
    code, _, err = shell(f"{words.format(run)} {broken}")
    assert code == 141 or (broken == "| head -1" and code == 0)  # it may have printed all before
    if "|" in broken or "2>" in broken:
        assert err == ""
    else:
        assert err.count("\n") == 1
        assert err.startswith("caviar: standard output cannot be written: ")


@pytest.mark.parametrize(
    ("how", "broken"),
    [
        *(("", broken) for broken in [*BROKEN, "2>/dev/full"]),
        ("--json", "| true"),
        ("--quiet", ">/dev/full"),
        ("--json", "2>&-"),
    ],
)
def test_a_search_trains_on_without_its_output(how: str, broken: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, _, err = shell(f"search wine --pool inline --trials 6 --out {folder} {how} {broken}")
    assert code == 0
    assert "Traceback" not in err
    assert err.count("\n") <= 1
    check_tables(folder)
    assert load_run(folder).status == "finished"
    assert len(load_run(folder).trials) == 6
    assert (load_run(folder).events["kind"] == "test").sum() == 1


@pytest.mark.slow  # three sessions, each in a process of its own
@pytest.mark.timeout(180)
def test_resume_finalists_and_audit_train_on_without_their_output(
    run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    subprocess.run(["cp", "-r", run, folder], check=True)
    for words in (
        f"resume {folder} --trials 3",
        f"finalists {folder} --top 2 --seeds 2",
        f"audit {folder} --total-epochs 54",
    ):
        assert shell(f"{words} --pool inline | true")[0] == 0
    assert len(load_run(folder).trials) == 9
    for made in ("run-finalists", "run-audit"):
        assert load_run(tmp_path / made).status == "finished"


def test_without_standard_error_an_error_is_still_an_exit_code(tmp_path: Path) -> None:
    assert shell(f"show {tmp_path} 2>&-") == (2, "", "")
    assert shell("search --nonsense 2>/dev/full") == (2, "", "")


def test_a_closed_stream_is_never_a_file_of_the_run(tmp_path: Path) -> None:
    """The next file that a process opens gets the lowest free descriptor."""
    folder = tmp_path / "run"
    code, _, _ = shell(f"search wine --pool inline --trials 6 --out {folder} <&- >&- 2>&-")
    assert code == 0
    for part in folder.rglob("*.parquet"):
        assert part.read_bytes().startswith(b"PAR1")


def test_characters_that_the_output_lacks_do_not_end_a_command(run: Path) -> None:
    code, out, err = shell(f"show {run}", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (code, err) == (0, "")
    assert "best by validation accuracy" in out


class Faulty:
    """A watcher that fails in each of its methods."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.calls = error, 0

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object) -> None:
            self.calls += 1
            raise self.error

        return fail


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(32, "Broken pipe"),
        OSError(28, "No space left on device"),
        ValueError("I/O operation on closed file"),
        AttributeError("'NoneType' object has no attribute 'write'"),
        SystemExit(1),
    ],
)
def test_a_watcher_that_fails_is_not_called_again_and_the_session_goes_on(
    error: BaseException, tmp_path: Path
) -> None:
    watcher: Any = Faulty(error)
    result = launch.search(
        SearchRequest(source="wine"),
        out=tmp_path / "run",
        budget=Budget(trials=6),
        options=INLINE,
        make_watcher=lambda *_: watcher,
    )
    assert result.ending.status == "finished"
    assert watcher.calls == 2  # the call that failed, and its close
    check_tables(result.folder)


def test_a_note_from_another_thread_never_raises() -> None:
    watcher: Any = Faulty(OSError(5, "Input/output error"))
    logged = LoggedWatcher(watcher)
    logged.note("the mirror cannot be reached")
    logged.note("the mirror cannot be reached")
    assert watcher.calls == 2
