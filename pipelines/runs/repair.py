"""`caviar replay` makes a run's decisions again; `caviar repair` keeps what can be read of a run.

A repaired log is written beside the old one and then put in its place, table by table; the next
repair finishes one that was interrupted. The old files stay in damaged-N/. Only damage is repaired:
a table of another version, or one that may not or cannot be read now, stays as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from orchestrator.errors import DamageError, InvalidEntry
from orchestrator.search.events import (
    Kind,
    SessionDetails,
    SessionEnded,
    SessionStarted,
    TrialStarted,
)
from orchestrator.search.messages import Entry, Observation
from orchestrator.search.replay import ReplayResult, replay
from orchestrator.search.salvage import REASON, salvage
from orchestrator.store.aside import find_last_number, move_strays_aside
from orchestrator.store.files import (
    atomic_write,
    make_folder,
    move,
    remove_folder,
    reporting_write_errors,
)
from orchestrator.store.lock import Lock
from orchestrator.store.log import Log, resolve_staged_events
from orchestrator.store.reading import (
    TABLES,
    is_settled,
    list_parts,
    list_staged_events,
    read_entries,
    read_intact_parts,
)
from orchestrator.store.run_files import REPAIRED
from orchestrator.store.tables import Tables
from pipelines.runs.from_spec import make_search, make_tables
from pipelines.runs.older_runs import check_same_version_decided, check_version_can_write
from pipelines.runs.spec import Spec
from pipelines.runs.trust import check_trust
from pipelines.see.run_spec import read_run_spec

__all__ = ["repair", "replay_run"]

Row = dict[str, Any]

_WHOLE = "whole"  #: file in that folder that exists once all tables are on the disk


def replay_run(run: Path, *, trust_trainer: bool = False) -> ReplayResult:
    """Take a run's decisions again; it may be running.

    Raises:
        RunError: If it has no log that can be read, or another version took its decisions.
    """
    check_same_version_decided(run)
    spec = read_run_spec(run)
    check_trust(spec, granted=trust_trainer)
    entries = read_entries(run, make_tables(spec), settled=is_settled(run))
    with threadpool_limits(limits=1):  # as when it was decided: two threads give other bits
        return replay(make_search(spec), entries)


def repair(run: Path, *, trust_trainer: bool = False) -> str:
    """Keep all that can be read of a damaged run, and say in words what that was.

    Raises:
        RunError: If there is no run, another process writes to it, it cannot be written to, or a
            table cannot be read for another reason than damage.
    """
    spec = read_run_spec(run)
    check_trust(spec, granted=trust_trainer)
    check_version_can_write(run)
    lock = Lock(run)
    try:
        with reporting_write_errors(run):
            return _repair(run, spec)
    finally:
        lock.release()


def _repair(run: Path, spec: Spec) -> str:
    fresh = run / REPAIRED
    if (fresh / _WHOLE).exists():
        _put_in_place(run, fresh)
        return f"{run}: the interrupted repair is finished"
    tables = make_tables(spec)
    intact, damaged = _read_intact(run, tables)
    moved = move_strays_aside(run)
    if not damaged and _is_consistent(spec, run, tables, intact["trials"]):
        return f"{run}: nothing to repair" + (f" (see {moved.name}/)" if moved else "")
    salvaged = _write_salvaged(fresh, spec, tables, intact)
    place = _put_in_place(run, fresh)
    names = ", ".join(f"{p.parent.name}/{p.name}" for p in damaged) or "none of the parts"
    return f"{run}: kept {salvaged}; damaged: {names} (the old files are in {place.name}/)"


def _read_intact(run: Path, tables: Tables) -> tuple[Mapping[str, list[Row]], list[Path]]:
    """The rows of each table's intact parts, and the damaged parts of all tables.

    A flush that was broken off is finished first if its epochs are whole.
    """
    epochs, damaged = read_intact_parts(run / "epochs", tables.epochs)
    damaged += _finish_flush(run, len(epochs)) if not damaged else []
    events, damaged_events = read_intact_parts(run / "events", tables.events)
    trials, damaged_trials = read_intact_parts(run / "trials", tables.trials)
    rows = {"events": events, "epochs": epochs, "trials": trials}
    return rows, [*damaged_events, *damaged, *damaged_trials]


def _finish_flush(run: Path, epochs: int) -> list[Path]:
    """Finish a flush as a writer does, or return its file if that or the epochs are damaged."""
    staged = list_staged_events(run)
    try:
        if staged:
            list_parts(run / "epochs")
            resolve_staged_events(run, epochs)
    except DamageError:
        return staged
    return []


def _is_consistent(spec: Spec, run: Path, tables: Tables, trials: list[Row]) -> bool:
    """Whether the log has no gap and no contradiction, and `trials` are some of its trials.

    During a session the table of trials may be behind, or not there yet: the next writer completes
    it. A session that has ended has written it.
    """
    search, has_ended = make_search(spec), False
    try:
        list_parts(run / "trials")
        for seq, _, entry in read_entries(run, tables, settled=True):
            search.apply(entry, seq=seq)
            has_ended = isinstance(entry, SessionEnded)
    except DamageError:
        return False
    ids = {row["trial"] for row in trials}
    are_lost = has_ended and bool(search.trials) and not ids
    return len(ids) == len(trials) and ids <= search.trials.keys() and not are_lost


def _write_salvaged(folder: Path, spec: Spec, tables: Tables, rows: Mapping[str, list[Row]]) -> str:
    """Write the salvaged log into a separate folder, and say in words what it holds."""
    if folder.exists():
        remove_folder(folder)  # of a repair that was interrupted before its tables were complete
    make_folder(folder)
    log = Log(folder, tables)
    if not any(row["kind"] == Kind.SESSION for row in rows["events"]):
        details = SessionDetails(objective=tables.objective)
        log.append(SessionStarted(reason=REASON, details=details), 0.0)
    starts, stops = _rebuild_starts(tables, rows["trials"]), _list_stops(rows)
    trials: set[int] = set()
    salvaged_rows: list[int] = []
    count = 0
    for seq, at_seconds, entry in salvage(
        make_search(spec), _order_entries(tables, rows), starts, stops
    ):
        log.append(entry, at_seconds)
        salvaged_rows += [] if seq is None else [seq]
        if isinstance(entry, Observation):
            trials.add(entry.report.trial)
            count += 1
    log.flush(final=True)
    _make_old_folder(folder.parent)
    with atomic_write(folder / _WHOLE):
        pass
    lost = _describe_lost_rows(salvaged_rows, rows)
    return f"{count} of {len(rows['epochs'])} readable epochs, of {len(trials)} trials{lost}"


def _describe_lost_rows(salvaged: list[int], rows: Mapping[str, list[Row]]) -> str:
    """The rows of the old log that the new one lacks, as ranges of their numbers."""
    last = max((row["seq"] for name in ("events", "epochs") for row in rows[name]), default=-1)
    whole = np.setdiff1d([-1, *salvaged, last + 1], [])
    gaps = [
        f"{low + 1}" if high == low + 2 else f"{low + 1} to {high - 1}"
        for low, high in pairwise(map(int, whole))
        if high > low + 1
    ]
    if not gaps:
        return ""
    more = f" and {len(gaps) - 5} more gaps" if len(gaps) > 5 else ""
    return f", without the rows {', '.join(gaps[:5])}{more} of the old log"


def _order_entries(
    tables: Tables, rows: Mapping[str, list[Row]]
) -> Iterator[tuple[int, float, Entry]]:
    """The entries in the order of `seq`: the first row of each number that holds an entry."""
    previous = -1
    for row in sorted([*rows["events"], *rows["epochs"]], key=lambda row: row["seq"]):
        if row["seq"] == previous:
            continue
        try:
            entry = tables.entry(row)
        except InvalidEntry:
            continue
        previous = row["seq"]
        yield row["seq"], row["at_seconds"], entry


def _rebuild_starts(tables: Tables, trials: list[Row]) -> dict[int, TrialStarted]:
    """The start of each trial, from the trials table, which is derived from the events."""
    starts = {}
    for row in trials:
        with suppress(InvalidEntry):
            starts[row["trial"]] = tables.start(row, stop_epoch=1)  # salvage knows the true one
    return starts


def _list_stops(rows: Mapping[str, list[Row]]) -> dict[int, list[int]]:
    stops: defaultdict[int, list[int]] = defaultdict(list)
    for row in rows["epochs"]:
        if row["last"]:
            stops[row["trial"]].append(row["epoch"])
    return stops


def _put_in_place(run: Path, fresh: Path) -> Path:
    """Put the new tables in the place of the old ones, and return the folder that keeps the old."""
    old = run / f"damaged-{find_last_number(run)}"
    for name in TABLES:
        if (fresh / name).exists():
            if (run / name).exists():
                move(run / name, old / name)
            move(fresh / name, run / name)
    remove_folder(fresh)
    return old


def _make_old_folder(run: Path) -> None:
    """Make the next damaged-N, before the new tables count as complete.

    So a repair that is interrupted at any later moment finds the folder that it has to fill.
    """
    number = find_last_number(run)
    if number == 0 or any((run / f"damaged-{number}").iterdir()):
        make_folder(run / f"damaged-{number + 1}")
