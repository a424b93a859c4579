"""Replay: make the decisions of a run again from its log, and compare them with the log.

Reports, failures and the budget are taken from the log, as the search received them. The decisions
that the search makes on them now are compared with the decisions in the log.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from orchestrator.errors import InvalidEntry
from orchestrator.search.events import (
    Event,
    SessionEnded,
    SessionStarted,
    TrialFailed,
    TrialNote,
    TrialPruned,
    TrialRetried,
    TrialStopped,
)
from orchestrator.search.messages import Entry, Failure, Observation
from orchestrator.search.search import Search
from orchestrator.search.trial import Status
from orchestrator.search.validation import find_broken_invariants

__all__ = ["ReplayResult", "replay"]

#: Relative difference of two numbers that count as equal: another processor may round the last
#: digits of a model's forecasts differently.
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """The result of a replay."""

    decisions: int  #: number of decisions that are equal to those in the log
    applied: int  #: number of events that no decision produced: sessions, evictions, tests
    difference: str  #: first difference, in words; empty if there is none


class _Difference(Exception):  # noqa: N818 # a result, not an error
    """A difference between the log and the search; the message says where."""


@dataclass(slots=True)
class _Replay:
    search: Search
    decisions: int = 0
    applied: int = 0

    def run(self, entries: Iterable[tuple[int, float, Entry]]) -> None:
        due: deque[Event] = deque()  # decisions of the search that must come next in the log
        for seq, _, entry in entries:
            if isinstance(entry, Observation):
                if due:
                    raise _Difference(f"at {seq} {_describe(due[0])} was decided now, and not then")
                due.extend(self._observe(seq, entry))
                continue
            if not due:
                decided = _decide_again(self.search, entry)
                if decided is None:
                    self.search.apply(entry, seq=seq)
                    self.applied += 1
                    continue
                due.extend(decided)
            if not due:
                raise _Difference(f"at {seq} {_describe(entry)} was decided then, and nothing now")
            _compare(seq, due.popleft(), entry)
            self.decisions += 1

    def _observe(self, seq: int, entry: Observation) -> list[Event]:
        decided = self.search.observe(entry.report, entry.at_seconds)
        if decided is None:
            r = entry.report
            raise _Difference(f"at {seq} the report of trial {r.trial}, epoch {r.epoch} is unasked")
        return decided


def replay(search: Search, entries: Iterable[tuple[int, float, Entry]]) -> ReplayResult:
    """Make the decisions of a run again.

    Args:
        search: A fresh search with the run's spec and seed; the replay changes it.
        entries: The log, as `orchestrator.store.reading.read_entries` reads it.
    """
    replayed, difference = _Replay(search), ""
    try:
        replayed.run(entries)
        difference = "; ".join(find_broken_invariants(search))
    except (_Difference, InvalidEntry) as e:
        difference = str(e)
    return ReplayResult(
        decisions=replayed.decisions, applied=replayed.applied, difference=difference
    )


def _decide_again(search: Search, entry: Event) -> list[Event] | None:
    """Make the search's decision at this event of the log; None if the event is no decision."""
    match entry:
        case SessionStarted() | SessionEnded() | TrialNote():
            return None
        case TrialPruned():  # caused by the checkpoints' sizes, which are not in the log
            return None
        case TrialStopped():
            return search.stop(entry.reason)
        case TrialFailed() if _is_running(search, entry.trial):
            return _fail(search, entry.trial, "raised", entry.reason, entry.traceback or "")
        case TrialRetried() if _is_running(search, entry.trial):
            message = entry.reason.rsplit("; try ", 1)[0]
            return _fail(search, entry.trial, "lost", message, "")
        case _:
            return search.suggest()


def _fail(search: Search, trial: int, kind: Any, message: str, traceback: str) -> list[Event]:
    failure = Failure(
        trial=trial,
        attempt=search.trials[trial].attempt,
        kind=kind,
        message=message,
        traceback=traceback,
    )
    return search.fail(failure) or []


def _is_running(search: Search, trial: int) -> bool:
    return trial in search.trials and search.trials[trial].status is Status.RUNNING


def _compare(seq: int, decided: Event, logged: Event) -> None:
    if type(decided) is not type(logged):
        raise _Difference(
            f"at {seq} the log says {_describe(logged)}; now it is {_describe(decided)}"
        )
    for field in fields(logged):
        a, b = getattr(decided, field.name), getattr(logged, field.name)
        if not _equal_within_rounding(a, b):
            raise _Difference(
                f"at {seq} the log says {_describe(logged)} with {field.name} = {b!r}; "
                f"now it is {_describe(decided)} with {a!r}"
            )


def _equal_within_rounding(a: Any, b: Any) -> bool:
    if is_dataclass(a) and type(a) is type(b):
        names = (f.name for f in fields(a))
        return all(_equal_within_rounding(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal_within_rounding(a[k], b[k]) for k in a)
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or a == b
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_equal_within_rounding, a, b))
    return bool(a == b)


def _describe(event: Event) -> str:
    trial = getattr(event, "trial", None)
    return event.kind.value + (f" of trial {trial}" if trial is not None else "")
