"""`caviar why`: what became of one trial, and by which rule, from the run's own log."""

from __future__ import annotations

from typing import Any

import pandas as pd

from orchestrator.errors import RunError
from orchestrator.search.events import Kind
from orchestrator.search.trial import AUDIT, Status
from pipelines.see.formatting import format_duration, format_number
from pipelines.see.run import Run, compute_losses, compute_tie_breakers, rank_epochs, read_run_spec

__all__ = ["why"]

_HAPPENED = {
    Kind.PAUSE: "it paused",
    Kind.COMPLETE: "it was complete",
    Kind.PRUNE: "it was pruned",
    Kind.DIVERGE: "it was given up as diverged",
    Kind.FAIL: "it failed",
    Kind.STOP: "it was stopped with the session",
    Kind.RETRY: "it was given out again",
}


def why(run: Run, trial: int) -> str:
    """One paragraph: where a trial came from, what was decided about it and why, how it ended.

    Raises:
        RunError: If the run has no such trial.
    """
    known = [part for part in (run, run.audit) if part is not None]
    its = next((part for part in known if trial in set(part.trials["trial"])), None)
    if its is None:
        last = max((int(t) for part in known for t in part.trials["trial"]), default=-1)
        raise RunError(f"{run.folder}: needs one of its trials, 0 to {last}, got {trial}")
    events = its.events[its.events["trial"] == trial]
    told = [_began(run, trial, events.iloc[0])]
    told += [
        _went_on(run, row) for _, row in events.iloc[1:].iterrows() if row["kind"] != Kind.TEST
    ]
    return " ".join([*told, _came_to(its, trial)])


def _began(run: Run, trial: int, row: pd.Series[Any]) -> str:
    words = [f"Trial {trial} began after {format_duration(row['at_seconds'])}"]
    words.append(f"in the {row['stage']} stage" if row["stage"] != "given" else "as given")
    if not pd.isna(row["zoom"]) and "around trials" not in row["reason"]:
        words.append(f"(box {row['zoom']} around trials {', '.join(map(str, row['parents']))})")
    return f"{' '.join(words)}: {row['reason']}{_expected(run, row)}."


def _went_on(run: Run, row: pd.Series[Any]) -> str:
    value, cutoff = (_metric(run, row[name]) for name in ("value", "cutoff"))
    at = row["epoch"] if row["kind"] != Kind.PROMOTE else row["start_epoch"]
    words = [f"At epoch {at}"] if not pd.isna(at) else []
    if row["kind"] == Kind.PROMOTE:
        words.append(f"it went on to epoch {row['stop_epoch']}")
    else:
        words += [f"with {run.objective} {value}"] if value else []
        words.append(_HAPPENED[Kind(row["kind"])])
    compare_runs = "" if pd.isna(row["rank"]) else f" (place {row['rank']} of {row['peers']})"
    if compare_runs and f"place {row['rank']} of {row['peers']}" in row["reason"]:
        compare_runs = ""
    needed = f"; {cutoff} had to be reached" if cutoff else ""
    sentence = f"{' '.join(words)}{compare_runs}: {row['reason']}{needed}{_expected(run, row)}."
    return sentence[0].upper() + sentence[1:]


def _came_to(run: Run, trial: int) -> str:
    found = run.trials.set_index("trial").loc[trial]
    sound = rank_epochs(run)
    if trial not in set(sound["trial"]):
        return f"It ended {found['status']} without a result."
    best = sound[sound["trial"] == trial].iloc[0]
    order = list(dict.fromkeys(sound["trial"]))
    end, alike = f"It is {found['status']}", "trials"
    if found["stage"] == AUDIT:
        end = f"It repeats trial {found['parents'][0]}, which pruning left behind, and {end[3:]}"
        alike = "audits"
    elif found["status"] == Status.PAUSED and run.status != "running":
        end = _waits(run, trial) or end
    return (
        f"{end}; its best {run.objective} is "
        f"{format_number(float(best[run.objective.metric]))} (epoch {best['epoch']}), "
        f"place {order.index(trial) + 1} of the {len(order)} {alike} with a result."
    )


def _waits(run: Run, trial: int) -> str:
    """Of a trial that the end of the search found waiting: where, and how it stood by then."""
    events = run.events
    paused = events[events["kind"] == Kind.PAUSE]
    rung = paused.loc[paused["trial"] == trial, "rung"].iloc[-1]
    if pd.isna(rung):
        return ""
    end = f"The search ended with it waiting in rung {rung}"
    if read_run_spec(run.folder).search.pruning != "shares":  # a cutoff says why, and was told
        return end
    here = run.epochs[
        (run.epochs["epoch"] == rung)
        & run.epochs["trial"].isin(paused.loc[paused["rung"] == rung, "trial"])
    ]
    here = here.assign(loss=compute_losses(run, here), tie=compute_tie_breakers(run, here))
    order = list(here.sort_values(["loss", "tie", "trial"])["trial"])
    stops = events.groupby("trial")["stop_epoch"].last()  # those that went bad on the way count
    bad = run.trials.loc[run.trials["status"].isin([Status.DIVERGED, Status.FAILED]), "trial"]
    peers = len(order) + int((stops.reindex(bad) == rung).sum())
    others = "; others were expected to improve more" if events["expected"].notna().any() else ""
    return f"{end}, by then place {order.index(trial) + 1} of {peers} there{others}"


def _metric(run: Run, loss: Any) -> str:
    return "" if pd.isna(loss) else format_number(run.objective.value(float(loss)))


def _expected(run: Run, row: pd.Series[Any]) -> str:
    if pd.isna(row["expected"]):
        return ""
    middle, *ends = (
        run.objective.value(float(row[name]))
        for name in ("expected", "expected_low", "expected_high")
    )
    low, high = sorted(ends)
    return (
        f"; the model expected {format_number(middle)} at the last epoch "
        f"(within a standard deviation: {format_number(low)} to {format_number(high)})"
    )
