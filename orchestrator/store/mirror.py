"""A run's folder in a second place: for a host that may be lost with its disk.

A mirror holds the run as it was at one moment: `open_snapshot` reads files that belong together,
`MirrorStore` replaces them all at once, and `require_past_of` refuses a mirror that holds anything
but this run's past. A copy begins every `MIRROR_SECONDS`. Checkpoints are not copied: they are a
cache.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from orchestrator.errors import RunError
from orchestrator.store.files import (
    TEMPORARIES,
    atomic_write,
    make_folder,
    move,
    remove_folder,
    reporting_write_errors,
)
from orchestrator.store.lock import Lock
from orchestrator.store.mirror_identity import require_past_of
from orchestrator.store.mirror_store import COMMIT, MIRRORED_FOLDERS, MirrorStore, State
from orchestrator.store.run_files import LOCK, RESTORED
from orchestrator.store.snapshot import RunFiles, list_run_files, list_sealed_parts, open_snapshot

__all__ = ["Mirror", "check_mirror", "restore"]

MIRROR_SECONDS = 30.0  #: seconds between two copies of what has changed
FLUSH_WAIT_SECONDS = 0.1  #: seconds until files are looked at again that a flush was replacing
RESTORE_ATTEMPTS = 5  #: times that a mirror is read that changes while it is read


class Mirror:
    """Keeps a copy of a run up to date, in a thread of its own, until it is closed.

    Args:
        run: The run's folder.
        uri: Where the copy goes: a folder, or a URI that pyarrow knows (s3://, gs://, hdfs://).
        failed: Called with a message when the copy cannot be written any more; the mirror then
            tries again.
        replace: Whether the copy may hold other rows than the run, as it does after a repair of the
            run that was restored from it.

    Raises:
        RunError: If there can be no copy at that place, or it holds anything but this run's past.
    """

    def __init__(
        self, run: Path, uri: str, *, failed: Callable[[str], None], replace: bool = False
    ) -> None:
        self._run, self._failed = run, failed
        self._store = MirrorStore(uri)
        self._writable = True
        self._copied: RunFiles = {}  # the files of the run that the copy has
        with _reporting_errors(uri, "written to"):
            self._require_outside_of_run()
            self._state = self._store.read_state()
            if not replace:
                self._accept_state()
            self._store.create()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._copy_until_closed, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Bring the copy up to date once more, and stop."""
        self._closing.set()
        self._thread.join()
        self._copy_changes()

    def _require_outside_of_run(self) -> None:
        folder = self._store.local_folder
        if folder is not None and folder.resolve().is_relative_to(self._run.resolve()):
            raise RunError(
                f"`mirror` needs a place outside of the run's folder, got {self._store.uri} for "
                f"{self._run}; give a folder on another disk"
            )

    def _accept_state(self) -> None:
        """Check that the mirror holds this run's past, and find the full parts that it has."""
        require_past_of(self._run, self._store, self._state)
        files = list_run_files(self._run)
        self._copied = {
            path: files[path]
            for path in list_sealed_parts(self._run)
            if path in self._state and self._state[path][1] == files[path][2]
        }

    def _copy_until_closed(self) -> None:
        while not self._closing.wait(MIRROR_SECONDS):
            self._copy_changes()

    def _copy_changes(self) -> None:
        try:
            state = self._store.read_state()
            if _select_committed(state) != _select_committed(self._state):
                self._state = state  # an update has stopped in its middle, or somebody else wrote
                self._accept_state()
            while not self._copy_snapshot():
                if self._closing.wait(FLUSH_WAIT_SECONDS):
                    return  # `close` copies once more, when no flush can be going on
            self._writable = True
        except (OSError, pa.ArrowException, RunError) as e:
            if self._writable:
                self._failed(
                    f"the mirror {self._store.uri} cannot be written, it is tried again: {e}"
                )
            self._writable = False

    def _copy_snapshot(self) -> bool:
        """Copy what has changed; False if a flush is going on."""
        with open_snapshot(self._run, self._copied) as snapshot:
            if snapshot is None:
                return False
            if snapshot.files != self._copied:
                self._store.finish_update()
                for path in snapshot.changed:
                    with snapshot.open(path) as file:
                        self._store.stage(path, file)
                self._store.commit(snapshot.files)
                self._copied, self._state = snapshot.files, self._store.read_state()
        return True


def check_mirror(run: Path, uri: str) -> None:
    """Refuse a mirror that holds anything but the past of a run; this changes nothing.

    Raises:
        RunError: If it does, or if there can be no mirror at that place.
    """
    store = MirrorStore(uri)
    with _reporting_errors(uri, "read"):
        require_past_of(run, store, store.read_state())


def restore(uri: str, run: Path) -> None:
    """Bring a run back from its mirror, into a folder that is new or empty.

    The files are written into a hidden folder and then put in place, spec.yaml last. So a folder
    with a spec.yaml has all files, and one without it is no run.

    Raises:
        RunError: If there is no run in that place, or the folder holds something.
    """
    store = MirrorStore(uri)
    with _reporting_errors(uri, "read"):
        if "spec.yaml" not in store.list_files(store.read_state()):
            raise RunError(f"`mirror` needs the copy of a run, found none in {uri}")
        with reporting_write_errors(run):
            make_folder(run)
        _require_empty(run, uri)  # before the lock, which changes files of a run
        lock = Lock(run)
        try:
            _require_empty(run, uri)
            _remove_broken_restore(run)
            try:
                _read_all(store, run)
            except BaseException:
                with contextlib.suppress(OSError):
                    remove_folder(run / RESTORED)
                raise
            with reporting_write_errors(run):
                _put_in_place(run)
        finally:
            lock.release()


def _require_empty(run: Path, uri: str) -> None:
    """Refuse a folder with anything but what a restore that was killed has left; change nothing."""
    expected = {LOCK, RESTORED, *_list_leftovers(run)}
    for path in sorted(run.iterdir()):
        if path.name not in expected and not path.match(TEMPORARIES):
            raise RunError(
                f"{run}: needs a new or empty folder for the run that {uri} holds, got one with "
                f"{path.name}; give another folder"
            )


def _list_leftovers(run: Path) -> Sequence[str]:
    """The folders of a run that a restore that was killed may have put in place."""
    return MIRRORED_FOLDERS if (run / RESTORED).exists() else ()


def _remove_broken_restore(run: Path) -> None:
    with reporting_write_errors(run):
        for name in (*_list_leftovers(run), RESTORED):
            if (run / name).exists():
                remove_folder(run / name)


def _read_all(store: MirrorStore, run: Path) -> None:
    """Copy the files of the mirror into the hidden folder."""
    for _ in range(RESTORE_ATTEMPTS):
        state = store.read_state()
        for path, place in store.list_files(state).items():
            with store.open_file(place) as file:
                content = file.read()
            with reporting_write_errors(run):
                target = run / RESTORED / path
                make_folder(target.parent)
                with atomic_write(target) as copy:
                    copy.write(content)
        if store.read_state() == state:
            return
        remove_folder(run / RESTORED)
    raise RunError(
        f"{store.uri}: changes while it is read; stop the search that writes it, then restore again"
    )


def _put_in_place(run: Path) -> None:
    restored = run / RESTORED
    for name in (*MIRRORED_FOLDERS, "spec.yaml"):
        if (restored / name).exists():
            move(restored / name, run / name)
    remove_folder(restored)


def _select_committed(state: State) -> Mapping[str, tuple[int | None, int]]:
    """The files that hold, and the list of an update; not the files that wait for their list."""
    return {path: v for path, v in state.items() if not path.startswith(".") or path == COMMIT}


@contextlib.contextmanager
def _reporting_errors(uri: str, use: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as e:
        raise RunError(f"`mirror` needs a place that can be {use}, got {uri}: {e}") from e
