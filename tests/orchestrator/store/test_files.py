"""Writing files: durable, whole, and never through a link."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.store import files
from orchestrator.store.files import (
    TEMPORARIES,
    atomic_write,
    make_folder,
    make_unused_folder,
    move,
    open_in_place,
    remove_leftovers,
    sync_tree,
    temporary_folder,
)


class CrashError(Exception):
    """Stands for any error in the middle of a write."""


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files and folders that were synchronised, in their order."""
    names: list[str] = []
    before = os.fsync

    def note(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        before(descriptor)

    monkeypatch.setattr(files.os, "fsync", note)
    return names


def list_names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    with atomic_write(path) as file:
        file.write(b"old")
    with contextlib.suppress(CrashError), atomic_write(path) as file:
        file.write(b"new and unfinished")
        assert path.read_bytes() == b"old"
        raise CrashError
    assert path.read_bytes() == b"old"
    assert list_names(tmp_path) == ["part.parquet"]


def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    with atomic_write(link) as file:
        file.write(b"ours")
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink() and link.read_bytes() == b"ours"


def test_a_temporary_name_cannot_be_guessed(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a"), atomic_write(tmp_path / "b"):
        assert len(set(tmp_path.glob(TEMPORARIES))) == 2


def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a") as file:
            file.write(b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_file_with_a_name_of_the_longest_allowed_length_can_be_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / ("x" * 255)) as file:
        file.write(b"content")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"content"


def test_a_file_and_then_the_name_of_it_reach_the_disk(tmp_path: Path, synced: list[str]) -> None:
    with atomic_write(tmp_path / "a") as file:
        file.write(b"content")
    assert len(synced) == 2 and synced[1] == tmp_path.name


def test_each_new_folder_is_durable_in_its_parent(tmp_path: Path, synced: list[str]) -> None:
    assert make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path.name, "a", "b"]
    assert not make_folder(tmp_path / "a" / "b" / "c")


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(OSError, match=r"exists|Not a directory"):
            make_folder(path)


def test_a_renamed_folder_is_durable_in_both_parents(tmp_path: Path, synced: list[str]) -> None:
    for name in ("old", "new", "old/table"):
        (tmp_path / name).mkdir()
    move(tmp_path / "old" / "table", tmp_path / "new" / "table")
    assert synced == ["new", "old"] and (tmp_path / "new" / "table").is_dir()


def test_a_whole_tree_becomes_durable(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"1")
    sync_tree(tmp_path / "a")
    assert sorted(synced) == ["a", "b", "file"]


def test_threads_that_want_one_folder_get_different_ones(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(make_unused_folder, [tmp_path / "runs" / "wine"] * 8))
    assert sorted(p.name for p in made) == ["wine", *(f"wine-{i}" for i in range(2, 9))]


# ---------------------------------------------------------------------- opening in place


def test_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        open_in_place(tmp_path / "link")
    assert not (tmp_path / "victim").exists()


@pytest.mark.timeout(10)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"precious")
    (tmp_path / "second-name").hardlink_to(tmp_path / "file")
    for name in ("pipe", "second-name"):
        with pytest.raises(OSError, match="not a regular file with one name"):
            open_in_place(tmp_path / name)


# ---------------------------------------------------------------------- leftovers


def test_the_temporaries_of_a_killed_process_are_removed_and_those_of_others_stay(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from orchestrator.store.files import atomic_write, temporary_folder\n"
        "folder = Path(sys.argv[1])\n"
        "with atomic_write(folder / 'a') as file, temporary_folder(folder) as other:\n"
        "    (other / 'part').write_bytes(b'1'); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "open\n"
        remove_leftovers(tmp_path)
        assert len(list_names(tmp_path)) == 2
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    (tmp_path / ".notes").write_bytes(b"of the user")
    remove_leftovers(tmp_path)
    assert list_names(tmp_path) == [".notes"]


def test_writers_and_cleaners_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(50):
            with atomic_write(tmp_path / f"{number}") as file:
                file.write(b"%d" % number)

    def clean(_: int) -> None:
        for _ in range(200):
            remove_leftovers(tmp_path)

    with ThreadPoolExecutor(4) as threads:
        started = [threads.submit(job, i) for i in (0, 1) for job in (write, clean)]
    for job in started:
        job.result()
    assert list_names(tmp_path) == ["0", "1"]


def test_a_leftover_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_bytes(b"precious")
    (tmp_path / TEMPORARIES.replace("*", "0")).symlink_to(tmp_path / "victim")
    remove_leftovers(tmp_path)
    assert (tmp_path / "victim" / "file").read_bytes() == b"precious"


def test_a_temporary_folder_is_gone_after_an_error(tmp_path: Path) -> None:
    with contextlib.suppress(CrashError), temporary_folder(tmp_path) as folder:
        (folder / "file").write_bytes(b"1")
        raise CrashError
    assert list_names(tmp_path) == []
