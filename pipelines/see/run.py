"""A run as three pandas frames, read from its folder; reading only.

This works on a finished run, on a running one, and on one whose driver died. To load the tables
takes no spec and no space: those are read when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.errors import DamageError, RunError
from orchestrator.quote import quote
from orchestrator.search.events import Kind, SessionDetails
from orchestrator.search.objective import Objective
from orchestrator.search.trial import AUDIT, TRANSITIONS, Status
from orchestrator.store.agreement import check_agreement
from orchestrator.store.event_rows import parse_session_details
from orchestrator.store.lock import Lock
from orchestrator.store.reading import (
    TABLES,
    count_settled_rows,
    is_settled,
    list_parts,
    read_table,
)
from orchestrator.store.run_files import check_run_files
from orchestrator.store.tables import list_space_columns

if TYPE_CHECKING:
    from orchestrator.space.space import Space

__all__ = ["RunTables", "check_is_run", "load_run", "resolve_status"]


@dataclass(frozen=True, kw_only=True)
class RunTables:
    """The three tables of a run, and what its last session recorded about itself.

    Audits stand apart in `audit`: they show what pruning did, and no decision and no figure of the
    run counts them.
    """

    folder: Path
    events: pd.DataFrame  #: one row for each event, in the order in which they happened
    epochs: pd.DataFrame  #: one row for each epoch of each trial, in the order of the reports
    trials: pd.DataFrame  #: one row for each trial, by number
    session: SessionDetails  #: details of the last session: workers, versions, objective
    status: str  #: status of the run: running | finished | interrupted | failed | killed
    audit: RunTables | None = None  #: the same tables of the run's audits, if it has any

    @property
    def objective(self) -> Objective:
        """The metric that decides which trial is best."""
        assert self.session.objective is not None  # every version records it
        return self.session.objective

    @cached_property
    def space(self) -> Space:
        """The run's search space, read from spec.yaml when it is first asked for.

        Raises:
            SpecError: If the spec cannot be read.
            RunError: If the trials table lacks a column of the space.
        """
        from pipelines.see.run_spec import read_run_spec  # imports pydantic

        space = read_run_spec(self.folder).parameters()
        if len(self.trials):
            _require_columns(self.folder, self.trials, space)
        return space


def load_run(folder: str | Path) -> RunTables:
    """Load the tables of a run as pandas frames; a run of an older version too.

    Raises:
        RunError: If there is no run in the folder, or a table cannot be read.
    """
    folder = Path(folder)
    check_is_run(folder)
    settled, running = is_settled(folder), Lock.is_locked(folder)
    events, epochs, trials = _read_settled_rows(folder, settled=settled)
    if not events.num_rows:
        raise RunError(
            f"{folder}: the run has logged nothing yet; "
            f"`caviar resume {folder} --time 60s` begins it"
        )
    check_agreement(folder, events, epochs, trials)
    event_frame = _to_frame(events)
    details = events.filter(pc.equal(events["kind"], Kind.SESSION.value))["details"][-1].as_py()
    return _split_audits(
        RunTables(
            folder=folder,
            events=event_frame,
            epochs=_to_frame(epochs),
            trials=_update_trials(_to_frame(trials), event_frame),
            session=parse_session_details(details),
            status=_find_run_status(event_frame, running=running),
        )
    )


def _read_settled_rows(folder: Path, *, settled: bool) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Events, epochs and trials up to the last row that events and epochs both have reached."""
    events, epochs, trials = (_read_table(folder / name) for name in TABLES)
    count = count_settled_rows(
        folder, *(_get_column(table, "seq") for table in (events, epochs)), settled=settled
    )
    if events.num_columns:
        events = events.filter(pc.field("seq") < count).sort_by("seq")
    if epochs.num_columns:
        epochs = epochs.filter(pc.field("seq") < count)
    if (
        events.num_columns and trials.num_columns and not settled
    ):  # they are written after the events, so may be ahead
        started = events.filter(pc.equal(events["kind"], Kind.START.value))["trial"]
        trials = trials.filter(pc.is_in(trials["trial"], started.combine_chunks()))
    return events, epochs, trials


def check_is_run(folder: Path) -> None:
    """Refuse a folder that holds no run, or one whose files are links.

    Raises:
        RunError: If there is no spec.yaml in the folder, or a file of the run is a link or a pipe.
    """
    check_run_files(folder)
    if not (folder / "spec.yaml").is_file():
        raise RunError(
            f"{folder}: needs the folder of a run (with a spec.yaml), found none; "
            f"`caviar search DATA --out {folder}` begins one"
        )


def resolve_status(run: RunTables, status: str) -> Status:
    """A trial's status; RUNNING becomes STOPPED where the driver of the run has died."""
    recorded = Status(status)
    dead = recorded is Status.RUNNING and run.status != "running"
    return Status.STOPPED if dead else recorded


def _require_columns(folder: Path, trials: pd.DataFrame, space: Space) -> None:
    """Refuse trials without a column of the space, or with another type: both come from files."""
    fits = {
        pa.float64(): pd.api.types.is_float_dtype,
        pa.int64(): pd.api.types.is_integer_dtype,
        pa.bool_(): pd.api.types.is_bool_dtype,
        pa.string(): pd.api.types.is_string_dtype,
    }
    columns = list_space_columns(space)
    foreign = [
        n for n in map(str, trials) if n.startswith(("config_", "unit_")) and n not in columns
    ]
    if foreign:
        raise RunError(f"{folder}: trials/ has a column {quote(foreign[0])}, spec.yaml has none")
    for name, column in columns.items():
        cells = trials[name].dropna().infer_objects() if name in trials else None
        if cells is None or (len(cells) and not fits[column.type](cells)):
            raise RunError(
                f"{folder}: trials/ needs the column {name} of type {column.type}, as spec.yaml "
                f"says, got {'none' if cells is None else cells.dtype}"
            )
    for d in space.dimensions:
        if (trials[f"unit_{d.name}"].notna() & trials[f"config_{d.name}"].isna()).any():
            raise RunError(f"{folder}: trials/ has a coordinate of {d.name} without its value")


def _split_audits(run: RunTables) -> RunTables:
    of_audits = run.trials["stage"] == AUDIT
    if not of_audits.any():
        return run
    ids = run.trials.loc[of_audits, "trial"]

    def select(*, audit: bool) -> RunTables:
        def filter_rows(rows: pd.DataFrame) -> pd.DataFrame:
            if rows.empty:
                return rows
            inside = rows["trial"].isin(ids) == audit
            return rows[inside | rows["trial"].isna()].reset_index(drop=True)

        return replace(
            run,
            events=filter_rows(run.events),
            epochs=filter_rows(run.epochs),
            trials=filter_rows(run.trials),
        )

    return replace(select(audit=False), audit=select(audit=True))


def _read_table(folder: Path) -> pa.Table:
    """A table, without a column if it has no part yet."""
    return read_table(folder) if list_parts(folder) else pa.table({})


def _get_column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    if not table.num_columns:
        return np.zeros(0, np.int64)
    if table[name].null_count:
        raise DamageError(f"each row of events and epochs needs a number in {name}, got null")
    column: npt.NDArray[Any] = table[name].to_numpy()
    return column


def _to_frame(table: pa.Table) -> pd.DataFrame:
    whole = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}  # whole even beside nulls
    plain = table.replace_schema_metadata(None)  # pandas would follow what a stranger wrote there
    frame: pd.DataFrame = plain.to_pandas(types_mapper=whole.get)
    return frame


def _update_trials(trials: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """The trials table with what later events say: of a running search it lags behind them."""
    started = events[events["kind"] == Kind.START].set_index("trial")
    if len(started) > len(trials):
        listed = set(trials["trial"]) if len(trials) else set()
        new = started[~started.index.isin(listed)].reset_index()
        columns = trials.columns if len(trials) else new.columns
        trials = pd.concat([trials, new.reindex(columns=columns)], ignore_index=True)
    if trials.empty:
        return pd.DataFrame({"trial": [], "status": [], "stage": []})
    leads_to = {kind.value: status.value for (_, kind), status in TRANSITIONS.items()}
    moves = events[events["kind"].isin(leads_to)].groupby("trial")["kind"].last().map(leads_to)
    trials["status"] = trials["trial"].map(moves)
    return trials.sort_values("trial", ignore_index=True)


def _find_run_status(events: pd.DataFrame, *, running: bool) -> str:
    if running:
        return "running"
    ends = events[events["kind"].isin([Kind.SESSION, Kind.END])]
    if ends["kind"].iloc[-1] == Kind.SESSION:
        return "killed"
    return str(ends["reason"].iloc[-1]).partition(":")[0]
