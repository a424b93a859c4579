"""All writing to the disk: new content is complete and durable, or the old content stays.

No other file of the product opens a file for writing, makes a folder, renames or removes
(`tests/orchestrator/test_import_rules.py` checks it). Three rules hold for every call here. A link
is never followed at the last part of a path, because a run's folder may come from somebody else
and its links may lead to files of the user. New content gets a random name that did not exist
before, is synchronised to the disk, and is then renamed. A new name is durable only when its
folder is synchronised, too.

The process that writes a temporary file or folder holds an flock on it. So `remove_leftovers` can
distinguish the temporaries of running processes from those of killed ones, and needs no other lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO

from orchestrator.errors import RunError

__all__ = [
    "TEMPORARIES",
    "TEMPORARY_LENGTH",
    "atomic_write",
    "make_folder",
    "make_unused_folder",
    "move",
    "open_in_place",
    "remove_empty_folder",
    "remove_file",
    "remove_folder",
    "remove_leftovers",
    "reporting_write_errors",
    "sync_folder",
    "sync_tree",
    "temporary_folder",
]

#: Pattern of the names of temporary files and folders; readers of tables skip them.
TEMPORARIES = ".caviar-*.tmp"
_RANDOM_BYTES = 4  #: of a temporary's name, written as twice as many digits
TEMPORARY_LENGTH = len(TEMPORARIES) - 1 + 2 * _RANDOM_BYTES  #: characters of such a name
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  #: NONBLOCK: a named pipe must not hang


@contextmanager
def reporting_write_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a RunError of one line that names the folder."""
    try:
        yield
    except OSError as e:
        raise RunError(f"{folder}: needs a folder that can be written to: {e.strerror or e}") from e


# ---------------------------------------------------------------------- files


@contextmanager
def atomic_write(path: Path, *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Write to a temporary file, then rename: a reader sees the old file or the new one.

    Args:
        path: The file.
        mode: Permissions of the file, of which the umask leaves a part.
    """
    temporary, descriptor = _create_temporary(path.parent, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def open_in_place(path: Path) -> int:
    """Open a regular file for reading and writing, and make it if it is missing.

    Returns:
        A descriptor, which the caller closes.

    Raises:
        OSError: If the path is a link, a folder or no regular file, or has a second name (a hard
            link): writing would change another file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return descriptor
    os.close(descriptor)
    raise OSError(
        errno.EINVAL, f"{path.name} is not a regular file with one name; remove it", str(path)
    )


def move(source: Path, target: Path) -> None:
    """Rename a file or folder, durably; an existing target file is replaced."""
    source.rename(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def remove_file(path: Path) -> None:
    """Remove a file or a link; a path that does not exist is no error."""
    path.unlink(missing_ok=True)


# ---------------------------------------------------------------------- folders


def make_folder(path: Path) -> bool:
    """Make a folder and its missing parents, durably; return whether this call made it."""
    if path.is_dir():
        return False
    make_folder(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        if path.is_dir():  # another process was faster
            return False
        raise
    sync_folder(path.parent)
    return True


def make_unused_folder(path: Path) -> Path:
    """Make a new folder with this name, or with `-2`, `-3`, ... behind it, and return its path."""
    make_folder(path.parent)
    for number in count(1):
        new = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            new.mkdir()
            sync_folder(new.parent)
            return new
    raise AssertionError("the loop has no end")


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it; links inside are removed and not followed."""
    try:
        shutil.rmtree(path)
    except RecursionError as error:  # a thousand folders inside each other, which no run has
        raise OSError(errno.ELOOP, "too many folders inside each other", str(path)) from error


def remove_empty_folder(path: Path) -> None:
    """Remove a folder that has nothing in it."""
    path.rmdir()


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: what was created, renamed or removed there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Make a file durable, or a folder with all that is in it."""
    inside = path.rglob("*") if path.is_dir() else ()
    for part in (path, *inside):
        sync_folder(part)


# ---------------------------------------------------------------------- temporaries


@contextmanager
def temporary_folder(parent: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """Make a folder with a temporary name, which is removed at the end of the block."""
    while True:
        path = _choose_name(parent)
        path.mkdir(mode)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
        if _hold(descriptor):
            break
        os.close(descriptor)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # the next writer tries again
        os.close(descriptor)


def remove_leftovers(folder: Path, pattern: str = TEMPORARIES) -> None:
    """Remove the temporaries that killed processes have left directly in a folder.

    One that a running process holds stays. So does one that cannot be removed: no reader opens it.
    """
    for path in folder.glob(pattern):
        with suppress(OSError, RecursionError):  # RecursionError: thousands of nested folders
            _remove_if_unheld(path)


def _remove_if_unheld(path: Path) -> None:
    is_folder = stat.S_ISDIR(path.lstat().st_mode)
    access = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR  # NFS locks need writing
    descriptor = os.open(path, access | _FLAGS)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_folder:
            remove_folder(path)
        else:
            remove_file(path)
    finally:
        os.close(descriptor)


def _create_temporary(folder: Path, mode: int) -> tuple[Path, int]:
    """Create a new file, held by this process, with the permissions that the umask leaves."""
    while True:
        path = _choose_name(folder)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, mode)
        if _hold(descriptor):
            return path, descriptor
        os.close(descriptor)


def _choose_name(folder: Path) -> Path:
    return folder / TEMPORARIES.replace("*", secrets.token_hex(_RANDOM_BYTES))


def _hold(descriptor: int) -> bool:
    """Mark a new temporary as in use; False if `remove_leftovers` was faster and removed it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: `remove_leftovers` removes nothing there
    return os.fstat(descriptor).st_nlink > 0
