"""What the page and the terminal draw: pure functions from a run's tables to smaller ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.events import Kind
from orchestrator.trial import Status
from pipelines.analysis import Run, all_epochs, loss_of, tie_of

__all__ = ["boxes", "failures", "funnel", "progress", "saved_epochs", "timeline"]


def progress(run: Run) -> pd.DataFrame:
    """The best so far, one row each time it was beaten, and one for the end.

    Columns: spent (epochs over all trials), at_seconds, best (the metric as it is read), trial,
    epoch, stage.
    """
    columns = ["spent", "at_seconds", "best", "trial", "epoch", "stage"]
    if run.epochs.empty:
        return pd.DataFrame(columns=columns)
    rows = run.epochs.sort_values("seq", ignore_index=True)
    loss = loss_of(run, rows).to_numpy(float)
    place = np.empty(len(rows), int)
    place[np.lexsort((tie_of(run, rows), loss))] = np.arange(len(rows))  # who was first, first
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
    """What became of the trials at each rung they were compared in, lowest first.

    Columns: epoch, entered, went_on, waiting, complete, pruned, bad.
    A trial that was pruned counts where it was last compared, one that diverged or failed where it
    would have been next.
    """
    events = run.events
    compared = events[events["kind"].isin([Kind.PAUSE, Kind.COMPLETE])]
    rungs = sorted({int(e) for e in compared["epoch"]})
    status = run.trials.set_index("trial")["status"]
    reached = compared.groupby("trial")["epoch"].max()
    rows = []
    for i, epoch in enumerate(rungs):
        here = compared.loc[compared["epoch"] == epoch, "trial"].unique()
        went = events[(events["kind"] == Kind.PROMOTE) & (events["start_epoch"] == epoch)]
        last = [t for t in here if reached[t] == epoch]
        fate = status.loc[last].value_counts()
        before = rungs[i - 1] if i else 0
        bad = status[status.isin([Status.DIVERGED, Status.FAILED])].index
        on_the_way = [t for t in bad if int(reached.get(t, 0)) == before]
        rows.append(
            {
                "epoch": epoch,
                "entered": len(here),
                "went_on": went["trial"].nunique(),
                "waiting": int(fate.get(Status.PAUSED, 0)),
                "complete": int(fate.get(Status.COMPLETED, 0)),
                "pruned": int(fate.get(Status.PRUNED, 0)),
                "bad": len(on_the_way),
            }
        )
    names = ["epoch", "entered", "went_on", "waiting", "complete", "pruned", "bad"]
    return pd.DataFrame(rows, columns=names)


def saved_epochs(run: Run, max_epochs: int) -> int:
    """How many epochs it would have taken more to train every trial to the end."""
    return len(run.trials) * max_epochs - len(run.epochs)


def timeline(run: Run) -> pd.DataFrame:
    """What each worker trained when: one row an uninterrupted stretch of one attempt of a trial.

    Columns: worker, trial, attempt, begin_seconds, end_seconds (of the run), epochs.
    """
    columns = ["worker", "trial", "attempt", "begin_seconds", "end_seconds", "epochs"]
    rows = all_epochs(run)
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
