"""The lock that allows one process at a time to write to a run's folder.

A writer holds two flocks, which the kernel releases when the process ends. The one on the folder
itself cannot be lost by deleting a file, but NFS does not show it to other hosts. The one on
run.lock is seen by all hosts and by older versions, and the file names the holder.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import RunError
from orchestrator.store.files import open_in_place, reporting_write_errors
from orchestrator.store.run_files import LOCK, check_run_files, remove_run_leftovers

__all__ = ["Lock"]

TRIES, WAIT_SECONDS = 10, 0.03  #: `is_locked` of a reader holds the lock for some microseconds
HOLDER_BYTES = 200  #: bytes of run.lock that a message shows


class Lock:
    """The right to write to a run, until it is released or the process ends.

    Raises:
        RunError: If another process holds the lock (the message names it), if the folder cannot be
            written to or has no locks, or if a file of the run is a link.
    """

    def __init__(self, run: Path) -> None:
        check_run_files(run)
        self._run = run
        self._descriptors: list[int] = []
        try:
            with reporting_write_errors(run):
                self._acquire(os.open(run, os.O_RDONLY | os.O_DIRECTORY))
                self._acquire(self._open_file())
                self.require_held()
                with suppress(OSError):  # a full disk: the first file that matters will report it
                    self._write_holder(f"process {os.getpid()} on {socket.gethostname()}")
                remove_run_leftovers(run)
        except BaseException:
            self._close()
            raise

    def require_held(self) -> None:
        """Refuse to go on if the folder or its run.lock was moved, deleted or replaced.

        Raises:
            RunError: If another process may be writing at this path now.
        """
        paths = (self._run, self._run / LOCK)
        try:
            same = all(
                os.path.samestat(path.stat(), os.fstat(descriptor))
                for path, descriptor in zip(paths, self._descriptors, strict=True)
            )
        except OSError:
            same = False
        if not same:
            raise RunError(
                f"{self._run}: the folder or its {LOCK} was moved, deleted or replaced while this "
                f"process was writing, so another one may write there now; nothing more is written"
            )

    def release(self) -> None:
        """Let the next writer in. An error of the disk is no error here: closing releases."""
        with suppress(OSError):
            self._write_holder("")
        self._close()

    @staticmethod
    def is_locked(run: Path) -> bool:
        """Whether a process is writing to the run now."""
        return _is_held(run) or _is_held(run / LOCK)

    def _open_file(self) -> int:
        path = self._run / LOCK
        try:
            return open_in_place(path)
        except PermissionError as e:
            raise RunError(
                f"{path}: needs a file that this user may read and write, got {e.strerror}; ask "
                f"its owner, or copy the run's folder without {LOCK}"
            ) from e

    def _acquire(self, descriptor: int) -> None:
        self._descriptors.append(descriptor)
        for _ in range(TRIES):
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(WAIT_SECONDS)
            except OSError as e:
                raise RunError(
                    f"{self._run}: the file system does not support locks ({e.strerror}), which "
                    f"keep a second writer out; put the run on another disk with `out`"
                ) from e
        raise RunError(
            f"{self._run}: {self._read_holder()} is writing to this run; wait for it, stop it, "
            f"or give another folder with `out`"
        )

    def _read_holder(self) -> str:
        text = ""
        with suppress(OSError), (self._run / LOCK).open(encoding="utf-8", errors="replace") as file:
            text = file.read(HOLDER_BYTES)
        return "".join(c for c in text if c.isprintable()).strip() or "another process"

    def _write_holder(self, text: str) -> None:
        os.ftruncate(self._descriptors[-1], 0)
        os.pwrite(self._descriptors[-1], text.encode(), 0)

    def _close(self) -> None:
        for descriptor in self._descriptors:
            with suppress(OSError):  # of NFS: it is closed all the same
                os.close(descriptor)


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # it is missing, or not ours to read: the lock on the other path tells
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks here: no process could have begun to write
        return False
    finally:
        os.close(descriptor)
    return False
