"""The trials table: one row a trial, added up from the events and the epochs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.search.events import Event, Kind
from orchestrator.search.messages import Observation, Report
from orchestrator.search.objective import WORST, Score
from orchestrator.search.trial import TRANSITIONS, Status
from orchestrator.store.tables import Tables

__all__ = ["PART_IDS", "TrialsTable"]

PART_IDS = 10_000  #: trials in one part of the table


@dataclass(slots=True, kw_only=True)
class _Entry:
    start: Event
    status: Status
    attempts: int
    reason: str
    started_at_seconds: float
    ended_at_seconds: float
    epochs: int = 0
    seconds: float = 0.0
    best: Report | None = None
    tests: dict[str, float] | None = None

    @property
    def score(self) -> Score:
        return self.best.score if self.best else WORST


class TrialsTable:
    """The trials table while it grows; remembers which parts have changed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._entries: dict[int, _Entry] = {}
        self.changed: set[int] = set()  #: numbers of parts that differ from what was last taken

    def apply(self, entry: Event | Observation, at_seconds: float) -> None:
        """Take in what happened, in the order in which it did."""
        if isinstance(entry, Observation):
            self._report(entry.report, at_seconds)
        elif entry.trial is not None:
            self._event(entry, at_seconds)

    def rows(self, part: int) -> list[dict[str, Any]]:
        """The rows of one part, by trial."""
        ids = range(part * PART_IDS, (part + 1) * PART_IDS)
        return [self._row(self._entries[i]) for i in ids if i in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def _report(self, report: Report, at_seconds: float) -> None:
        entry = self._entries[report.trial]
        entry.epochs = report.epoch
        entry.seconds += report.seconds
        entry.ended_at_seconds = at_seconds
        if report.score < entry.score:
            entry.best = report
        self.changed.add(report.trial // PART_IDS)

    def _event(self, event: Event, at_seconds: float) -> None:
        assert event.trial is not None
        self.changed.add(event.trial // PART_IDS)
        if event.kind is Kind.START:
            self._entries[event.trial] = _Entry(
                start=event,
                status=TRANSITIONS[None, Kind.START],
                attempts=1,
                reason=event.reason,
                started_at_seconds=at_seconds,
                ended_at_seconds=at_seconds,
            )
            return
        entry = self._entries[event.trial]
        if event.kind is Kind.TEST:
            entry.tests = dict(event.metrics or {})
            return
        entry.status = TRANSITIONS[entry.status, event.kind]
        entry.reason = event.reason
        entry.ended_at_seconds = at_seconds
        if event.kind in (Kind.PROMOTE, Kind.RETRY):
            entry.attempts = event.attempt or entry.attempts

    def _row(self, entry: _Entry) -> dict[str, Any]:
        start, best = entry.start, entry.best
        return {
            "trial": start.trial,
            "status": entry.status.value,
            "stage": start.stage,
            "zoom": start.zoom,
            "parents": start.parents,
            "seed": start.seed,
            "attempts": entry.attempts,
            "epochs": entry.epochs,
            "best_epoch": best.epoch if best else None,
            "started_at_seconds": entry.started_at_seconds,
            "ended_at_seconds": entry.ended_at_seconds,
            "epoch_seconds": entry.seconds,
            "reason": entry.reason,
            **(best.metrics if best else {}),
            **(entry.tests or {}),
            **self._tables.config_columns(start.config or {}),
            **{f"unit_{name}": u for name, u in (start.unit or {}).items()},
        }
