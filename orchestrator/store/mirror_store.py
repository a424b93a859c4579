"""The place of a mirror: the files of a run in any file system of pyarrow, replaced all at once.

A file system can replace one file at once, but the files of a run belong together: events to
epochs, weights to their config. So an update has three steps:

    .update/EVENTS_ETC    the new files, under their names; nobody reads them yet
    .update/commit.json   lists all files of the run; from this one file on, the update holds
    the run's folder      each new file goes to its place, files that are not listed are deleted,
                          and .update/ is removed

A listed file is read from .update/ while it is there, else from its place. Where an update stopped
before its list, the old files hold; where it stopped afterwards, the next update finishes it.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs

from orchestrator.errors import RunError
from orchestrator.store.files import atomic_write, make_folder, move
from orchestrator.store.run_files import UPDATE, check_run_files

__all__ = ["COMMIT", "MIRRORED_FOLDERS", "MirrorStore", "State", "is_run_file"]

#: Folders of a run that a mirror holds, in the order in which their files are put in place: events
#: after the epochs that they refer to, trials after the events that they are derived from.
MIRRORED_FOLDERS = ("epochs", "events", "trials", "best")
COMMIT = f"{UPDATE}/commit.json"

_CHUNK = 2**20  #: bytes that are copied at a time

#: Path in the place -> (time of the last change in ns, bytes), as the file system reports them.
State = Mapping[str, tuple[int | None, int]]


def is_run_file(path: str) -> bool:
    """Whether a mirror holds this file of a run: spec.yaml, or a visible file of a folder."""
    folder, _, name = path.rpartition("/")
    return path == "spec.yaml" or (folder in MIRRORED_FOLDERS and not name.startswith("."))


class MirrorStore:
    """The files at a URI: a folder, or a URI that pyarrow knows (s3://, gs://, hdfs://).

    Raises:
        RunError: If there can be no such place.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._fs, self._base = _open_file_system(uri)

    @property
    def local_folder(self) -> Path | None:
        """The folder, if the place is one of this machine's file system."""
        return Path(self._base) if isinstance(self._fs, fs.LocalFileSystem) else None

    def create(self) -> None:
        """Make the folder."""
        self._fs.create_dir(self._base, recursive=True)

    def read_state(self) -> State:
        """List all files of the place that are the mirror's, unfinished updates included.

        Raises:
            RunError: If one of them is a link.
        """
        if self.local_folder is not None:
            check_run_files(self.local_folder)
        staged = (f"{UPDATE}/{name}" for name in MIRRORED_FOLDERS)
        return {
            path: (info.mtime_ns, info.size)
            for folder in ("", *MIRRORED_FOLDERS, UPDATE, *staged)
            for path, info in self._list(folder)
            if info.is_file and (is_run_file(path) or folder.startswith(UPDATE))
        }

    def has_other_files(self) -> bool:
        """Whether there is something visible in the place itself."""
        return any(not info.base_name.startswith(".") for _, info in self._list(""))

    def list_files(self, state: State) -> dict[str, str]:
        """The files of the run that hold, as path in the run -> path in the place.

        Raises:
            RunError: If a file that must be there is missing.
        """
        committed = self._read_commit(state)
        if committed is None:
            return {path: path for path in state if is_run_file(path)}
        files = {}
        for path in committed:
            staged = f"{UPDATE}/{path}"
            files[path] = staged if staged in state else path
            if files[path] not in state:
                raise RunError(f"{self.uri}: is no whole copy of a run, {path} is missing")
        return files

    def open_file(self, place: str) -> pa.NativeFile:
        """Open a file of the place to read it, also out of order."""
        return self._fs.open_input_file(f"{self._base}/{place}")

    def stage(self, path: str, file: IO[bytes]) -> None:
        """Write a new file of the run, which holds from the next commit on."""
        self._write(f"{UPDATE}/{path}", file)

    def commit(self, paths: Iterable[str]) -> None:
        """Replace the run's files by the staged ones and those that stay; these are all files."""
        self._write(COMMIT, io.BytesIO(json.dumps({"files": sorted(paths)}).encode()))
        self.finish_update()

    def finish_update(self) -> None:
        """Finish an update that has its list, and drop one that has not."""
        state = self.read_state()
        if self._read_commit(state) is not None:
            self._put_in_place(state, self.list_files(state))
            self._fs.delete_file(f"{self._base}/{COMMIT}")
        if any(info.base_name == UPDATE for _, info in self._list("")):
            self._fs.delete_dir(f"{self._base}/{UPDATE}")

    def _put_in_place(self, state: State, files: Mapping[str, str]) -> None:
        for path in sorted(files, key=_rank):
            if files[path] != path:
                self._move(files[path], path)
        for path in state:
            if is_run_file(path) and path not in files:
                self._fs.delete_file(f"{self._base}/{path}")

    def _list(self, folder: str) -> list[tuple[str, fs.FileInfo]]:
        """The entries of a folder with their paths in the place; none if there is no folder."""
        selector = fs.FileSelector(
            f"{self._base}/{folder}".rstrip("/"), allow_not_found=True, recursive=False
        )
        prefix = f"{folder}/" if folder else ""
        return [(prefix + info.base_name, info) for info in self._fs.get_file_info(selector)]

    def _read_commit(self, state: State) -> list[str] | None:
        """The files that the list of an update names; None if there is no whole list."""
        if COMMIT not in state:
            return None
        with self.open_file(COMMIT) as file:
            try:
                content: Any = json.loads(file.read())
                return [path for path in content["files"] if is_run_file(path)]
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                return None  # cut off by a file system that shows files before they are whole

    def _write(self, path: str, file: IO[bytes]) -> None:
        place = f"{self._base}/{path}"
        self._fs.create_dir(place.rpartition("/")[0], recursive=True)
        if isinstance(self._fs, fs.LocalFileSystem):
            with atomic_write(Path(place)) as target:
                shutil.copyfileobj(file, target, _CHUNK)
        else:
            with self._fs.open_output_stream(place) as stream:
                shutil.copyfileobj(file, stream, _CHUNK)

    def _move(self, old: str, new: str) -> None:
        if self.local_folder is None:  # not every object store can move or copy an object
            with self.open_file(old) as file:
                self._write(new, file)
            return
        target = self.local_folder / new
        make_folder(target.parent)
        move(self.local_folder / old, target)


def _rank(path: str) -> tuple[int, bool]:
    """The order in which files are put in place; spec.yaml, which makes a run, is the last."""
    folder, _, name = path.rpartition("/")
    return (*MIRRORED_FOLDERS, "").index(folder), name == "config.yaml"


def _open_file_system(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        if "://" not in uri:
            return fs.LocalFileSystem(), str(Path(uri).absolute())
        file_system, base = fs.FileSystem.from_uri(uri)
    except (OSError, pa.ArrowException) as e:
        raise RunError(
            f"`mirror` needs a folder or a URI such as s3://bucket/runs/name, got {uri!r}: {e}"
        ) from e
    return file_system, str(base).rstrip("/")
