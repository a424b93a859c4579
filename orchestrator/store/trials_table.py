"""The trials table: one row a trial, added up from the events and the epochs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.search.events import (
    Assigning,
    ModelTested,
    TrialEvent,
    TrialNote,
    TrialStarted,
)
from orchestrator.search.messages import Entry, Observation, Report
from orchestrator.search.objective import WORST, Score
from orchestrator.search.trial import TRANSITIONS, Status
from orchestrator.store.tables import Tables

__all__ = ["PART_IDS", "TrialsTable"]

PART_IDS = 10_000  #: number of trials in one part of the table


@dataclass(slots=True, kw_only=True)
class _Row:
    start: TrialStarted
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
    """The rows while the run goes on; remembers which parts of the table have changed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._rows: dict[int, _Row] = {}
        self.changed: set[int] = set()  #: numbers of the parts that differ from what was written

    def apply(self, entry: Entry, at_seconds: float) -> None:
        """Take in the next entry of the log."""
        if isinstance(entry, Observation):
            self._apply_report(entry.report, at_seconds)
        elif isinstance(entry, TrialEvent):
            self._apply_event(entry, at_seconds)

    def rows(self, part: int) -> list[dict[str, Any]]:
        """The rows of one part, by trial."""
        ids = range(part * PART_IDS, (part + 1) * PART_IDS)
        return [self._flatten(self._rows[i]) for i in ids if i in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def _apply_report(self, report: Report, at_seconds: float) -> None:
        row = self._rows[report.trial]
        row.epochs = report.epoch
        row.seconds += report.seconds
        row.ended_at_seconds = at_seconds
        if report.score < row.score:
            row.best = report
        self.changed.add(report.trial // PART_IDS)

    def _apply_event(self, event: TrialEvent, at_seconds: float) -> None:
        self.changed.add(event.trial // PART_IDS)
        if isinstance(event, TrialStarted):
            self._rows[event.trial] = _Row(
                start=event,
                status=TRANSITIONS[None, event.kind],
                attempts=1,
                reason=event.reason,
                started_at_seconds=at_seconds,
                ended_at_seconds=at_seconds,
            )
            return
        row = self._rows[event.trial]
        if isinstance(event, ModelTested):
            row.tests = dict(event.metrics)
        if isinstance(event, TrialNote):
            return
        row.status = TRANSITIONS[row.status, event.kind]
        row.reason = event.reason
        row.ended_at_seconds = at_seconds
        if isinstance(event, Assigning):
            row.attempts = event.attempt

    def _flatten(self, row: _Row) -> dict[str, Any]:
        start, best = row.start, row.best
        return {
            "trial": start.trial,
            "status": row.status.value,
            "stage": start.stage,
            "zoom": start.zoom,
            "parents": start.parents,
            "seed": start.seed,
            "attempts": row.attempts,
            "epochs": row.epochs,
            "best_epoch": best.epoch if best else None,
            "started_at_seconds": row.started_at_seconds,
            "ended_at_seconds": row.ended_at_seconds,
            "epoch_seconds": row.seconds,
            "reason": row.reason,
            **(best.metrics if best else {}),
            **(row.tests or {}),
            **self._tables.config_columns(start.config),
            **{f"unit_{name}": u for name, u in (start.unit or {}).items()},
        }
