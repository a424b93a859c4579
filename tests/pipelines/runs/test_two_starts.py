"""Two starts at the same time: one wins, and the other one deletes nothing."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from test_faults import started
from test_runs import INLINE, check_tables, searched

from orchestrator.errors import CaviarError, RunError
from orchestrator.store import lock
from orchestrator.store.files import make_folder
from orchestrator.store.lock import Lock
from pipelines.runs import launch, open_run
from pipelines.runs.execution import make_budget
from pipelines.runs.new_spec import SearchRequest
from pipelines.see.run import load_run


def collect(job: Callable[[], Path]) -> Path | str:
    """The folder that a job returns, or the message of its error."""
    try:
        return job()
    except CaviarError as e:
        return str(e)


def list_names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("exists", [False, True])
def test_of_two_threads_that_start_on_one_folder_one_wins_and_its_run_is_whole(
    exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, both = tmp_path / "run", threading.Barrier(2)
    if exists:
        folder.mkdir()

    def make_at_the_same_time(path: Path) -> bool:
        both.wait()
        return make_folder(path)

    monkeypatch.setattr(open_run, "make_folder", make_at_the_same_time)
    monkeypatch.setattr(lock, "TRIES", 1)  # else the loser may wait until the winner has finished
    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(collect, lambda: searched(folder, trials=30)) for _ in range(2)]
    results = [job.result() for job in jobs]
    assert folder in results
    (message,) = [result for result in results if isinstance(result, str)]
    assert "is writing to this run" in message and "\n" not in message
    check_tables(folder)
    assert len(load_run(folder).trials) == 30


def test_the_one_that_made_the_folder_and_lost_the_lock_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = tmp_path / "run", ExitStack()

    def be_slower(path: Path) -> bool:
        is_made = make_folder(path)
        other.callback(Lock(path).release)
        (path / "spec.yaml").write_text("the other's")
        return is_made

    monkeypatch.setattr(open_run, "make_folder", be_slower)
    with pytest.raises(RunError, match="is writing to this run"):
        searched(folder, trials=3)
    assert list_names(folder) == ["run.lock", "spec.yaml"]
    other.close()


def test_a_run_that_appears_while_one_waits_for_the_lock_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    def be_slower(path: Path) -> bool:
        monkeypatch.undo()
        searched(folder, "digits", trials=3)
        return make_folder(path)

    monkeypatch.setattr(open_run, "make_folder", be_slower)
    with pytest.raises(RunError, match="holds another run"):
        searched(folder, trials=3)
    check_tables(folder)
    assert len(load_run(folder).trials) == 3


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_of_two_processes_that_start_on_one_folder_one_wins_and_its_run_is_whole(
    tmp_path: Path,
) -> None:
    for number in range(3):
        folder = tmp_path / f"run-{number}"
        words = f"search wine --pool inline --time 4s --quiet --out {folder}".split()
        with started(*words) as first, started(*words) as second:
            errors = [process.communicate(timeout=60)[1] for process in (first, second)]
        assert sorted([first.returncode, second.returncode]) == [0, 2], errors
        assert sum("is writing to this run" in error for error in errors) == 1, errors
        assert sorted(error.count("\n") for error in errors) == [0, 1], errors
        check_tables(folder)


# ---------------------------------------------------------------------- a start that fails


def fail_to_open(*_: object, **__: object) -> None:
    raise RunError("the start fails")


def test_a_start_that_fails_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_run.OpenRun, "train", fail_to_open)
    with pytest.raises(RunError, match="the start fails"):
        searched(tmp_path / "run", trials=3)
    assert list_names(tmp_path) == []


def test_a_start_that_fails_leaves_the_users_folder_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: open_run.OpenRun, *_: object) -> None:
        (run.folder / "notes.txt").write_text("of the user")
        raise RunError("the start fails")

    monkeypatch.setattr(open_run.OpenRun, "train", fail_to_open)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError):
        searched(tmp_path / "empty", trials=3)
    assert list_names(tmp_path / "empty") == []

    monkeypatch.setattr(open_run.OpenRun, "train", fail)
    with pytest.raises(RunError):
        searched(tmp_path / "run", trials=3)
    assert list_names(tmp_path / "run") == ["notes.txt"]


def test_a_start_that_fails_after_its_folder_was_taken_over_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: open_run.OpenRun, *_: object) -> None:
        run.folder.rename(tmp_path / "moved")
        monkeypatch.undo()
        searched(run.folder, trials=3)
        raise RunError("the start fails")

    monkeypatch.setattr(open_run.OpenRun, "train", fail)
    with pytest.raises(RunError, match="the start fails"):
        searched(tmp_path / "run", trials=3)
    check_tables(tmp_path / "run")
    assert (tmp_path / "moved" / "spec.yaml").exists()


def test_a_run_that_was_begun_before_and_has_no_rows_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(open_run.OpenRun, "train", die)
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "run", trials=3)
    monkeypatch.setattr(open_run.OpenRun, "train", fail_to_open)
    with pytest.raises(RunError):
        searched(tmp_path / "run", trials=3)
    assert (tmp_path / "run" / "spec.yaml").exists()


# ---------------------------------------------------------------------- default names


def test_searches_of_the_same_minute_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "name_folder", lambda _: Path("runs") / "wine")

    def search(_: int) -> Path:
        budget = make_budget(None, 2, None)
        return launch.search(SearchRequest(source="wine"), budget=budget, options=INLINE).folder

    with ThreadPoolExecutor(3) as threads:
        folders = list(threads.map(search, range(3)))
    assert sorted(p.name for p in folders) == ["wine", "wine-2", "wine-3"]
    for folder in folders:
        check_tables(folder)


def test_a_search_without_a_name_that_fails_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(open_run.OpenRun, "train", fail_to_open)
    with pytest.raises(RunError):
        launch.search(SearchRequest(source="wine"), options=INLINE)
    assert list_names(tmp_path / "runs") == []


# ---------------------------------------------------------------------- a lock that is lost


class Remover:
    """A watcher that deletes the run's lock at the first report, and otherwise does nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def handle_entry(self, entry: object, at_seconds: float) -> None:
        if type(entry).__name__ == "Observation":
            (self._folder / "run.lock").unlink(missing_ok=True)

    def tick(self, session: object) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


def test_a_session_whose_lock_was_deleted_stops_in_one_line_and_what_it_wrote_is_whole(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"

    def make_watcher(_: Any, folder: Path, *__: Any) -> Any:
        return Remover(folder)

    with pytest.raises(RunError, match="moved, deleted or replaced") as caught:
        launch.search(
            SearchRequest(source="wine"), out=folder, budget=make_budget("20s", None, None),
            options=INLINE, make_watcher=make_watcher,
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert load_run(folder).status == "killed"
    launch.resume(folder, budget=make_budget(None, 2, None), options=INLINE)
    check_tables(folder)


def test_a_start_on_a_full_disk_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("orchestrator.store.lock.os.pwrite", fail)
    monkeypatch.setattr("orchestrator.store.files.os.fsync", fail)
    (tmp_path / "run").mkdir()  # the fsync of a new folder's parent would be the first to fail
    with pytest.raises(RunError, match="No space left"):
        searched(tmp_path / "run", trials=3)
    assert list_names(tmp_path / "run") == []
