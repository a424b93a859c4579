"""From a run's Parquet files to tables and figures; reading only, nothing of ours need run.

It works on a finished run, on a running one, and on one whose driver died.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from orchestrator.errors import RunError
from orchestrator.events import Kind
from orchestrator.log import Lock, read_table
from orchestrator.space import Choice
from orchestrator.spec import Spec, load_spec, read_yaml
from orchestrator.trial import TRANSITIONS, Objective, Status

__all__ = ["Placed", "Run", "load", "loss_of", "opened_spec", "placed", "ranked", "summary"]

BORDER = 0.05  #: of a range, on its own scale, counts as its border


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run's three tables, and what its last session said about itself."""

    folder: Path
    events: pd.DataFrame  #: in the order in which they happened
    epochs: pd.DataFrame  #: one row a trial and epoch, in the order in which they came in
    trials: pd.DataFrame  #: one row a trial, by id
    session: dict[str, Any]  #: details of the last session: workers, versions, objective
    status: str  #: running | finished | interrupted | failed | killed

    @property
    def objective(self) -> Objective:
        """The metric that decides."""
        return Objective(**self.session["objective"])


def load(folder: str | Path) -> Run:
    """The tables of a run as pandas frames.

    Raises:
        RunError: If there is no run in the folder, or a table cannot be read.
    """
    folder = Path(folder)
    if not (folder / "spec.yaml").is_file():
        raise RunError(f"{folder}: needs the folder of a run (with a spec.yaml), found none")
    if not list((folder / "events").glob("part-*.parquet")):
        raise RunError(
            f"{folder}: the run has logged nothing yet; `caviar resume {folder}` begins it"
        )
    running = Lock.held(folder)
    events = _frame(folder / "events").sort_values("seq", ignore_index=True)
    sessions = events[events["kind"] == Kind.SESSION]
    epochs = _frame(folder / "epochs")
    if len(epochs):  # of a running or killed run they may be a moment ahead of the events
        started = events.loc[events["kind"] == Kind.START, "trial"]
        epochs = epochs[epochs["trial"].isin(started)].reset_index(drop=True)
    return Run(
        folder=folder,
        events=events,
        epochs=epochs,
        trials=_refreshed(_frame(folder / "trials"), events),
        session=json.loads(sessions["details"].iloc[-1]),
        status=_status(events, running=running),
    )


def opened_spec(folder: Path) -> Spec:
    """The spec of a run.

    Raises:
        RunError: If there is no run in the folder.
    """
    path = folder / "spec.yaml"
    if not path.is_file():
        raise RunError(
            f"{folder}: needs the folder of a run (with a spec.yaml), found none; "
            f"`caviar search DATA --out {folder}` begins one"
        )
    return load_spec(read_yaml(path), source=str(path))


def summary(run: Run) -> dict[str, Any]:
    """What a run came to, as plain values for JSON."""
    fate = run.trials["status"].value_counts()
    return {
        "run": str(run.folder),
        "status": run.status,
        "seconds": round(_seconds(run), 3),
        "trials": len(run.trials),
        "epochs": len(run.epochs),
        **{s.value.lower(): int(fate.get(s.value, 0)) for s in Status},
        "utilisation": round(_utilisation(run), 4),
        "best": best(run),
    }


def configs_by_rank(run: Run) -> Iterator[dict[str, Any]]:
    """The trials' configurations, that of the best result first; those without one left out."""
    trials = run.trials.set_index("trial")
    for trial in ranked(run)["trial"].unique():
        yield _prefixed(trials.loc[trial], "config_")


def best(run: Run) -> dict[str, Any] | None:
    """The best epoch of the run with its config and figures, or None before the first."""
    sound = ranked(run)
    if sound.empty:
        return None
    o = run.objective
    row = sound.iloc[0]
    trial = run.trials.set_index("trial").loc[row["trial"]]
    tested = run.events[(run.events["kind"] == Kind.TEST) & (run.events["trial"] == row["trial"])]
    tested = tested[tested["epoch"] == row["epoch"]]
    model = run.folder / "best"
    return {
        "trial": int(row["trial"]),
        "epoch": int(row["epoch"]),
        "stage": trial["stage"],
        "metric": o.metric,
        "config": _prefixed(trial, "config_"),
        "validation": _prefixed(row, "validation_"),
        "test": _prefixed(tested.iloc[-1], "test_") if len(tested) else {},
        "model": str(model) if model.is_dir() else None,
    }


def ranked(run: Run) -> pd.DataFrame:
    """The sound epochs, best first: by the metric, its tie-breaker, and who was first."""
    if run.epochs.empty:
        return pd.DataFrame(columns=["trial", "epoch"])
    o, epochs = run.objective, run.epochs[run.epochs["cause"].isna()]
    keys = pd.DataFrame({"loss": _loss(epochs[o.metric], maximize=o.maximize)})
    if o.tie_metric:
        keys["tie"] = _loss(epochs[o.tie_metric], maximize=o.tie_maximize)
    keys["seq"] = epochs["seq"]
    return epochs.loc[keys.sort_values(list(keys.columns)).index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a value lies in the range it was searched in."""

    name: str
    value: Any
    unit: float  #: its coordinate in [0, 1] on the range's own scale
    domain: str  #: the range, in words
    border: str  #: low | high, or nothing


def placed(spec: Spec, run: Run) -> list[Placed]:
    """The best config's searched values, each in its range; a choice has no border."""
    found = best(run)
    if found is None:
        return []
    dimensions = {d.name: d for d in spec.parameters().dimensions}
    trial = run.trials.set_index("trial").loc[found["trial"]]
    rows = []
    for name, u in _prefixed(trial, "unit_").items():
        domain = dimensions[name].domain
        near = "low" if u < BORDER else "high" if u > 1 - BORDER else ""
        rows.append(
            Placed(
                name=name,
                value=found["config"][name],
                unit=u,
                domain=str(domain),
                border="" if isinstance(domain, Choice) else near,
            )
        )
    return rows


def _frame(folder: Path) -> pd.DataFrame:
    """A table as a frame; one that has no part yet is empty."""
    if not list(folder.glob("part-*.parquet")):
        return pd.DataFrame()
    whole = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}  # whole even beside nulls
    frame: pd.DataFrame = read_table(folder).to_pandas(types_mapper=whole.get)
    return frame


def _refreshed(trials: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """The trials table lags behind a running search: take in what events have said since."""
    started = events[events["kind"] == Kind.START].set_index("trial")
    if len(started) > len(trials):
        known = set(trials["trial"]) if len(trials) else set()
        new = started[~started.index.isin(known)].reset_index()
        columns = trials.columns if len(trials) else new.columns
        trials = pd.concat([trials, new.reindex(columns=columns)], ignore_index=True)
    if trials.empty:
        return pd.DataFrame({"trial": [], "status": [], "stage": []})
    leads_to = {kind.value: status.value for (_, kind), status in TRANSITIONS.items()}
    moves = events[events["kind"].isin(leads_to)].groupby("trial")["kind"].last().map(leads_to)
    trials["status"] = trials["trial"].map(moves)
    return trials.sort_values("trial", ignore_index=True)


def _status(events: pd.DataFrame, *, running: bool) -> str:
    if running:
        return "running"
    ends = events[events["kind"].isin([Kind.SESSION, Kind.END])]
    if ends["kind"].iloc[-1] == Kind.SESSION:
        return "killed"
    return str(ends["reason"].iloc[-1]).partition(":")[0]


def _seconds(run: Run) -> float:
    last = run.epochs["at_seconds"].max() if len(run.epochs) else 0.0
    return float(max(run.events["at_seconds"].max(), last))


def _utilisation(run: Run) -> float:
    """Time inside epochs over workers x time, added up over the sessions."""
    sessions = run.events[run.events["kind"] == Kind.SESSION]
    begins = [*sessions["at_seconds"], _seconds(run)]
    ends = run.events[run.events["kind"] == Kind.END]["at_seconds"]
    capacity = 0.0
    for i, details in enumerate(sessions["details"]):
        end = max((e for e in ends if begins[i] <= e <= begins[i + 1]), default=begins[i + 1])
        capacity += json.loads(details)["workers"] * (end - begins[i])
    spent = run.epochs["epoch_seconds"].sum() if len(run.epochs) else 0.0
    return float(spent / capacity) if capacity > 0 else 0.0


def loss_of(run: Run, epochs: pd.DataFrame) -> pd.Series:
    """What decides, smaller is better; inf for what went bad."""
    o = run.objective
    return _loss(epochs[o.metric].where(epochs["cause"].isna()), maximize=o.maximize)


def _loss(values: pd.Series[float], *, maximize: bool) -> pd.Series:
    finite = values.where(np.isfinite(values), -np.inf if maximize else np.inf)
    return -finite if maximize else finite


def _prefixed(row: Any, prefix: str) -> dict[str, Any]:
    """The columns of a row that begin with a prefix, without it; nulls left out."""
    return {
        name.removeprefix(prefix): value.item() if isinstance(value, np.generic) else value
        for name, value in row.items()
        if name.startswith(prefix) and not pd.isna(value)
    }
