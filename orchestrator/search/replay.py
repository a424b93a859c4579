"""Deciding again: a run's log tells what was known when, so each decision can be taken once more.

Reports, failures and the budget are taken from the log, as the search was told them; what it
decides on them now is compared with what the log says it decided then.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from orchestrator.search.events import Event, Kind
from orchestrator.search.messages import Failure, Observation
from orchestrator.search.search import Search
from orchestrator.search.trial import Status

__all__ = ["ReplayResult", "replay"]

#: Another processor rounds the last digits of a model's expectations otherwise.
CLOSE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """What came of deciding again."""

    decisions: int  #: that are the same
    given: int  #: events that no decision of the search's: sessions, failures, full disks
    difference: str  #: the first one, in words; empty if there is none


def replay(
    search: Search, entries: Iterable[tuple[int, float, Event | Observation]]
) -> ReplayResult:
    """Take the decisions of a run again.

    Args:
        search: A fresh one, made as the run's was; it is used up.
        entries: The log, as `orchestrator.store.reading.read_entries` reads it.
    """
    decisions = given = 0
    due: deque[Event] = deque()  # decided now, and to be met in the log

    def found(difference: str) -> ReplayResult:
        return ReplayResult(decisions=decisions, given=given, difference=difference)

    for seq, _, entry in entries:
        if isinstance(entry, Observation):
            if due:
                return found(f"at {seq} {_told(due[0])} was decided now, and not then")
            decided = search.observe(entry.report, entry.at_seconds)
            if decided is None:
                r = entry.report
                return found(f"at {seq} the report of trial {r.trial}, epoch {r.epoch} is unasked")
            due.extend(decided)
            continue
        if not due:
            told = _asked(search, entry)
            if told is None:
                search.apply(entry)
                given += 1
                continue
            due.extend(told)
        if not due:
            return found(f"at {seq} {_told(entry)} was decided then, and nothing now")
        now = due.popleft()
        if name := _first_difference(now, entry):
            return found(
                f"at {seq} the log says {_told(entry)} with {name} = {getattr(entry, name)!r}; "
                f"now it is {_told(now)} with {getattr(now, name)!r}"
            )
        decisions += 1
    return found("")


def _asked(search: Search, entry: Event) -> list[Event] | None:
    """What the search answers to the question that the event answered; None if there was none."""
    assert entry.trial is None or entry.kind is Kind.START or entry.trial in search.trials
    match entry.kind:
        case Kind.SESSION | Kind.END | Kind.TEST:
            return None
        case Kind.PRUNE:  # the states' budget, which the log does not tell
            return None
        case Kind.STOP:
            return search.stop(entry.reason)
        case Kind.FAIL | Kind.RETRY if _running(search, entry):
            lost = entry.kind is Kind.RETRY
            failure = Failure(
                trial=entry.trial or 0,
                attempt=search.trials[entry.trial or 0].attempt,
                kind="lost" if lost else "raised",
                message=entry.reason.rsplit("; try ", 1)[0] if lost else entry.reason,
                traceback=entry.details or "",
            )
            return search.fail(failure) or []
        case _:
            return search.suggest()


def _running(search: Search, entry: Event) -> bool:
    return entry.trial is not None and search.trials[entry.trial].status is Status.RUNNING


def _first_difference(now: Event, then: Event) -> str:
    """The first field that is not the same; empty if all are."""
    names = (f.name for f in fields(Event))
    return next(
        (n for n in names if not _equal_within_rounding(getattr(now, n), getattr(then, n))), ""
    )


def _equal_within_rounding(a: object, b: object) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal_within_rounding(a[k], b[k]) for k in a)
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE) or a == b
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_equal_within_rounding, a, b))
    return a == b


def _told(event: Event) -> str:
    return event.kind.value + (f" of trial {event.trial}" if event.trial is not None else "")
