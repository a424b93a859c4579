"""A run as three pandas frames, read from its folder; reading only.

This works on a finished run, on a running one, and on one whose driver died. To load the tables
takes no spec and no space: those are read when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from orchestrator.errors import RunError
from orchestrator.search.events import Kind, SessionDetails
from orchestrator.search.objective import Objective
from orchestrator.search.trial import AUDIT, TRANSITIONS, Status
from orchestrator.store.event_rows import parse_session_details
from orchestrator.store.lock import Lock
from orchestrator.store.reading import list_parts, read_table
from orchestrator.store.run_files import check_run_files

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
        """
        from pipelines.see.run_spec import read_run_spec  # imports pydantic

        return read_run_spec(self.folder).parameters()


def load_run(folder: str | Path) -> RunTables:
    """Load the tables of a run as pandas frames; a run of an older version too.

    Raises:
        RunError: If there is no run in the folder, or a table cannot be read.
    """
    folder = Path(folder)
    check_is_run(folder)
    if not list_parts(folder / "events"):
        raise RunError(
            f"{folder}: the run has logged nothing yet; `caviar resume {folder}` begins it"
        )
    running = Lock.is_locked(folder)
    events = _read_frame(folder / "events").sort_values("seq", ignore_index=True)
    sessions = events[events["kind"] == Kind.SESSION]
    epochs = _read_frame(folder / "epochs")
    if len(epochs):  # of a running or killed run they may be a moment ahead of the events
        started = events.loc[events["kind"] == Kind.START, "trial"]
        epochs = epochs[epochs["trial"].isin(started)].reset_index(drop=True)
    return _split_audits(
        RunTables(
            folder=folder,
            events=events,
            epochs=epochs,
            trials=_update_trials(_read_frame(folder / "trials"), events),
            session=parse_session_details(sessions["details"].iloc[-1]),
            status=_find_run_status(events, running=running),
        )
    )


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


def _read_frame(folder: Path) -> pd.DataFrame:
    """A table as a frame, which is empty if the table has no part yet."""
    if not list_parts(folder):
        return pd.DataFrame()
    whole = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}  # whole even beside nulls
    frame: pd.DataFrame = read_table(folder).to_pandas(types_mapper=whole.get)
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
