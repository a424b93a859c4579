"""The lock of a run: it allows one writer at a time, whatever happens to its files."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.errors import RunError
from orchestrator.store import lock as lock_module
from orchestrator.store.lock import Lock

WRITING = "is writing to this run"


def test_a_second_writer_is_refused_and_learns_who_the_first_is(tmp_path: Path) -> None:
    first = Lock(tmp_path)
    assert Lock.is_locked(tmp_path)
    with pytest.raises(RunError, match=rf"process \d+ on .* {WRITING}") as caught:
        Lock(tmp_path)
    assert "\n" not in str(caught.value)
    first.release()
    assert not Lock.is_locked(tmp_path)
    Lock(tmp_path).release()


def test_a_writer_that_was_killed_leaves_the_run_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from orchestrator.store.lock import Lock\n"
        "lock = Lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"process {holder.pid} on"):
            Lock(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not Lock.is_locked(tmp_path)
    Lock(tmp_path).release()


def test_a_folder_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="needs a folder that can be written to"):
        Lock(tmp_path / "nowhere")
    assert not Lock.is_locked(tmp_path / "nowhere")


def test_of_many_threads_one_gets_the_lock(tmp_path: Path) -> None:
    def acquire(_: int) -> Lock | None:
        try:
            return Lock(tmp_path)
        except RunError:
            return None

    with ThreadPoolExecutor(8) as threads:
        locks = [lock for lock in threads.map(acquire, range(8)) if lock]
    assert len(locks) == 1
    locks[0].require_held()
    locks[0].release()


def remove_lock_file(run: Path) -> None:
    (run / "run.lock").unlink()


def replace_lock_file(run: Path) -> None:
    (run / "run.lock").unlink()
    (run / "run.lock").write_text("")


def remove_folder(run: Path) -> None:
    shutil.rmtree(run)


def replace_folder(run: Path) -> None:
    run.rename(run.with_name("moved"))
    run.mkdir()
    (run / "run.lock").write_text("")


@pytest.mark.parametrize(
    "damage", [remove_lock_file, replace_lock_file, remove_folder, replace_folder]
)
def test_a_writer_notices_that_its_lock_was_taken_away(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    lock = Lock(run)
    lock.require_held()
    damage(run)
    with pytest.raises(RunError, match="moved, deleted or replaced") as caught:
        lock.require_held()
    assert "\n" not in str(caught.value)
    lock.release()


@pytest.mark.parametrize("damage", [remove_lock_file, replace_lock_file])
def test_without_its_lock_file_a_writer_still_keeps_a_second_one_out(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    lock = Lock(tmp_path)
    damage(tmp_path)
    assert Lock.is_locked(tmp_path)
    with pytest.raises(RunError, match=WRITING):
        Lock(tmp_path)
    lock.release()


def test_a_writer_of_an_older_version_or_another_host_which_locks_the_file_alone_is_respected(
    tmp_path: Path,
) -> None:
    with (tmp_path / "run.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert Lock.is_locked(tmp_path)
        with pytest.raises(RunError, match=WRITING):
            Lock(tmp_path)
    Lock(tmp_path).release()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_called_another_process(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock_module.fcntl, "flock", fail)
    assert not Lock.is_locked(tmp_path)
    with pytest.raises(RunError, match="the file system does not support locks"):
        Lock(tmp_path)


def test_a_lock_that_one_may_not_open_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(lock_module, "open_in_place", fail)
    with pytest.raises(RunError, match=r"run\.lock: needs a file that this user may read"):
        Lock(tmp_path)


def test_a_lock_that_one_may_not_read_is_seen_on_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, before = Lock(tmp_path), os.open

    def fail(path: Path, *flags: int) -> int:
        if path.name == "run.lock":
            raise PermissionError(errno.EACCES, "Permission denied")
        return before(path, *flags)

    monkeypatch.setattr(lock_module.os, "open", fail)
    assert Lock.is_locked(tmp_path)
    lock.release()
    assert not Lock.is_locked(tmp_path)


@pytest.mark.parametrize("operation", ["ftruncate", "close"])
def test_an_error_of_the_disk_at_the_release_changes_nothing(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, before = Lock(tmp_path), getattr(os, operation)

    def fail(*arguments: int) -> None:
        before(*arguments)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lock_module.os, operation, fail)
    lock.release()
    monkeypatch.undo()
    assert not Lock.is_locked(tmp_path)


def test_a_message_about_the_holder_has_no_control_characters(tmp_path: Path) -> None:
    first = Lock(tmp_path)
    (tmp_path / "run.lock").write_text("\x1b]0;title\x07evil\n" + "x" * 10_000)
    with pytest.raises(RunError) as caught:
        Lock(tmp_path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
    first.release()


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_a_lock_file_that_leads_elsewhere_is_refused_and_changes_nothing(
    kind: str, tmp_path: Path
) -> None:
    victim, run = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    run.mkdir()
    if kind == "link":
        (run / "run.lock").symlink_to(victim)
    elif kind == "hard link":
        (run / "run.lock").hardlink_to(victim)
    else:
        os.mkfifo(run / "run.lock")
    with pytest.raises(RunError, match=r"run\.lock"):
        Lock(run)
    assert victim.read_text() == "precious"


def test_a_new_writer_removes_what_killed_ones_have_left_in_the_run(tmp_path: Path) -> None:
    left = [".spec.yaml.tmp", ".caviar-0.tmp", "events/.caviar-1.tmp", "best/.caviar-2.tmp"]
    for name in left:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    Lock(tmp_path).release()
    assert not [name for name in left if (tmp_path / name).exists()]
