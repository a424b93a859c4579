"""What is left of a damaged log, made into a history that a search can go on with.

Reports and decisions lean on each other. Where some are gone, what remains is walked in order: an
entry is kept if it follows from what came before; a decision that a surviving report shows to have
been taken is put in its place; anything else is left out, and its trial is trained on from the
last epoch that is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from orchestrator.search.events import Event, Kind
from orchestrator.search.messages import Observation
from orchestrator.search.search import Search
from orchestrator.search.trial import TRANSITIONS, Status, Trial

__all__ = ["REASON", "Entry", "salvage"]

Entry = Event | Observation
REASON = "repaired: the log's own words are lost"


def salvage(
    search: Search,
    entries: Iterable[tuple[float, Entry]],
    starts: Mapping[int, Event],
    stops: Mapping[int, list[int]],
) -> Iterator[tuple[float, Entry]]:
    """The entries that still make sense, with the decisions that must have stood between them.

    Args:
        search: A fresh one, made as the run's was; it is used up.
        entries: What can be read, as (at_seconds, entry), in the order in which it happened.
        starts: How trials began whose start event is gone, from another table; the stop_epoch that
            stands there is not looked at.
        stops: By trial, the epochs at which an assignment ended; rising.
    """
    at_seconds = 0.0
    for at_seconds, entry in entries:
        kept = (
            _for_report(search, entry, starts, stops)
            if isinstance(entry, Observation)
            else _for_event(search, entry)
        )
        for one in kept:
            search.apply(one)
            yield at_seconds, one
    for trial in search.trials.values():
        if trial.status is Status.RUNNING and _assignment_over(trial):
            end = _end(trial, search.max_epochs)
            search.apply(end)
            yield at_seconds, end


def _for_event(search: Search, event: Event) -> Iterator[Entry]:
    if event.trial is None:
        yield event
        return
    trial = search.trials.get(event.trial)
    if trial is None:
        if event.kind is Kind.START and event.trial == len(search.trials):
            yield event
        return
    possible = (trial.status, event.kind) in TRANSITIONS or event.kind is Kind.TEST
    if event.kind in (Kind.PAUSE, Kind.COMPLETE, Kind.DIVERGE):
        possible = possible and _assignment_over(trial) and event.epoch == trial.epoch
    if event.kind is Kind.PROMOTE:
        possible = possible and event.start_epoch == trial.epoch
    if possible:
        yield event


def _for_report(
    search: Search,
    observation: Observation,
    starts: Mapping[int, Event],
    stops: Mapping[int, list[int]],
) -> Iterator[Entry]:
    r = observation.report
    stop = next((s for s in stops.get(r.trial, ()) if s >= r.epoch), search.max_epochs)
    while len(search.trials) <= r.trial:  # numbers are given without a gap
        number = len(search.trials)
        if number not in starts:
            return
        ends = stops.get(number) or [search.max_epochs]
        yield replace(starts[number], stop_epoch=ends[0], reason=REASON)
    trial = search.trials[r.trial]
    if r.epoch != trial.epoch + 1:
        return
    if trial.status is Status.RUNNING and _assignment_over(trial):
        yield _end(trial, search.max_epochs)
    if trial.status is Status.PAUSED:
        yield replace(
            _move(trial, Kind.PROMOTE),
            start_epoch=trial.epoch,
            stop_epoch=stop,
            attempt=r.attempt,
        )
    if trial.status is Status.STOPPED:
        yield replace(_move(trial, Kind.RETRY), start_epoch=trial.epoch, attempt=r.attempt)
    if trial.status is Status.RUNNING and r.epoch <= trial.stop_epoch:
        yield observation


def _assignment_over(trial: Trial) -> bool:
    return trial.epoch == trial.stop_epoch or bool(trial.cause)


def _end(trial: Trial, max_epochs: int) -> Event:
    """What became of a trial whose assignment is over."""
    kind = Kind.COMPLETE if trial.epoch == max_epochs else Kind.PAUSE
    return replace(_move(trial, Kind.DIVERGE if trial.cause else kind), epoch=trial.epoch)


def _move(trial: Trial, kind: Kind) -> Event:
    return Event(kind=kind, trial=trial.id, reason=REASON)
