"""Tables that the page and the terminal draw: pure functions of a run's tables."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.search.events import Kind
from orchestrator.search.trial import LEFT_BEHIND, Status
from pipelines.see.epochs import concat_epochs
from pipelines.see.ranking import compute_scores
from pipelines.see.run import RunTables

__all__ = [
    "count_saved_epochs",
    "count_trials_by_rung",
    "group_failures",
    "list_worker_spans",
    "list_zooms",
    "trace_incumbent",
]

_OUTCOMES = {
    "waiting": [Status.PAUSED],
    "complete": [Status.COMPLETED],
    "pruned": [Status.PRUNED],
    "bad": [Status.DIVERGED, Status.FAILED],
    "under_way": [Status.STOPPED, Status.RUNNING],
}


def trace_incumbent(run: RunTables) -> pd.DataFrame:
    """The incumbent over the run: one row for each new one, and one for the end of the run.

    Columns: spent (epochs over all trials), at_seconds, best (the metric as a user reads it),
    trial, epoch, stage.
    """
    columns = ["spent", "at_seconds", "best", "trial", "epoch", "stage"]
    if run.epochs.empty:
        return pd.DataFrame(columns=columns)
    rows = run.epochs.sort_values("seq", ignore_index=True)
    scores = compute_scores(run, rows)
    loss, tie_breaker = (scores[name].to_numpy(float) for name in ("loss", "tie_breaker"))
    # positions in the order from best to worst; lexsort is stable, so the earlier of equals leads
    position = np.empty(len(rows), int)
    position[np.lexsort((tie_breaker, loss))] = np.arange(len(rows))
    improves = (position == np.minimum.accumulate(position)) & np.isfinite(loss)
    new = rows[improves].assign(spent=np.flatnonzero(improves) + 1)
    if new.empty:
        return pd.DataFrame(columns=columns)
    end = new.iloc[[-1]].assign(spent=len(rows), at_seconds=rows["at_seconds"].max())
    traced = pd.concat([new, end], ignore_index=True)
    stage = run.trials.set_index("trial")["stage"]
    traced["best"], traced["stage"] = traced[run.objective.metric], traced["trial"].map(stage)
    selected: pd.DataFrame = traced[columns]
    return selected


def count_trials_by_rung(run: RunTables) -> pd.DataFrame:
    """How many trials reached each rung and what became of them, the lowest rung first.

    Columns: epoch, entered, went_on, waiting, complete, pruned, bad, under_way. Every trial counts
    once in the last five: where it diverged, failed, was stopped or pruned between rungs, or is
    still training, at the rung that its assignment would end with.
    """
    names = ["epoch", "entered", "went_on", *_OUTCOMES]
    events = run.events
    bound = events[events["kind"].isin([Kind.START, Kind.PROMOTE])]
    if bound.empty:
        return pd.DataFrame(columns=names)
    reached = events[events["kind"].isin([Kind.PAUSE, Kind.COMPLETE])]
    went = bound[bound["kind"] == Kind.PROMOTE].groupby("start_epoch")["trial"].nunique()
    ended = bound.groupby("trial")["stop_epoch"].last()
    status = run.trials.set_index("trial")["status"].reindex(ended.index)
    counts = pd.DataFrame({"entered": reached.groupby("epoch")["trial"].nunique(), "went_on": went})
    for name, statuses in _OUTCOMES.items():
        counts = counts.join(ended[status.isin(statuses)].value_counts().rename(name), how="outer")
    selected: pd.DataFrame = counts.fillna(0).astype(int).rename_axis("epoch").reset_index()[names]
    return selected


def count_saved_epochs(run: RunTables, max_epochs: int) -> int:
    """How many more epochs it would have taken to train to the end what pruning left behind."""
    left_behind = run.trials.loc[run.trials["status"].isin(LEFT_BEHIND), "trial"]
    trained = run.epochs["trial"].isin(left_behind).sum() if len(run.epochs) else 0
    return len(left_behind) * max_epochs - int(trained)


def list_worker_spans(run: RunTables) -> pd.DataFrame:
    """The spans of time in which each worker trained: one row for each attempt of a trial.

    Columns: worker, trial, attempt, begin_seconds, end_seconds (of the run), epochs.
    """
    columns = ["worker", "trial", "attempt", "begin_seconds", "end_seconds", "epochs"]
    rows = concat_epochs(run)
    if rows.empty:
        return pd.DataFrame(columns=columns)
    rows = rows.sort_values("seq")
    rows = rows.assign(begin_seconds=(rows["at_seconds"] - rows["epoch_seconds"]).clip(lower=0))
    spans = rows.groupby(["worker", "trial", "attempt"], sort=False).agg(
        begin_seconds=("begin_seconds", "min"),
        end_seconds=("at_seconds", "max"),
        epochs=("epoch", "size"),
    )
    return spans.reset_index().sort_values("begin_seconds", ignore_index=True)[columns]


def group_failures(run: RunTables) -> pd.DataFrame:
    """Failures by their reason, the most frequent first; numbers in the reasons do not count.

    Columns: kind, reason, trials (how many), example (one of them).
    """
    bad = run.events[run.events["kind"].isin([Kind.FAIL, Kind.DIVERGE, Kind.RETRY])]
    words = bad["reason"].str.replace(r"\b\d+(\.\d+)?\b", "…", regex=True)
    groups = bad.assign(reason=words).groupby(["kind", "reason"], as_index=False).agg(
        trials=("trial", "nunique"), example=("trial", "first")
    )  # fmt: skip
    return groups.sort_values("trials", ascending=False, ignore_index=True)


def list_zooms(run: RunTables) -> list[dict[str, Any]]:
    """The zooms of a run: zoom (its number), at_seconds, parents, and box.

    The box is by dimension the low and the high end in the unit cube.
    """
    zooms = run.events[run.events["kind"] == Kind.ZOOM]
    return [
        {
            "zoom": int(row["zoom"]),
            "at_seconds": float(row["at_seconds"]),
            "parents": [int(t) for t in row["parents"]],
            "box": {name: tuple(ends) for name, ends in json.loads(row["box"]).items()},
        }
        for _, row in zooms.iterrows()
    ]
