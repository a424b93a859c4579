"""What is left of a damaged log, made into a history that a search can go on with.

Reports and decisions depend on each other. Where some are lost, what remains is walked in order: an
entry stays if it follows from what came before it; a decision that a surviving report shows to have
been taken is put in its place; anything else is left out, and its trial is trained on from the last
epoch that is known.
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

REASON = "repaired: the log's own words are lost"


def salvage(
    search: Search,
    entries: Iterable[tuple[float, Entry]],
    starts: Mapping[int, TrialStarted],
    stops: Mapping[int, list[int]],
) -> Iterator[tuple[float, Entry]]:
    """The entries that still make sense, with the decisions that must have stood between them.

    Args:
        search: A fresh search, made as the run's was; it is used up.
        entries: What can be read, as (at_seconds, entry), in the order in which it happened.
        starts: How trials began whose start event is lost, from another table; their stop_epoch is
            not used.
        stops: By trial, the epochs at which an assignment ended; rising.
    """
    at_seconds = 0.0
    for at_seconds, entry in entries:
        if isinstance(entry, Observation):
            for missing in _decisions_before(search, entry.report, starts, stops):
                search.apply(missing)
                yield at_seconds, missing
        if not find_problem(search, entry):
            search.apply(entry)
            yield at_seconds, entry
    for trial in search.trials.values():
        if trial.status is Status.RUNNING and trial.assignment_over:
            end = _end(trial, search.max_epochs)
            search.apply(end)
            yield at_seconds, end


def _decisions_before(
    search: Search,
    report: Report,
    starts: Mapping[int, TrialStarted],
    stops: Mapping[int, list[int]],
) -> Iterator[Event]:
    """The decisions that must have been taken, since there is this report."""
    while len(search.trials) <= report.trial:  # ids are given without a gap
        number = len(search.trials)
        if number not in starts:
            return
        ends = stops.get(number) or [search.max_epochs]
        yield replace(starts[number], stop_epoch=ends[0], reason=REASON)
    trial = search.trials[report.trial]
    if report.epoch != trial.epoch + 1:
        return
    if trial.status is Status.RUNNING and trial.assignment_over:
        yield _end(trial, search.max_epochs)
    if trial.status is Status.PAUSED:
        ends = stops.get(trial.id, [])
        yield TrialPromoted(
            trial=trial.id,
            attempt=report.attempt,
            start_epoch=trial.epoch,
            stop_epoch=next((s for s in ends if s >= report.epoch), search.max_epochs),
            reason=REASON,
        )
    given_up = trial.status is Status.RUNNING and report.attempt > trial.attempt
    if trial.status is Status.STOPPED or given_up:
        yield TrialRetried(
            trial=trial.id,
            attempt=report.attempt,
            start_epoch=trial.epoch,
            stop_epoch=trial.stop_epoch,
            reason=REASON,
        )


def _end(trial: Trial, max_epochs: int) -> AssignmentEnded:
    """What became of a trial whose assignment is over."""
    end = TrialCompleted if trial.epoch == max_epochs else TrialPaused
    return (TrialDiverged if trial.cause else end)(trial=trial.id, epoch=trial.epoch, reason=REASON)
