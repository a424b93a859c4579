"""A run's folder in a second place: for a host that may be lost with its disk.

Every file is written as one whole object, so any object store can hold the copy. Epochs are written
before the events that refer to them. A restored run is at most `MIRROR_SECONDS` old; where the copy
stopped between two of its files, `salvage` makes the tables fit together. Checkpoints are not
copied: they are a cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from orchestrator.errors import RunError
from orchestrator.store.files import atomic_write, make_folder

__all__ = ["Mirror", "restore"]

MIRROR_SECONDS = 30.0  #: seconds between two copies of what has changed
_BEFORE, _AFTER = (
    ("epochs", "trials", "best"),
    ("events", "spec.yaml"),
)  #: names in the order of copying


class Mirror:
    """Keeps a copy of a run up to date, in a thread of its own, until it is closed.

    Args:
        run: The run's folder.
        uri: Where the copy goes: a folder, or a URI that pyarrow knows (s3://, gs://, hdfs://).
        failed: Called with a message when the copy cannot be written any more; the mirror then
            tries again.

    Raises:
        RunError: If there can be no copy at that place.
    """

    def __init__(self, run: Path, uri: str, *, failed: Callable[[str], None]) -> None:
        self._run, self._uri, self._failed = run, uri, failed
        self._store, self._base = _open_store(uri)
        self._writable = True
        self._copied: dict[Path, tuple[int, int]] = {}  # a file's time and size when it was read
        try:
            self._store.create_dir(self._base, recursive=True)
        except OSError as e:
            raise RunError(f"`mirror` needs a place that can be written to, got {uri}: {e}") from e
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._copy_until_closed, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Bring the copy up to date once more, and stop."""
        self._closing.set()
        self._thread.join()
        self._copy_changes()

    def _copy_until_closed(self) -> None:
        while not self._closing.wait(MIRROR_SECONDS):
            self._copy_changes()

    def _copy_changes(self) -> None:
        try:
            # events are read first and written last: the copy's epochs are never behind them
            events = self._read_changed(_AFTER)
            for path, content in [*self._read_changed(_BEFORE), *events]:
                self._write(path, content)
            self._writable = True
        except (OSError, pa.ArrowException) as e:
            self._copied.clear()
            if self._writable:
                self._failed(f"the mirror {self._uri} cannot be written, it is tried again: {e}")
            self._writable = False

    def _read_changed(self, names: tuple[str, ...]) -> list[tuple[str, bytes]]:
        """The files below these names that have changed, as (path in the run, content)."""
        changed = []
        for name in names:
            place = self._run / name
            for path in [place] if place.is_file() else sorted(place.glob("[!.]*")):
                status = path.stat()
                mark = status.st_mtime_ns, status.st_size
                if self._copied.get(path) != mark:
                    changed.append((path.relative_to(self._run).as_posix(), path.read_bytes()))
                    self._copied[path] = mark
        return changed

    def _write(self, path: str, content: bytes) -> None:
        place = f"{self._base}/{path}"
        self._store.create_dir(place.rpartition("/")[0], recursive=True)
        if isinstance(
            self._store, fs.LocalFileSystem
        ):  # other stores never show a part of an object
            with atomic_write(Path(place)) as file:
                file.write(content)
        else:
            with self._store.open_output_stream(place) as stream:
                stream.write(content)


def restore(uri: str, run: Path) -> None:
    """Bring a run back from its mirror, into a folder that does not hold one.

    Raises:
        RunError: If there is no run in that place.
    """
    store, base = _open_store(uri)
    try:
        entries = store.get_file_info(fs.FileSelector(base, recursive=True))
        files = [f for f in entries if f.is_file and not f.base_name.startswith(".")]
        if not any(f.base_name == "spec.yaml" for f in files):
            raise RunError(f"`mirror` needs the copy of a run, found none in {uri}")
        for info in sorted(
            files, key=lambda f: f.base_name == "spec.yaml"
        ):  # last: it makes a folder a run
            target = run / Path(info.path).relative_to(base)
            if not target.resolve().is_relative_to(run.resolve()):
                raise RunError(f"{uri}: {info.path} would lie outside the run's folder")
            make_folder(target.parent)
            with store.open_input_stream(info.path) as stream, atomic_write(target) as file:
                file.write(stream.read())
    except (OSError, pa.ArrowException) as e:
        raise RunError(f"`mirror` needs a place that can be read, got {uri}: {e}") from e


def _open_store(uri: str) -> tuple[fs.FileSystem, str]:
    try:
        if "://" not in uri:
            return fs.LocalFileSystem(), str(Path(uri).absolute())
        store, base = fs.FileSystem.from_uri(uri)
    except (OSError, pa.ArrowException) as e:
        raise RunError(
            f"`mirror` needs a folder or a URI such as s3://bucket/runs/name, got {uri!r}: {e}"
        ) from e
    return store, str(base).rstrip("/")
