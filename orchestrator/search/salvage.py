"""Salvage: make a valid log from the readable entries of a damaged one.

Reports and decisions depend on each other. The readable entries are checked in order. An entry is
kept if it follows from those before it. A lost decision is added if a later report proves that it
was made. All other entries are dropped; their trials are trained on from the last valid epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from orchestrator.search.events import (
    AssignmentEnded,
    Event,
    TrialCompleted,
    TrialDiverged,
    TrialPaused,
    TrialPromoted,
    TrialRetried,
    TrialStarted,
)
from orchestrator.search.messages import Entry, Observation, Report
from orchestrator.search.search import Search
from orchestrator.search.trial import Status, Trial
from orchestrator.search.validation import find_problem

__all__ = ["REASON", "salvage"]

REASON = "repaired: the original reason is lost"


def salvage(
    search: Search,
    entries: Iterable[tuple[int, float, Entry]],
    starts: Mapping[int, TrialStarted],
    stops: Mapping[int, list[int]],
) -> Iterator[tuple[int | None, float, Entry]]:
    """Yield the entries that are still valid, with the lost decisions between them.

    An entry is yielded as (seq, at_seconds, entry), where seq is its number in the damaged log, and
    None for a decision that was lost.

    Args:
        search: A fresh search with the run's spec and seed; the salvage changes it.
        entries: The readable entries as (seq, at_seconds, entry), in the order of the log.
        starts: Starts of trials whose start event is lost, from another table; their stop_epoch is
            not used.
        stops: Trial -> the epochs at which an assignment ended, rising.
    """
    at_seconds = 0.0
    for seq, at_seconds, entry in entries:
        if isinstance(entry, Observation):
            for missing in _find_lost_decisions(search, entry.report, starts, stops):
                if find_problem(search, missing):
                    break
                search.apply(missing)
                yield None, at_seconds, missing
        if not find_problem(search, entry):
            search.apply(entry)
            yield seq, at_seconds, entry
    for trial in search.trials.values():
        if trial.status is Status.RUNNING and trial.assignment_over:
            end = _make_end(trial, search.max_epochs)
            search.apply(end)
            yield None, at_seconds, end


def _find_lost_decisions(
    search: Search,
    report: Report,
    starts: Mapping[int, TrialStarted],
    stops: Mapping[int, list[int]],
) -> Iterator[Event]:
    """Yield the lost decisions without which this report would not exist."""
    while len(search.trials) <= report.trial:  # the ids have no gaps
        number = len(search.trials)
        if number not in starts:
            return
        ends = stops.get(number) or [search.max_epochs]
        yield replace(starts[number], stop_epoch=ends[0], reason=REASON)
    trial = search.trials[report.trial]
    if report.epoch != trial.epoch + 1:
        return
    if trial.status is Status.RUNNING and trial.assignment_over:
        yield _make_end(trial, search.max_epochs)
    if trial.status is Status.PAUSED:
        ends = stops.get(trial.id, [])
        yield TrialPromoted(
            trial=trial.id,
            attempt=report.attempt,
            start_epoch=trial.epoch,
            stop_epoch=next((s for s in ends if s >= report.epoch), search.max_epochs),
            reason=REASON,
        )
    retried = trial.status is Status.RUNNING and report.attempt > trial.attempt
    if trial.status is Status.STOPPED or retried:
        yield TrialRetried(
            trial=trial.id,
            attempt=report.attempt,
            start_epoch=trial.epoch,
            stop_epoch=trial.stop_epoch,
            reason=REASON,
        )


def _make_end(trial: Trial, max_epochs: int) -> AssignmentEnded:
    """Make the event that ends the assignment of a trial."""
    end = TrialCompleted if trial.epoch == max_epochs else TrialPaused
    return (TrialDiverged if trial.cause else end)(trial=trial.id, epoch=trial.epoch, reason=REASON)
