"""Writing files so that a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from orchestrator.errors import RunError

__all__ = ["atomic_write", "reporting_write_errors"]


@contextmanager
def reporting_write_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a RunError of one line that names the folder."""
    try:
        yield
    except OSError as e:
        raise RunError(f"{folder}: needs a folder that can be written to: {e.strerror}") from e


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Write to a hidden name, then rename: a reader sees the old file or the new one."""
    tmp = path.with_name(f".{path.name}.tmp")
    try:
        with tmp.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise
    tmp.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)  # the rename itself reaches the disk, in order
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
