"""The lock that allows one process at a time to write to a run's folder."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from orchestrator.errors import RunError
from orchestrator.store.files import reporting_write_errors

__all__ = ["Lock"]


class Lock:
    """The right to write to a run: an flock on run.lock, which ends with its process.

    Raises:
        RunError: If another process holds the lock (the message names it), or the file cannot be
            written.
    """

    def __init__(self, run: Path) -> None:
        with reporting_write_errors(run):
            self._file: IO[str] = (run / "run.lock").open("a+", encoding="utf-8")
        for wait in (0.05, 0.15, 0.0):  # `is_locked` of another process holds it for a moment only
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(wait)
        else:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise RunError(
                f"{run}: {holder} is writing to this run; wait for it, stop it, "
                f"or give another folder with `out`"
            )
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        with reporting_write_errors(run):
            try:
                self._file.flush()
            except OSError:
                with suppress(OSError):  # closing tries to write the same text again
                    self._file.close()
                raise

    def release(self) -> None:
        """Give the folder free for the next writer."""
        self._file.truncate(0)
        self._file.close()

    @staticmethod
    def is_locked(run: Path) -> bool:
        """Whether a process is writing to the run now."""
        path = run / "run.lock"
        if not path.exists():
            return False
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False
