"""From a run's Parquet files to tables and figures; reading only, nothing of ours need run.

It works on a finished run, on a running one, and on one whose driver died.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from orchestrator.errors import RunError
from orchestrator.search.events import Kind
from orchestrator.search.objective import Objective
from orchestrator.search.trial import AUDIT, TRANSITIONS, Status
from orchestrator.space.domains import Choice
from orchestrator.space.space import Space
from orchestrator.store.lock import Lock
from orchestrator.store.log import read_table
from orchestrator.store.tables import read_config
from pipelines.runs.spec import Spec, load_spec
from pipelines.runs.yaml_text import read_yaml

__all__ = [
    "PlacedValue",
    "Run",
    "best",
    "compute_losses",
    "compute_tie_breakers",
    "concat_epochs",
    "group_curves",
    "iterate_configs_by_rank",
    "list_metrics",
    "load",
    "locate_best_values",
    "number_configs",
    "rank_epochs",
    "read_run_spec",
    "read_trial_config",
    "resolve_status",
    "summary",
]

BORDER = 0.05  #: of a range, on its own scale, counts as its border


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run's three tables, and what its last session said about itself.

    Audits stand apart: they show what pruning did, and nothing is decided or reckoned by them.
    """

    folder: Path
    space: Space
    events: pd.DataFrame  #: in the order in which they happened
    epochs: pd.DataFrame  #: one row a trial and epoch, in the order in which they came in
    trials: pd.DataFrame  #: one row a trial, by id
    session: dict[str, Any]  #: details of the last session: workers, versions, objective
    status: str  #: running | finished | interrupted | failed | killed
    audit: Run | None = None  #: the same of its audits, where there are some

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
    space = read_run_spec(folder).parameters()
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
    return _apart(
        Run(
            folder=folder,
            space=space,
            events=events,
            epochs=epochs,
            trials=_refreshed(_frame(folder / "trials"), events),
            session=json.loads(sessions["details"].iloc[-1]),
            status=_status(events, running=running),
        )
    )


def read_run_spec(folder: Path) -> Spec:
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
        "audits": len(run.audit.trials) if run.audit else 0,
        **{s.value.lower(): int(fate.get(s.value, 0)) for s in Status},
        "utilisation": round(_utilisation(run), 4),
        "best": best(run),
    }


def iterate_configs_by_rank(run: Run) -> Iterator[dict[str, Any]]:
    """The trials' configurations, that of the best result first; those without one left out."""
    return (read_trial_config(run, trial) for trial in rank_epochs(run)["trial"].unique())


def read_trial_config(run: Run, trial: int) -> dict[str, Any]:
    """A trial's configuration."""
    (row,) = run.trials[run.trials["trial"] == trial].to_dict("records")
    known = _prefixed(row, "config_")
    return dict(read_config(run.space, {f"config_{n}": known.get(n) for n in run.space.names}))


def concat_epochs(run: Run) -> pd.DataFrame:
    """Every epoch that was trained, those of audits among them."""
    parts = [part.epochs for part in (run, run.audit) if part is not None and len(part.epochs)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def group_curves(run: Run) -> dict[Any, pd.DataFrame]:
    """The epochs of each trial that has some."""
    return dict(list(run.epochs.groupby("trial"))) if len(run.epochs) else {}


def resolve_status(run: Run, status: str) -> Status:
    """A trial's status; RUNNING where nobody trains it any more is STOPPED: its driver died."""
    own = Status(status)
    dead = own is Status.RUNNING and run.status != "running"
    return Status.STOPPED if dead else own


def list_metrics(run: Run) -> list[str]:
    """The metrics of each epoch, those of training and of validation."""
    return [str(n) for n in run.epochs if str(n).startswith(("train_", "validation_"))]


def best(run: Run) -> dict[str, Any] | None:
    """The best epoch of the run with its config and figures, or None before the first."""
    sound = rank_epochs(run)
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
        "config": read_trial_config(run, int(row["trial"])),
        "validation": _prefixed(row, "validation_"),
        "test": _prefixed(tested.iloc[-1], "test_") if len(tested) else {},
        "intervals": _intervals(tested["details"].iloc[-1]) if len(tested) else {},
        "model": str(model) if model.is_dir() else None,
    }


def rank_epochs(run: Run) -> pd.DataFrame:
    """The sound epochs, best first: by the metric, its tie-breaker, and who was first.

    Of finalists those come first whose configuration has the best mean over its seeds.
    """
    if run.epochs.empty:
        return pd.DataFrame(columns=["trial", "epoch"])
    epochs = run.epochs[run.epochs["cause"].isna()]
    keys = pd.DataFrame(
        {"loss": compute_losses(run, epochs), "tie": compute_tie_breakers(run, epochs)}
    )
    if run.session.get("method") == "finalists":
        each = keys["loss"].groupby(epochs["trial"]).min()
        alike = number_configs(run)
        mean = each.reindex(alike.index).fillna(np.inf).groupby(alike).mean()
        keys.insert(0, "mean", epochs["trial"].map(alike).map(mean))
    keys["seq"] = epochs["seq"]
    return epochs.loc[keys.sort_values(list(keys.columns)).index]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedValue:
    """Where a value lies in the range it was searched in."""

    name: str
    value: Any
    unit: float  #: its coordinate in [0, 1] on the range's own scale
    domain: str  #: the range, in words
    border: str  #: low | high, or nothing


def locate_best_values(run: Run) -> list[PlacedValue]:
    """The best config's searched values, each in its range; a choice has no border."""
    found = best(run)
    if found is None:
        return []
    dimensions = {d.name: d for d in run.space.dimensions}
    trial = run.trials.set_index("trial").loc[found["trial"]]
    rows = []
    for name, u in _prefixed(trial, "unit_").items():
        domain = dimensions[name].domain
        near = "low" if u < BORDER else "high" if u > 1 - BORDER else ""
        rows.append(
            PlacedValue(
                name=name,
                value=found["config"][name],
                unit=u,
                domain=str(domain),
                border="" if isinstance(domain, Choice) else near,
            )
        )
    return rows


def number_configs(run: Run) -> pd.Series[int]:
    """By trial, in their order: a number that trials of the same configuration share, from 0."""
    trials = run.trials.set_index("trial")
    columns = [f"config_{name}" for name in run.space.names]
    number = trials.groupby(columns, sort=False, dropna=False).ngroup() if columns else 0
    return pd.Series(number, index=trials.index)


def _apart(run: Run) -> Run:
    """The run with its audits apart."""
    of_audits = run.trials["stage"] == AUDIT
    if not of_audits.any():
        return run
    ids = run.trials.loc[of_audits, "trial"]

    def part(*, audit: bool) -> Run:
        def kept(rows: pd.DataFrame) -> pd.DataFrame:
            if rows.empty:
                return rows
            inside = rows["trial"].isin(ids) == audit
            return rows[inside | rows["trial"].isna()].reset_index(drop=True)

        return replace(
            run, events=kept(run.events), epochs=kept(run.epochs), trials=kept(run.trials)
        )

    return replace(part(audit=False), audit=part(audit=True))


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
    audit = _seconds(run.audit) if run.audit else 0.0
    return float(max(run.events["at_seconds"].max(), last, audit))


def _utilisation(run: Run) -> float:
    """Time inside epochs over the workers' time, added up over the sessions.

    A session's end says what its workers' time was, as they came and went. One without an end has
    had the workers that it began with, as far as anyone knows.
    """
    columns = ["kind", "at_seconds", "details"]
    marks = run.events.loc[run.events["kind"].isin([Kind.SESSION, Kind.END]), columns]
    now = (None, _seconds(run), None)
    capacity = 0.0
    for (kind, begun, session_event), (_, until, closing) in pairwise([*marks.to_numpy(), now]):
        if kind == Kind.SESSION:
            began_with = json.loads(session_event)["workers"]
            told = json.loads(closing or "{}")
            capacity += told.get("worker_seconds", began_with * (until - begun))
    epochs = concat_epochs(run)
    spent = epochs["epoch_seconds"].sum() if len(epochs) else 0.0
    return float(spent / capacity) if capacity > 0 else 0.0


def compute_losses(run: Run, epochs: pd.DataFrame) -> pd.Series:
    """What decides, smaller is better; inf for what went bad."""
    o = run.objective
    return _loss(epochs[o.metric].where(epochs["cause"].isna()), maximize=o.maximize)


def compute_tie_breakers(run: Run, epochs: pd.DataFrame) -> pd.Series[float]:
    """What breaks its ties, smaller is better; 0 where nothing does."""
    o = run.objective
    if o.tie_metric is None:
        return pd.Series(0.0, index=epochs.index)
    return _loss(epochs[o.tie_metric], maximize=o.tie_maximize)


def _loss(values: pd.Series[float], *, maximize: bool) -> pd.Series:
    finite = values.where(np.isfinite(values), -np.inf if maximize else np.inf)
    return -finite if maximize else finite


def _intervals(details: Any) -> dict[str, Any]:
    """Of the figures on each split; a run of an earlier version has none."""
    found: dict[str, Any] = {} if pd.isna(details) else json.loads(details)["intervals"]
    return found


def _prefixed(row: Any, prefix: str) -> dict[str, Any]:
    """The columns of a row that begin with a prefix, without it; nulls left out."""
    return {
        name.removeprefix(prefix): value.item() if isinstance(value, np.generic) else value
        for name, value in row.items()
        if name.startswith(prefix) and not pd.isna(value)
    }
