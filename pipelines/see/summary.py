"""The result of a run in a few plain values: its best model, its counts, its use of workers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pandas as pd

from orchestrator.search.events import Interval, Kind
from orchestrator.search.trial import Status
from orchestrator.store.event_rows import (
    parse_end_details,
    parse_intervals,
    parse_session_details,
)
from pipelines.see.configs import read_trial_config, select_by_prefix
from pipelines.see.epochs import concat_epochs
from pipelines.see.ranking import rank_epochs
from pipelines.see.run import RunTables

__all__ = ["describe_best", "summarize_run"]


def summarize_run(run: RunTables) -> dict[str, Any]:
    """The result of a run as plain values for JSON."""
    counts = run.trials["status"].value_counts()
    return {
        "run": str(run.folder),
        "status": run.status,
        "seconds": round(_measure_seconds(run), 3),
        "trials": len(run.trials),
        "epochs": len(run.epochs),
        "audits": len(run.audit.trials) if run.audit else 0,
        **{s.value.lower(): int(counts.get(s.value, 0)) for s in Status},
        "utilisation": round(_compute_utilisation(run), 4),
        "best": describe_best(run),
    }


def describe_best(run: RunTables) -> dict[str, Any] | None:
    """The best epoch of the run with its configuration and figures, or None before the first."""
    ranked = rank_epochs(run)
    if ranked.empty:
        return None
    row = ranked.iloc[0]
    trial = run.trials.set_index("trial").loc[row["trial"]]
    tests = run.events[(run.events["kind"] == Kind.TEST) & (run.events["trial"] == row["trial"])]
    tests = tests[tests["epoch"] == row["epoch"]]
    model = run.folder / "best"
    return {
        "trial": int(row["trial"]),
        "epoch": int(row["epoch"]),
        "stage": trial["stage"],
        "metric": run.objective.metric,
        "config": read_trial_config(run, int(row["trial"])),
        "validation": select_by_prefix(row, "validation_"),
        "test": select_by_prefix(tests.iloc[-1], "test_") if len(tests) else {},
        "intervals": _read_intervals(tests["details"].iloc[-1]) if len(tests) else {},
        "model": str(model) if model.is_dir() else None,
    }


def _measure_seconds(run: RunTables) -> float:
    last = run.epochs["at_seconds"].max() if len(run.epochs) else 0.0
    audit = _measure_seconds(run.audit) if run.audit else 0.0
    return float(max(run.events["at_seconds"].max(), last, audit))


def _compute_utilisation(run: RunTables) -> float:
    """Seconds inside epochs divided by the seconds of the workers, over all sessions.

    The end of a session records how many seconds its workers had, as they came and went. A session
    without an end counts as if the workers that it began with had stayed.
    """
    columns = ["kind", "at_seconds", "details"]
    marks = run.events.loc[run.events["kind"].isin([Kind.SESSION, Kind.END]), columns]
    now = (None, _measure_seconds(run), None)
    capacity = 0.0
    for (kind, begun, opening), (_, until, closing) in pairwise([*marks.to_numpy(), now]):
        if kind == Kind.SESSION:
            workers = parse_session_details(opening).workers
            recorded = parse_end_details(closing).worker_seconds
            capacity += workers * (until - begun) if recorded is None else recorded
    epochs = concat_epochs(run)
    spent = epochs["epoch_seconds"].sum() if len(epochs) else 0.0
    return float(spent / capacity) if capacity > 0 else 0.0


def _read_intervals(details: Any) -> dict[str, dict[str, Interval]]:
    """By split: the intervals of the figures; the first runs of 0.1 recorded none."""
    return parse_intervals(None if pd.isna(details) else details)
