"""Validation of entries before they are applied, and of a search between two decisions.

`find_problem` checks one entry before it is applied; if it finds a problem, the log was damaged or
edited. `find_broken_invariants` checks the whole state of a search; what it finds is a bug of ours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from orchestrator.search.events import (
    AssignmentEnded,
    Event,
    SessionEnded,
    SessionStarted,
    TrialCompleted,
    TrialDiverged,
    TrialEvent,
    TrialFailed,
    TrialMessage,
    TrialNote,
    TrialPaused,
    TrialPromoted,
    TrialPruned,
    TrialRetried,
    TrialStarted,
    TrialStopped,
    ZoomedIn,
)
from orchestrator.search.messages import Entry, Observation
from orchestrator.search.objective import WORST
from orchestrator.search.trial import AUDIT, TRANSITIONS, Status, Trial

if TYPE_CHECKING:
    from orchestrator.search.state import SearchState

__all__ = ["STAGES", "find_broken_invariants", "find_problem"]

STAGES = ("given", "coarse", "fine", AUDIT)


def find_problem(search: SearchState, entry: Entry) -> str:
    """Explain why an entry does not follow from those applied before; empty if it does."""
    if isinstance(entry, TrialNote):
        return _check_note(search, entry)
    check = _CHECKS.get(type(entry))
    return check(search, entry) if check else f"an entry of unknown kind, {type(entry).__name__}"


def _check_report(search: SearchState, entry: Observation) -> str:
    report = entry.report
    trial = search.trials.get(report.trial)
    if trial is None:
        reason = "but no such trial was started"
    elif trial.status is not Status.RUNNING:
        reason = f"but the trial is {trial.status}"
    elif report.attempt != trial.attempt:
        reason = f"but attempt {trial.attempt} is under way"
    elif trial.assignment_over or report.epoch != trial.epoch + 1:
        reason = f"but epoch {trial.epoch + 1} was due, at most {trial.stop_epoch}"
    elif report.last != (bool(report.cause) or report.epoch == trial.stop_epoch):
        ends = "ends" if report.last else "does not end"
        reason = f"which {ends} an assignment up to epoch {trial.stop_epoch}"
    else:
        return ""
    return (
        f"a report of trial {report.trial}, epoch {report.epoch}, attempt {report.attempt}, "
        f"{reason}"
    )


def _check_start(search: SearchState, event: TrialStarted) -> str:
    due = len(search.trials)
    if event.trial != due:
        return f"a start of trial {event.trial}, but trial {due} was due"
    if event.stage not in STAGES:
        return f"a start of trial {event.trial} in stage {event.stage!r}, which there is not"
    if not 0 == event.start_epoch < event.stop_epoch <= search.max_epochs:
        return f"a start of trial {event.trial} with epochs {event.start_epoch} to " + (
            f"{event.stop_epoch}, but max_epochs is {search.max_epochs}"
        )
    repeated = event.parents or ()
    if event.stage == AUDIT and not (len(repeated) == 1 and repeated[0] in search.trials):
        return f"trial {event.trial} repeats trial {event.parents}, which was not started"
    return ""


def _check_zoom(search: SearchState, event: ZoomedIn) -> str:
    due = search.fine_stage.zooms + 1
    if event.zoom != due:
        return f"box {event.zoom}, but box {due} was due"
    if list(event.box) != [d.name for d in search.space.dimensions]:
        return f"box {event.zoom}, which has not one side for each dimension, in their order"
    return ""


def _check_move(search: SearchState, event: TrialEvent) -> str:
    trial = search.trials.get(event.trial)
    if trial is None:
        return f"{event.kind} of trial {event.trial}, but no such trial was started"
    if (trial.status, event.kind) not in TRANSITIONS:
        return f"{event.kind} of trial {event.trial}, which is {trial.status}"
    return ""


def _check_assigning(search: SearchState, event: TrialPromoted | TrialRetried) -> str:
    if problem := _check_move(search, event):
        return problem
    trial = search.trials[event.trial]
    subject = f"{event.kind} of trial {trial.id}"
    if event.attempt <= trial.attempt:
        return f"{subject} as attempt {event.attempt}, after attempt {trial.attempt}"
    if event.start_epoch != trial.epoch:
        return f"{subject} from epoch {event.start_epoch}, but {trial.epoch} epochs were reported"
    if isinstance(event, TrialRetried) and event.stop_epoch != trial.stop_epoch:
        return f"{subject} up to epoch {event.stop_epoch}, but the assignment ends at " + (
            f"{trial.stop_epoch}"
        )
    if not event.start_epoch < event.stop_epoch <= search.max_epochs:
        return f"{subject} from epoch {event.start_epoch} to {event.stop_epoch}"
    return ""


def _check_ended(search: SearchState, event: AssignmentEnded) -> str:
    if problem := _check_move(search, event):
        return problem
    trial = search.trials[event.trial]
    subject = f"{event.kind} of trial {trial.id}"
    if event.epoch is not None and event.epoch != trial.epoch:
        return f"{subject} at epoch {event.epoch}, but {trial.epoch} epochs were reported"
    if trial.status is Status.RUNNING and not trial.assignment_over:
        return f"{subject} in the middle of its assignment, after epoch {trial.epoch}"
    if bool(trial.cause) != isinstance(event, TrialDiverged):
        return f"{subject}, which {'did' if trial.cause else 'did not'} go bad"
    if isinstance(event, TrialCompleted) and trial.epoch != search.max_epochs:
        return f"{subject} after {trial.epoch} of {search.max_epochs} epochs"
    return ""


def _check_failed(search: SearchState, event: TrialFailed) -> str:
    if problem := _check_move(search, event):
        return problem
    under_way = search.trials[event.trial].attempt
    if event.attempt not in (None, under_way):
        return f"fail of trial {event.trial}, attempt {event.attempt}, but attempt {under_way} " + (
            "is under way"
        )
    return ""


def _check_note(search: SearchState, event: TrialNote) -> str:
    trial = search.trials.get(event.trial)
    if trial is None or (event.epoch or 0) > trial.epoch:
        return f"{event.kind} of trial {event.trial}, epoch {event.epoch}, which was not trained"
    if isinstance(event, TrialMessage) and not search.accepts(event):
        return f"{event.kind} of trial {event.trial}, attempt {event.attempt}, " + (
            f"but the story is: {trial.story}"
        )
    return ""


def _accept(search: SearchState, event: Event) -> str:
    return ""


_CHECKS: dict[type[Entry], Callable[[SearchState, Any], str]] = {
    Observation: _check_report,
    SessionStarted: _accept,
    SessionEnded: _accept,
    ZoomedIn: _check_zoom,
    TrialStarted: _check_start,
    TrialPromoted: _check_assigning,
    TrialRetried: _check_assigning,
    TrialPaused: _check_ended,
    TrialCompleted: _check_ended,
    TrialDiverged: _check_ended,
    TrialPruned: _check_ended,
    TrialFailed: _check_failed,
    TrialStopped: _check_move,
}


# ---------------------------------------------------------------------- the whole state


def find_broken_invariants(search: SearchState) -> list[str]:
    """Describe each broken invariant of a search in one line; costs O(trials).

    The invariants hold between two decisions.
    """
    return [
        *_find_broken_totals(search),
        *(line for t in search.trials.values() for line in _find_broken_of_trial(t)),
    ]


def _find_broken_totals(search: SearchState) -> Iterator[str]:
    trials = search.trials.values()
    searched = [t for t in trials if not t.is_audit]
    if list(search.trials) != list(range(len(trials))):
        yield "trial ids have gaps"
    statuses = Counter(t.status for t in searched)
    if any(search.counts[status] != statuses[status] for status in Status):
        yield f"counts are {search.counts}, the trials' statuses {dict(statuses)}"
    if search.epochs != sum(t.epoch for t in trials):
        yield f"{search.epochs} epochs in all, {sum(t.epoch for t in trials)} over the trials"
    best = min((t.best for t in searched), default=WORST)
    if best != (search.incumbent.score if search.incumbent else WORST):
        yield f"the incumbent is {search.incumbent}, the best score of a trial {best}"
    paused = {t.id for t in searched if t.status is Status.PAUSED and t.score[0] < math.inf}
    if paused != search.method.find_waiting():
        yield f"trials {sorted(paused)} are paused, {search.method.find_waiting()} wait in rungs"
    if any(t.stop_epoch > search.max_epochs for t in trials):
        yield f"a trial trains more than {search.max_epochs} epochs"


def _find_broken_of_trial(trial: Trial) -> Iterator[str]:
    status = None
    for kind in trial.event_kinds:
        status = TRANSITIONS.get((status, kind))
    if status is not trial.status:
        events = " ".join(trial.event_kinds)
        yield f"trial {trial.id} is {trial.status}, its events lead to {status}: {events}"
    if not trial.start_epoch <= trial.epoch <= trial.stop_epoch:
        yield f"trial {trial.id} has epoch {trial.epoch} outside of its assignment: {trial.story}"
    if trial.status is Status.PAUSED and not trial.assignment_over:
        yield f"trial {trial.id} is paused in the middle of its assignment: {trial.story}"
    if trial.best_epoch > trial.epoch:
        yield f"trial {trial.id} was best at epoch {trial.best_epoch} of {trial.epoch}"
