"""`caviar why`: the story of one trial and the rules that decided it, from the run's log."""

from __future__ import annotations

from typing import Any

import pandas as pd

from orchestrator.errors import RunError
from orchestrator.search.events import Kind
from orchestrator.search.trial import AUDIT, Status
from pipelines.see.formatting import format_duration, format_number
from pipelines.see.ranking import compute_scores, rank_epochs
from pipelines.see.run import RunTables
from pipelines.see.run_spec import read_run_spec

__all__ = ["explain_trial"]

_EVENT_PHRASES = {
    Kind.PAUSE: "it paused",
    Kind.COMPLETE: "it was complete",
    Kind.PRUNE: "it was pruned",
    Kind.DIVERGE: "it was stopped as diverged",
    Kind.FAIL: "it failed",
    Kind.STOP: "it was stopped with the session",
    Kind.RETRY: "it was assigned again",
}


def explain_trial(run: RunTables, trial: int) -> str:
    """Explain a trial in one paragraph: its origin, each decision with its reason, its result.

    Raises:
        RunError: If the run has no such trial.
    """
    parts = [part for part in (run, run.audit) if part is not None]
    part = next((part for part in parts if trial in set(part.trials["trial"])), None)
    if part is None:
        last = max((int(t) for part in parts for t in part.trials["trial"]), default=-1)
        raise RunError(f"{run.folder}: needs one of its trials, 0 to {last}, got {trial}")
    events = part.events[part.events["trial"] == trial]
    (_, start), *later = events.iterrows()
    sentences = [_describe_start(run, trial, start)]
    sentences += [_describe_decision(run, row) for _, row in later if row["kind"] != Kind.TEST]
    return " ".join([*sentences, _describe_result(part, trial)])


def _describe_start(run: RunTables, trial: int, row: pd.Series[Any]) -> str:
    words = [f"Trial {trial} began after {format_duration(row['at_seconds'])}"]
    words.append(f"in the {row['stage']} stage" if row["stage"] != "given" else "as given")
    if not pd.isna(row["zoom"]) and "around trials" not in row["reason"]:
        words.append(f"(box {row['zoom']} around trials {', '.join(map(str, row['parents']))})")
    return f"{' '.join(words)}: {row['reason']}{_describe_expectation(run, row)}."


def _describe_decision(run: RunTables, row: pd.Series[Any]) -> str:
    value, cutoff = (_format_loss(run, row[name]) for name in ("value", "cutoff"))
    at = row["epoch"] if row["kind"] != Kind.PROMOTE else row["start_epoch"]
    words = [f"At epoch {at}"] if not pd.isna(at) else []
    if row["kind"] == Kind.PROMOTE:
        words.append(f"it went on to epoch {row['stop_epoch']}")
    else:
        words += [f"with {run.objective} {value}"] if value else []
        words.append(_EVENT_PHRASES.get(row["kind"], f"it had the event {row['kind']}"))
    place = "" if pd.isna(row["rank"]) else f" (place {row['rank']} of {row['peers']})"
    if place and f"place {row['rank']} of {row['peers']}" in row["reason"]:
        place = ""
    needed = f"; {cutoff} had to be reached" if cutoff else ""
    sentence = (
        f"{' '.join(words)}{place}: {row['reason']}{needed}{_describe_expectation(run, row)}."
    )
    return sentence[0].upper() + sentence[1:]


def _describe_result(run: RunTables, trial: int) -> str:
    row = run.trials.set_index("trial").loc[trial]
    ranked = rank_epochs(run)
    if trial not in set(ranked["trial"]):
        return f"It ended {row['status']} without a result."
    best = ranked[ranked["trial"] == trial].iloc[0]
    order = list(dict.fromkeys(ranked["trial"]))
    end, peers = f"It is {row['status']}", "trials"
    if row["stage"] == AUDIT:
        end = f"It repeats trial {row['parents'][0]}, which pruning left behind, and {end[3:]}"
        peers = "audits"
    elif row["status"] == Status.PAUSED and run.status != "running":
        end = _describe_waiting(run, trial) or end
    return (
        f"{end}; its best {run.objective} is "
        f"{format_number(float(best[run.objective.metric]))} (epoch {best['epoch']}), "
        f"place {order.index(trial) + 1} of the {len(order)} {peers} with a result."
    )


def _describe_waiting(run: RunTables, trial: int) -> str:
    """Where a trial waited when the search ended, and its place among its peers there."""
    events = run.events
    paused = events[events["kind"] == Kind.PAUSE]
    rung = paused.loc[paused["trial"] == trial, "rung"].iloc[-1]
    if pd.isna(rung):
        return ""
    end = f"The search ended with it waiting in rung {rung}"
    if (
        read_run_spec(run.folder).search.pruning != "shares"
    ):  # a cutoff says why, and stands in the text
        return end
    here = run.epochs[
        (run.epochs["epoch"] == rung)
        & run.epochs["trial"].isin(paused.loc[paused["rung"] == rung, "trial"])
    ]
    keys = compute_scores(run, here).assign(trial=here["trial"])
    order = list(keys.sort_values(["loss", "tie_breaker", "trial"])["trial"])
    stops = events.groupby("trial")["stop_epoch"].last()  # those that went bad on the way count
    bad = run.trials.loc[run.trials["status"].isin([Status.DIVERGED, Status.FAILED]), "trial"]
    peers = len(order) + int((stops.reindex(bad) == rung).sum())
    others = "; others were expected to improve more" if events["expected"].notna().any() else ""
    return f"{end}, by then place {order.index(trial) + 1} of {peers} there{others}"


def _format_loss(run: RunTables, loss: Any) -> str:
    return "" if pd.isna(loss) else format_number(run.objective.value(float(loss)))


def _describe_expectation(run: RunTables, row: pd.Series[Any]) -> str:
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
