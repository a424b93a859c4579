"""What the page and the terminal draw: pure functions from a run's tables to smaller ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.search.events import Kind
from orchestrator.search.trial import LEFT_BEHIND, Status
from pipelines.see.run import Run, compute_losses, compute_tie_breakers, concat_epochs

__all__ = ["boxes", "count_saved_epochs", "failures", "funnel", "progress", "timeline"]

_FATES = {
    "waiting": [Status.PAUSED],
    "complete": [Status.COMPLETED],
    "pruned": [Status.PRUNED],
    "bad": [Status.DIVERGED, Status.FAILED],
    "under_way": [Status.STOPPED, Status.RUNNING],
}


def progress(run: Run) -> pd.DataFrame:
    """The best so far, one row each time it was beaten, and one for the end.

    Columns: spent (epochs over all trials), at_seconds, best (the metric as it is read), trial,
    epoch, stage.
    """
    columns = ["spent", "at_seconds", "best", "trial", "epoch", "stage"]
    if run.epochs.empty:
        return pd.DataFrame(columns=columns)
    rows = run.epochs.sort_values("seq", ignore_index=True)
    loss = compute_losses(run, rows).to_numpy(float)
    place = np.empty(len(rows), int)
    place[np.lexsort((compute_tie_breakers(run, rows), loss))] = np.arange(
        len(rows)
    )  # who was first, first
    beaten = (place == np.minimum.accumulate(place)) & np.isfinite(loss)
    kept = rows[beaten].assign(spent=np.flatnonzero(beaten) + 1)
    if kept.empty:
        return pd.DataFrame(columns=columns)
    end = kept.iloc[[-1]].assign(spent=len(rows), at_seconds=rows["at_seconds"].max())
    kept = pd.concat([kept, end], ignore_index=True)
    stage = run.trials.set_index("trial")["stage"]
    kept["best"], kept["stage"] = kept[run.objective.metric], kept["trial"].map(stage)
    shown: pd.DataFrame = kept[columns]
    return shown


def funnel(run: Run) -> pd.DataFrame:
    """What became of the trials at each rung, lowest first; every trial ends in one of them.

    Columns: epoch, entered, went_on, waiting, complete, pruned, bad, under_way.
    A trial that diverged, failed, was stopped or pruned on its way, or is still training, counts at
    the rung that it was bound for.
    """
    names = ["epoch", "entered", "went_on", *_FATES]
    events = run.events
    bound = events[events["kind"].isin([Kind.START, Kind.PROMOTE])]
    if bound.empty:
        return pd.DataFrame(columns=names)
    reached = events[events["kind"].isin([Kind.PAUSE, Kind.COMPLETE])]
    went = bound[bound["kind"] == Kind.PROMOTE].groupby("start_epoch")["trial"].nunique()
    ended = bound.groupby("trial")["stop_epoch"].last()
    status = run.trials.set_index("trial")["status"].reindex(ended.index)
    found = pd.DataFrame({"entered": reached.groupby("epoch")["trial"].nunique(), "went_on": went})
    for name, fates in _FATES.items():
        found = found.join(ended[status.isin(fates)].value_counts().rename(name), how="outer")
    shown: pd.DataFrame = found.fillna(0).astype(int).rename_axis("epoch").reset_index()[names]
    return shown


def count_saved_epochs(run: Run, max_epochs: int) -> int:
    """How many epochs it would have taken more to train what pruning left behind to the end."""
    left = run.trials.loc[run.trials["status"].isin(LEFT_BEHIND), "trial"]
    trained = run.epochs["trial"].isin(left).sum() if len(run.epochs) else 0
    return len(left) * max_epochs - int(trained)


def timeline(run: Run) -> pd.DataFrame:
    """What each worker trained when: one row for its epochs of one attempt of a trial.

    Columns: worker, trial, attempt, begin_seconds, end_seconds (of the run), epochs.
    """
    columns = ["worker", "trial", "attempt", "begin_seconds", "end_seconds", "epochs"]
    rows = concat_epochs(run)
    if rows.empty:
        return pd.DataFrame(columns=columns)
    rows = rows.sort_values("seq")
    rows = rows.assign(begin_seconds=(rows["at_seconds"] - rows["epoch_seconds"]).clip(lower=0))
    found = rows.groupby(["worker", "trial", "attempt"], sort=False).agg(
        begin_seconds=("begin_seconds", "min"),
        end_seconds=("at_seconds", "max"),
        epochs=("epoch", "size"),
    )
    return found.reset_index().sort_values("begin_seconds", ignore_index=True)[columns]


def failures(run: Run) -> pd.DataFrame:
    """What went wrong, the most frequent first. Columns: kind, reason, trials, example."""
    bad = run.events[run.events["kind"].isin([Kind.FAIL, Kind.DIVERGE, Kind.RETRY])]
    words = bad["reason"].str.replace(r"\b\d+(\.\d+)?\b", "…", regex=True)
    found = bad.assign(reason=words).groupby(["kind", "reason"], as_index=False).agg(
        trials=("trial", "nunique"), example=("trial", "first")
    )  # fmt: skip
    return found.sort_values("trials", ascending=False, ignore_index=True)


def boxes(run: Run) -> list[dict[str, Any]]:
    """The zooms: number, at_seconds, parents, and the box in the unit cube by dimension."""
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
