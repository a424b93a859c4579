"""The files of a run as they were at one moment, read while a search writes them.

Every write to a run makes a new file and renames it, so an open file keeps its content. A flush
replaces several files one after the other, and meanwhile the staged events are in the folder. So
files that were opened between two equal listings without staged events belong together.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestrator.store.mirror_store import MIRRORED_FOLDERS, is_run_file
from orchestrator.store.reading import list_parts, list_staged_events

__all__ = ["RunFiles", "Snapshot", "list_run_files", "list_sealed_parts", "open_snapshot"]

#: Path in the run -> inode, time of the last change in ns, and bytes; a new file has other ones.
RunFiles = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The files of a run that belong together."""

    files: RunFiles  #: all files
    changed: tuple[str, ...]  #: paths of the files that differ from a listing of before
    run: Path
    opened: Mapping[str, IO[bytes]]  #: path -> open file, of those that a search may replace

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file of the snapshot."""
        if path in self.opened:
            yield self.opened[path]
            return
        with (self.run / path).open("rb") as file:
            yield file


@contextmanager
def open_snapshot(run: Path, known: RunFiles) -> Iterator[Snapshot | None]:
    """Open the files that differ from those of the listing `known`; None during a flush.

    Full parts, which may be thousands, are not held open: nothing replaces them.
    """
    files, sealed = list_run_files(run), list_sealed_parts(run)
    changed = tuple(path for path in files if files[path] != known.get(path))
    with ExitStack() as stack:
        opened: dict[str, IO[bytes]] = {}
        with contextlib.suppress(FileNotFoundError):  # then the second listing differs, too
            for path in changed:
                if path not in sealed:
                    opened[path] = stack.enter_context((run / path).open("rb"))
        if list_staged_events(run) or list_run_files(run) != files:
            yield None
            return
        yield Snapshot(files=files, changed=changed, run=run, opened=opened)


def list_run_files(run: Path) -> RunFiles:
    """List the files of a run that a mirror holds."""
    folders = [run / name for name in MIRRORED_FOLDERS if (run / name).is_dir()]
    files = {}
    for path in (run / "spec.yaml", *(path for folder in folders for path in folder.iterdir())):
        name = path.relative_to(run).as_posix()
        if is_run_file(name) and (version := _read_version(path)):
            files[name] = version
    return files


def _read_version(path: Path) -> tuple[int, int, int] | None:
    """What tells this file from the next one under its name; None if there is no file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def list_sealed_parts(run: Path) -> set[str]:
    """The parts of tables that are full: they are not written again."""
    parts = (part for name in ("events", "epochs") for part in list_parts(run / name)[:-1])
    return {part.relative_to(run).as_posix() for part in parts}
