"""The files and folders that a run consists of: no links, and no leftovers of killed processes.

A run's folder may come from somebody else. A link in it could lead a write to a file of the user,
and a read to any file; a named pipe would make a reader wait for ever. So everything that opens a
run checks its files first. The run's folder itself may be a link, because the user names it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path

from orchestrator.errors import RunError
from orchestrator.store.files import remove_empty_folder, remove_leftovers

__all__ = [
    "FIRST_BUDGET",
    "FOLDERS",
    "LEFTOVERS",
    "LOCK",
    "REPAIRED",
    "RESTORED",
    "SPEC",
    "UPDATE",
    "check_files",
    "check_run_files",
    "remove_run_leftovers",
]

SPEC, LOCK = "spec.yaml", "run.lock"
FIRST_BUDGET = ".budget.yaml"  #: the budget of a run that has no rows yet
FOLDERS = ("events", "epochs", "trials", "checkpoints", "best")
REPAIRED = ".repaired"  #: folder in which a repair makes the new tables
RESTORED = ".restored"  #: folder that receives the files of a mirror
UPDATE = ".update"  #: folder in which a mirror receives its next state
_NAMES = (SPEC, LOCK, FIRST_BUDGET, *FOLDERS, REPAIRED, RESTORED, UPDATE)
LEFTOVERS = ".*.tmp"  #: pattern of hidden files, also those that version 0.1 left behind


def check_run_files(run: Path) -> None:
    """Refuse a run of which a file or folder is a link, a named pipe or a device.

    Raises:
        RunError: If there is one (the message names it), or the run cannot be read, or its path is
            not in UTF-8, which pyarrow needs.
    """
    try:
        str(run.absolute()).encode()
    except UnicodeEncodeError as e:
        shown = str(run).encode(errors="backslashreplace").decode()
        raise RunError(f"{shown}: needs a path in UTF-8; rename the folder") from e
    _check(chain((run / name for name in _NAMES), run.glob("damaged-*")))


def check_files(folder: Path) -> None:
    """Refuse a folder in which there is a link, a named pipe or a device, at any depth.

    Raises:
        RunError: If there is one (the message names it), or the folder cannot be read.
    """
    _check(folder.iterdir() if folder.is_dir() else ())


def remove_run_leftovers(run: Path) -> None:
    """Remove the temporaries of killed processes from a run, whose lock the caller holds."""
    for folder in (run, *(run / name for name in FOLDERS)):
        remove_leftovers(folder, LEFTOVERS)
    for name in (REPAIRED, RESTORED):  # emptied, and then killed before it was removed
        with suppress(OSError):
            remove_empty_folder(run / name)


def _check(paths: Iterable[Path]) -> None:
    try:
        waiting = list(paths)
        while waiting:
            waiting += _list_checked(waiting.pop())
    except OSError as e:
        raise RunError(f"{e.filename}: needs a file that can be read: {e.strerror}") from e


def _list_checked(path: Path) -> list[Path]:
    """Check one path, and list what is in it if it is a folder."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            return list(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):  # the file of a running process is gone already
        return []
    if stat.S_ISLNK(mode):
        raise RunError(
            f"{path}: is a link, and a run's files must not lead out of its folder; "
            f"replace it with a copy of {path.readlink()}"
        )
    if not stat.S_ISREG(mode):
        raise RunError(f"{path}: needs a regular file, got a pipe or device; remove it")
    return []
