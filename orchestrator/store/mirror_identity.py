"""Which run a mirror holds: it may be replaced only by the later state of the same run.

A mirror may be the only copy of a run. So a run is copied over it only where the mirror holds this
run's past: the same spec, the same id (a random number that the first session draws), and no row
that the run does not have. Rows are compared by `seq` and `at_seconds`. Two drivers that continue
the same run write different times, so the last part of a table is enough to tell them apart.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.errors import RunError
from orchestrator.search.events import Kind
from orchestrator.store.event_rows import parse_session_details
from orchestrator.store.mirror_store import MirrorStore, State
from orchestrator.store.reading import read_part

__all__ = ["require_past_of"]

_COLUMNS = ["seq", "at_seconds"]  #: columns that tell rows apart


def require_past_of(run: Path, store: MirrorStore, state: State) -> None:
    """Refuse a mirror that holds anything but the past of a run.

    Args:
        run: The run's folder; it need not exist.
        store: The mirror.
        state: What is in the mirror.

    Raises:
        RunError: If the mirror holds another run, rows that the run does not have, or files that
            are no run; the message says what to type.
        OSError: If a file cannot be read.
    """
    files = store.list_files(state)
    folder, uri = shlex.quote(str(run)), shlex.quote(store.uri)
    if "spec.yaml" not in files:
        if files or store.has_other_files():
            raise RunError(
                f"`mirror` needs an empty place or the copy of a run, got {store.uri} with other "
                f"files; give another place"
            )
        return
    if not any(path.endswith(".parquet") for path in files):
        return  # the run was stopped before its first row: nothing of it can be lost
    if not (run / "spec.yaml").is_file():
        raise RunError(
            f"{run}: is no run yet, but the mirror {store.uri} holds one; type "
            f"`caviar resume {folder}` with `mirror={uri}` to continue it, or give another `mirror`"
        )
    if _is_other_run(run, store, files):
        raise RunError(
            f"`mirror` needs a place of its own for {run}, got {store.uri}, which holds another "
            f"run; give another place"
        )
    if any(_has_more_rows(run, store, files, table) for table in ("epochs", "events")):
        raise RunError(
            f"{run}: lacks rows that its mirror {store.uri} holds; type "
            f"`caviar resume {folder}-restored` with `mirror={uri}` to continue from the mirror, "
            f"or give another `mirror`"
        )


def _is_other_run(run: Path, store: MirrorStore, files: Mapping[str, str]) -> bool:
    """Whether specs or ids differ; runs that version 0.1 began have no ids."""
    with store.open_file(files["spec.yaml"]) as copy:
        if copy.read() != (run / "spec.yaml").read_bytes():
            return True
    first = "events/part-00000.parquet"
    if first not in files or not (run / first).is_file():
        return False
    copy = _read_copy(store, files[first], ["kind", "details"])
    original = read_part(run / first, None)
    try:
        return _find_run_id(copy) != _find_run_id(original)
    except (ValueError, TypeError, AttributeError) as e:
        raise RunError(f"{store.uri}: {first} is not of a run: its sessions have no details") from e


def _find_run_id(events: pa.Table) -> str:
    """The id that the first session recorded; empty if there is none."""
    sessions = events.filter(pc.equal(events["kind"], Kind.SESSION.value))
    return parse_session_details(sessions["details"][0].as_py()).run_id if len(sessions) else ""


def _has_more_rows(run: Path, store: MirrorStore, files: Mapping[str, str], table: str) -> bool:
    """Whether the last part of a table in the mirror has a row that the run does not have."""
    parts = sorted(path for path in files if path.startswith(f"{table}/part-"))
    if not parts:
        return False
    copy = _read_copy(store, files[parts[-1]], _COLUMNS)
    if not (run / parts[-1]).is_file():
        return len(copy) > 0
    original = read_part(run / parts[-1], None).select(_COLUMNS)
    return not original.slice(0, len(copy)).equals(copy)


def _read_copy(store: MirrorStore, place: str, columns: list[str]) -> pa.Table:
    """Read columns of a part in the mirror.

    Raises:
        RunError: If it is no part of a table.
        OSError: If it cannot be read.
    """
    with store.open_file(place) as file:
        try:
            return pq.ParquetFile(file).read(columns=columns).select(columns)
        except (pa.ArrowException, ValueError, LookupError) as e:
            raise RunError(
                f"{store.uri}: {place} is no part of a run's table, so nothing is written over it; "
                f"give another `mirror`"
            ) from e
