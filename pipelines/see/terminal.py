"""What the terminal shows while a search runs, and when it has ended."""

from __future__ import annotations

import shlex
import sys
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from orchestrator.search.budget import remaining
from orchestrator.search.events import Event, Kind, ModelTested, TrialEvent
from orchestrator.search.messages import Observation
from orchestrator.search.objective import Objective, Score
from orchestrator.search.search import Search
from orchestrator.search.trial import Status
from pipelines.see.console import PlainConsole, make_plain_text
from pipelines.see.formatting import (
    escape_controls,
    format_duration,
    format_number,
    format_with_interval,
)
from pipelines.see.placement import PlacedValue
from pipelines.see.time_left import LimitedWork, TimeLeft, estimate_time_left

if TYPE_CHECKING:
    from orchestrator.runtime.session import Session, Watcher

__all__ = [
    "LineWatcher",
    "PanelWatcher",
    "SessionClock",
    "SilentWatcher",
    "format_summary",
    "make_watcher",
]

REFRESH_SECONDS = 0.5  #: seconds between two drawings of the panel
PROGRESS_SECONDS = 10.0  #: seconds between two lines of progress where no panel can be drawn
#: Kinds of events that get a line; starts, pauses and promotions stand in the events table alone.
_PRINTED_KINDS = {Kind.SESSION, Kind.ZOOM, Kind.RETRY, Kind.DIVERGE, Kind.FAIL, Kind.TEST, Kind.END}


class SessionClock:
    """Records when each epoch of a session was reported, to estimate the time that is left."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._epochs_at = array("d")  # seconds since the run began; 8 bytes for each epoch

    def record(self, entry: Event | Observation, at_seconds: float) -> None:
        """Take in one entry of the log, in the order of the log; the session's own is the first."""
        if self._begun is None:
            self._begun = at_seconds
        if isinstance(entry, Observation):
            self._epochs_at.append(at_seconds)

    def estimate_time_left(self, session: Session) -> TimeLeft | None:
        """Estimate how long the session's budget will last.

        A budget of trials counts as the epochs that it is expected to need with pruning.
        """
        budget, now = session.budget, session.now()
        epochs = min(remaining(budget.epochs, 0), session.expected_epochs)
        work = LimitedWork(
            done_at=np.array(self._epochs_at), remaining=epochs - session.search.epochs
        )
        return estimate_time_left(
            [work],
            deadline=budget.seconds,
            begun=now if self._begun is None else self._begun,
            now=now,
        )


class SilentWatcher:
    """A watcher for --quiet and --json: it prints notes to standard error and nothing else."""

    def handle_entry(self, entry: Event | Observation, at_seconds: float) -> None:
        """Print nothing."""

    def tick(self, session: Session) -> None:
        """Print nothing."""

    def note(self, text: str) -> None:
        """Print a note to standard error, apart from the output."""
        print(f"note: {escape_controls(text)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class LineWatcher:
    """A watcher for a pipe or a file: one plain line for each important event, without colours."""

    def __init__(self, objective: Objective, best: Score) -> None:
        self._objective = objective
        self._best = best
        self._clock = SessionClock()
        self._progress_at = 0.0

    def handle_entry(self, entry: Event | Observation, at_seconds: float) -> None:
        """Print a line for a new best, a zoom, a bad trial, the session's begin and its end."""
        self._clock.record(entry, at_seconds)
        if isinstance(entry, Observation):
            r = entry.report
            if r.score[0] < self._best[0]:
                self._best = r.score
                value = format_number(self._objective.value(r.score[0]))
                self._print(
                    at_seconds, f"best {self._objective} {value}: trial {r.trial}, epoch {r.epoch}"
                )
        elif entry.kind in _PRINTED_KINDS:
            self._print(at_seconds, _describe_event(entry))

    def tick(self, session: Session) -> None:
        """Print a line of progress every `PROGRESS_SECONDS`."""
        now = session.now()
        if now - self._progress_at >= PROGRESS_SECONDS:
            self._progress_at = now
            rest = _describe_time_left(self._clock, session)
            self._print(now, f"{_count_trials(session.search)}; {rest}")

    def note(self, text: str) -> None:
        """Print a note as a line of its own."""
        print(f"note: {escape_controls(text)}", flush=True)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    @staticmethod
    def _print(at_seconds: float, text: str) -> None:
        print(f"{at_seconds:8.1f}s  {escape_controls(text)}", flush=True)


class PanelWatcher:
    """A watcher for a terminal: one panel that refreshes in place and disappears at the end."""

    def __init__(self, objective: Objective, title: str) -> None:
        self._objective, self._title = objective, title
        self._console = PlainConsole()
        self._live: Live | None = None
        self._clock = SessionClock()
        self._drawn_at = -REFRESH_SECONDS

    def handle_entry(self, entry: Event | Observation, at_seconds: float) -> None:
        """Close the panel with the session."""
        self._clock.record(entry, at_seconds)
        if isinstance(entry, Event) and entry.kind is Kind.END:
            self.close()

    def note(self, text: str) -> None:
        """Print a note above the panel."""
        self._console.print(f"note: {text}")

    def close(self) -> None:
        """Remove the panel and show the cursor again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def tick(self, session: Session) -> None:
        """Draw the panel again, every `REFRESH_SECONDS`."""
        now = session.now()
        if now - self._drawn_at < REFRESH_SECONDS:
            return
        self._drawn_at = now
        panel = self._draw(session)
        if self._live is None:
            self._live = Live(panel, console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(panel, refresh=True)

    def _draw(self, session: Session) -> Panel:
        search = session.search
        rows = Table.grid(padding=(0, 2))
        rows.add_row("best", _describe_incumbent(search, self._objective))
        zoom = f"fine, box {search.zoom.number}" if search.zoom else "coarse, the whole space"
        rows.add_row("stage", zoom)
        rows.add_row("trials", _count_trials(search))
        busy = f"{session.pool.busy()} of {session.pool.size} busy"
        share = session.busy_seconds / session.worker_seconds if session.worker_seconds else 0.0
        rows.add_row("workers", f"{busy}, {share:.0%} of the time in training")
        rest = _describe_time_left(self._clock, session)
        rows.add_row("time", f"{format_duration(session.now())}, {rest}")
        return Panel(rows, title=make_plain_text(self._title), title_align="left", width=88)


def make_watcher(objective: Objective, title: str, best: Score, *, silent: bool) -> Watcher:
    """The watcher that fits the place to which standard output goes."""
    if silent:
        return SilentWatcher()
    on_terminal = sys.stdout.isatty()
    return PanelWatcher(objective, title) if on_terminal else LineWatcher(objective, best)


def _describe_event(event: Event) -> str:
    source = f"trial {event.trial} " if isinstance(event, TrialEvent) else ""
    metrics = event.metrics if isinstance(event, ModelTested) else {}
    tests = ", ".join(f"{name} {format_number(value)}" for name, value in metrics.items())
    words = [event.kind.value, event.reason, tests]
    return source + ": ".join(word for word in words if word)


def _describe_incumbent(search: Search, objective: Objective) -> str:
    incumbent = search.incumbent
    if incumbent is None:
        return "none yet"
    value = format_number(objective.value(incumbent.score[0]))
    stage = search.trials[incumbent.trial].stage
    return f"{objective} {value} (trial {incumbent.trial}, epoch {incumbent.epoch}, {stage})"


def _count_trials(search: Search) -> str:
    shown = (
        Status.RUNNING, Status.PAUSED, Status.COMPLETED,
        Status.PRUNED, Status.DIVERGED, Status.FAILED,
    )  # fmt: skip
    listed = ", ".join(f"{search.counts[s]} {s.lower()}" for s in shown if search.counts[s])
    audits = len(search.trials) - search.started
    with_audits = f", {audits} audits" if audits else ""
    return f"{search.started} ({listed}){with_audits}, {search.epochs} epochs"


def _describe_time_left(clock: SessionClock, session: Session) -> str:
    estimate = clock.estimate_time_left(session)
    return "time left unknown" if estimate is None else str(estimate)


# ---------------------------------------------------------------------- the summary


def format_summary(
    summary: dict[str, Any], placed: list[PlacedValue], objective: Objective
) -> list[str]:
    """Write the result of a run as lines for a person."""
    top = summary["best"]
    if top is None:
        lines = [f"no model: {summary['trials']} trials, none with a result"]
    else:
        lines = _format_model(top, placed, objective)
    return [*lines, "", *_format_counts(summary), "", *_format_commands(summary, objective)]


def _format_counts(summary: dict[str, Any]) -> list[str]:
    typed = shlex.quote(summary["run"])
    statuses = [s.value.lower() for s in Status]
    listed = ", ".join(f"{summary[status]} {status}" for status in statuses if summary[status])
    lines = [f"trials   {summary['trials']}: {listed}"]
    if summary["audits"]:
        lines.append(f"audits   {summary['audits']}; `caviar audit {typed}` says what they show")
    waste = 1 - summary["utilisation"]
    return [
        *lines,
        f"epochs   {summary['epochs']} in {format_duration(summary['seconds'])}; "
        f"{waste:.0%} of the workers' time was not training",
        f"folder   {summary['run']} ({summary['status']})",
    ]


def _format_commands(summary: dict[str, Any], objective: Objective) -> list[str]:
    """What to type next: the tables in pandas and DuckDB, and the commands of caviar."""
    run, typed = summary["run"], shlex.quote(summary["run"])
    unfinished = summary["status"] in ("interrupted", "killed")
    columns = {objective.metric: objective.maximize}
    if objective.tie_metric:
        columns[objective.tie_metric] = objective.tie_maximize
    order = ", ".join(f"{c} {'desc' if down else 'asc'}" for c, down in columns.items())
    lines = [
        f"pandas   pandas.read_parquet({f'{run}/trials'!r})"
        f".sort_values({list(columns)}, ascending={[not down for down in columns.values()]})",
        f"duckdb   select * from '{run}/trials/*.parquet' "  # noqa: S608 # to be typed, not run
        f"order by {order} limit 9",
        f"next     caviar resume {typed}{'' if unfinished else ' --time 60s'}",
    ]
    if summary["best"] is not None and summary["best"]["test"]:
        lines.append(f"         caviar predict {typed} NEW_DATA --out predictions.parquet")
    return [*lines, f"         caviar report {typed}"]


def _format_model(
    top: dict[str, Any], placed: list[PlacedValue], objective: Objective
) -> list[str]:
    lines = [
        f"best by {objective}: trial {top['trial']}, epoch {top['epoch']} ({top['stage']})",
        # no interval: the best of many results looks better than it is, so none would hold
        f"  validation   {_format_figures(top['validation'], {})}",
    ]
    if top["test"]:
        intervals = top["intervals"].get("test", {})
        lines.append(f"  test         {_format_figures(top['test'], intervals)}")
    return [*lines, "", *_format_places(placed)]


def _format_figures(figures: Mapping[str, float], intervals: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {format_with_interval(value, intervals.get(name))}"
        for name, value in figures.items()
    )


def _format_places(placed: list[PlacedValue]) -> list[str]:
    """One line for each searched value with its place in the range, then warnings."""
    lines = []
    width = max((len(p.name) for p in placed), default=0)
    for p in placed:
        marks = ["─"] * 21
        marks[round(p.unit * 20)] = "●"
        lines.append(
            f"  {p.name:<{width}}  {format_number(p.value):>11}  {''.join(marks)}  {p.domain}"
        )
    lines += [
        f"  warning: {p.name} sits on the {p.border} border of its range; a wider one may do better"
        for p in placed
        if p.border
    ]
    return lines
