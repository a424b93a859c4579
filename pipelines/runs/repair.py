"""`caviar replay` makes a run's decisions again; `caviar repair` keeps what can be read of a run.

A repaired log is written beside the old one and then put in its place, table by table; the next
repair finishes one that was interrupted. The old files stay in damaged-N/.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from orchestrator.errors import InvalidEntry
from orchestrator.search.events import Kind, SessionDetails, SessionStarted, TrialStarted
from orchestrator.search.messages import Entry, Observation
from orchestrator.search.replay import ReplayResult, replay
from orchestrator.search.salvage import REASON, salvage
from orchestrator.store.files import (
    atomic_write,
    make_folder,
    move,
    remove_folder,
    reporting_write_errors,
)
from orchestrator.store.lock import Lock
from orchestrator.store.log import Log
from orchestrator.store.reading import TABLES, read_entries, read_intact_parts
from orchestrator.store.tables import Tables
from pipelines.runs.from_spec import make_search, make_tables
from pipelines.runs.older_runs import check_same_version_decided, check_version_can_write
from pipelines.runs.spec import Spec
from pipelines.see.run_spec import read_run_spec

__all__ = ["repair", "replay_run"]

_REPAIRED = ".repaired"  #: folder in which the new tables are made
_WHOLE = "whole"  #: file in that folder that exists once all tables are on the disk


def replay_run(run: Path) -> ReplayResult:
    """Take a run's decisions again; it may be running.

    Raises:
        RunError: If it has no log that can be read, or another version took its decisions.
    """
    check_same_version_decided(run)
    spec = read_run_spec(run)
    with threadpool_limits(limits=1):  # as when it was decided: two threads give other bits
        return replay(make_search(spec), read_entries(run, make_tables(spec)))


def repair(run: Path) -> str:
    """Keep all that can be read of a damaged run, and say in words what that was.

    Raises:
        RunError: If there is no run, another process writes to it, or it cannot be written to.
    """
    spec = read_run_spec(run)
    check_version_can_write(run)
    lock = Lock(run)
    try:
        with reporting_write_errors(run):
            return _repair(run, spec)
    finally:
        lock.release()


def _repair(run: Path, spec: Spec) -> str:
    fresh = run / _REPAIRED
    if (fresh / _WHOLE).exists():
        _put_in_place(run, fresh)
        return f"{run}: the interrupted repair is finished"
    tables = make_tables(spec)
    intact = {
        name: read_intact_parts(run / name, schema)
        for name, schema in zip(TABLES, (tables.events, tables.epochs, tables.trials), strict=True)
    }
    damaged = [path for _, paths in intact.values() for path in paths]
    lost_trials = bool(intact["events"][0]) and not intact["trials"][0]
    if not (damaged or lost_trials) and _is_consistent(spec, run, tables):
        return f"{run}: nothing to repair"
    salvaged = _write_salvaged(
        fresh, spec, tables, {name: rows for name, (rows, _) in intact.items()}
    )
    place = _put_in_place(run, fresh)
    names = ", ".join(f"{p.parent.name}/{p.name}" for p in damaged) or "rows that fit together"
    return f"{run}: kept {salvaged}; lost {names} (the old files are in {place.name}/)"


def _is_consistent(spec: Spec, run: Path, tables: Tables) -> bool:
    """Whether every entry of the log follows from those before it."""
    search = make_search(spec)
    try:
        for seq, _, entry in read_entries(run, tables):
            search.apply(entry, seq=seq)
    except InvalidEntry:
        return False
    return True


def _write_salvaged(
    folder: Path, spec: Spec, tables: Tables, rows: Mapping[str, list[dict[str, Any]]]
) -> str:
    """Write the salvaged log into a separate folder, and say in words what it holds."""
    if folder.exists():
        remove_folder(folder)  # of a repair that was interrupted before its tables were complete
    make_folder(folder)
    log = Log(folder, tables)
    if not any(row["kind"] == Kind.SESSION for row in rows["events"]):
        details = SessionDetails(objective=tables.objective)
        log.append(SessionStarted(reason=REASON, details=details), 0.0)
    trials: set[int] = set()
    count = 0
    for at_seconds, entry in salvage(
        make_search(spec),
        _order_entries(tables, rows),
        _rebuild_starts(tables, rows["trials"]),
        _list_stops(rows),
    ):
        log.append(entry, at_seconds)
        if isinstance(entry, Observation):
            trials.add(entry.report.trial)
            count += 1
    log.flush(final=True)
    _make_old_folder(folder.parent)
    with atomic_write(folder / _WHOLE):
        pass
    return f"{count} of {len(rows['epochs'])} readable epochs, of {len(trials)} trials"


def _order_entries(
    tables: Tables, rows: Mapping[str, list[dict[str, Any]]]
) -> list[tuple[float, Entry]]:
    read: list[tuple[int, float, Entry]] = []
    read += [(r["seq"], r["at_seconds"], tables.event(r)) for r in rows["events"]]
    read += [(r["seq"], r["at_seconds"], tables.observation(r)) for r in rows["epochs"]]
    read.sort(key=lambda row: row[0])
    return [(at_seconds, entry) for _, at_seconds, entry in read]


def _rebuild_starts(tables: Tables, trials: list[dict[str, Any]]) -> dict[int, TrialStarted]:
    """The start of each trial, from the trials table, which is derived from the events."""
    dimensions = [d.name for d in tables.space.dimensions]
    return {
        row["trial"]: TrialStarted(
            trial=row["trial"],
            stage=row["stage"],
            zoom=row["zoom"],
            parents=None if row["parents"] is None else tuple(row["parents"]),
            config=tables.read_trial_config(row),
            unit={n: row[f"unit_{n}"] for n in dimensions if row[f"unit_{n}"] is not None},
            seed=row["seed"],
            stop_epoch=1,  # salvage knows the true one
        )
        for row in trials
    }


def _list_stops(rows: Mapping[str, list[dict[str, Any]]]) -> dict[int, list[int]]:
    stops: defaultdict[int, list[int]] = defaultdict(list)
    for row in rows["epochs"]:
        if row["last"]:
            stops[row["trial"]].append(row["epoch"])
    return stops


def _put_in_place(run: Path, fresh: Path) -> Path:
    """Put the new tables in the place of the old ones, and return the folder that keeps the old."""
    old = run / f"damaged-{_find_last_number(run)}"
    for name in TABLES:
        if (fresh / name).exists():
            if (run / name).exists():
                move(run / name, old / name)
            move(fresh / name, run / name)
    remove_folder(fresh)
    return old


def _find_last_number(run: Path) -> int:
    """The N of the last damaged-N, or 0 if there is none."""
    names = [path.name.removeprefix("damaged-") for path in run.glob("damaged-*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _make_old_folder(run: Path) -> None:
    """Make the next damaged-N, before the new tables count as complete.

    So a repair that is interrupted at any later moment finds the folder that it has to fill.
    """
    number = _find_last_number(run)
    if number == 0 or any((run / f"damaged-{number}").iterdir()):
        make_folder(run / f"damaged-{number + 1}")
