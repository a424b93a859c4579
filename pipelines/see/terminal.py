"""What a person sees while a search runs, and when it has ended."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from orchestrator.search.events import Event, Kind, ModelTested, TrialEvent
from orchestrator.search.messages import Observation
from orchestrator.search.objective import Objective, Score
from orchestrator.search.search import Search
from orchestrator.search.trial import Incumbent, Status
from pipelines.see.formatting import format_duration, format_number, format_with_interval
from pipelines.see.run import PlacedValue

if TYPE_CHECKING:
    from orchestrator.runtime.session import Session, Watcher

__all__ = ["Lines", "LivePanel", "Silent", "format_summary", "make_watcher"]

REFRESH_SECONDS = 0.5  #: of the panel
PROGRESS_SECONDS = 10.0  #: between two lines of progress where no panel can be drawn
#: Kinds that are worth a line; starts, pauses and promotions stand in the events table.
_TOLD = {Kind.SESSION, Kind.ZOOM, Kind.RETRY, Kind.DIVERGE, Kind.FAIL, Kind.TEST, Kind.END}


class Silent:
    """For --quiet and --json."""

    def happened(self, entry: Event | Observation, at_seconds: float) -> None:
        """Say nothing."""

    def tick(self, session: Session) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """To standard error, beside whatever is printed."""
        print(f"note: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to give back."""


class Lines:
    """For a pipe or a file: one plain line for each thing worth telling, no colours."""

    def __init__(self, objective: Objective, best: Score) -> None:
        self._objective = objective
        self._best = best
        self._told_at = 0.0

    def happened(self, entry: Event | Observation, at_seconds: float) -> None:
        """A line for a new best, a zoom, a trial that went bad, the session's begin and end."""
        if isinstance(entry, Observation):
            r = entry.report
            if r.score[0] < self._best[0]:
                self._best = r.score
                value = format_number(self._objective.value(r.score[0]))
                self._say(
                    at_seconds, f"best {self._objective} {value}: trial {r.trial}, epoch {r.epoch}"
                )
        elif entry.kind in _TOLD:
            whose = f"trial {entry.trial} " if isinstance(entry, TrialEvent) else ""
            metrics = entry.metrics if isinstance(entry, ModelTested) else {}
            tests = ", ".join(f"{k} {format_number(v)}" for k, v in metrics.items())
            words = [entry.kind.value, entry.reason, tests]
            self._say(at_seconds, whose + ": ".join(word for word in words if word))

    def tick(self, session: Session) -> None:
        """A line of progress now and then."""
        now = session.now()
        if now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._say(now, f"{_counts(session.search)}; {_left(session)}")

    def note(self, text: str) -> None:
        """A line."""
        print(f"note: {text}", flush=True)

    def close(self) -> None:
        """Nothing to give back."""

    @staticmethod
    def _say(at_seconds: float, text: str) -> None:
        print(f"{at_seconds:8.1f}s  {text}", flush=True)


class LivePanel:
    """For a terminal: one quiet panel that refreshes in place and is gone at the end."""

    def __init__(self, objective: Objective, title: str) -> None:
        self._objective, self._title = objective, title
        self._console = Console()
        self._live: Live | None = None
        self._drawn_at = -REFRESH_SECONDS

    def happened(self, entry: Event | Observation, at_seconds: float) -> None:
        """The panel closes with the session."""
        if isinstance(entry, Event) and entry.kind is Kind.END:
            self.close()

    def note(self, text: str) -> None:
        """A line above the panel."""
        self._console.print(f"note: {escape(text)}")

    def close(self) -> None:
        """Give the terminal back, with its cursor."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def tick(self, session: Session) -> None:
        """Draw it anew, twice a second."""
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
        rows.add_row("best", _best(search.incumbent, search, self._objective))
        zoom = f"fine, box {search.zoom.number}" if search.zoom else "coarse, the whole space"
        rows.add_row("stage", zoom)
        rows.add_row("trials", _counts(search))
        busy = f"{session.pool.busy()} of {session.pool.size} busy"
        share = session.busy_seconds / session.worker_seconds if session.worker_seconds else 0.0
        rows.add_row("workers", f"{busy}, {share:.0%} of the time in training")
        rows.add_row("time", f"{format_duration(session.now())}, {_left(session)}")
        return Panel(rows, title=escape(self._title), title_align="left", width=88)


def make_watcher(objective: Objective, title: str, best: Score, *, silent: bool) -> Watcher:
    """The one that fits where standard output goes."""
    if silent:
        return Silent()
    return LivePanel(objective, title) if sys.stdout.isatty() else Lines(objective, best)


def _best(incumbent: Incumbent | None, search: Search, objective: Objective) -> str:
    if incumbent is None:
        return "none yet"
    value = format_number(objective.value(incumbent.score[0]))
    stage = search.trials[incumbent.trial].stage
    return f"{objective} {value} (trial {incumbent.trial}, epoch {incumbent.epoch}, {stage})"


def _counts(search: Search) -> str:
    shown = (
        Status.RUNNING, Status.PAUSED, Status.COMPLETED,
        Status.PRUNED, Status.DIVERGED, Status.FAILED,
    )  # fmt: skip
    fates = ", ".join(f"{search.counts[s]} {s.lower()}" for s in shown if search.counts[s])
    audits = len(search.trials) - search.started
    told = f", {audits} audits" if audits else ""
    return f"{search.started} ({fates}){told}, {search.epochs} epochs"


def _left(session: Session) -> str:
    seconds = session.seconds_left()
    return f"about {format_duration(seconds)} left" if seconds is not None else "time left unknown"


# ---------------------------------------------------------------------- the last words


def format_summary(
    found: dict[str, Any], places: list[PlacedValue], objective: Objective
) -> list[str]:
    """What a run came to, for a person."""
    run, top = found["run"], found["best"]
    typed = shlex.quote(run)
    lines = []
    if top is None:
        lines.append(f"no model: {found['trials']} trials, none with a result")
    else:
        lines += _model_lines(top, places, objective)
    fates = [s.value.lower() for s in Status]
    told = ", ".join(f"{found[fate]} {fate}" for fate in fates if found[fate])
    lines += ["", f"trials   {found['trials']}: {told}"]
    if found["audits"]:
        lines.append(f"audits   {found['audits']}; `caviar audit {typed}` says what they show")
    waste = 1 - found["utilisation"]
    lines.append(
        f"epochs   {found['epochs']} in {format_duration(found['seconds'])}; "
        f"{waste:.0%} of the workers' time was not training"
    )
    lines.append(f"folder   {run} ({found['status']})")
    unfinished = found["status"] in ("interrupted", "killed")
    columns = {objective.metric: objective.maximize}
    if objective.tie_metric:
        columns[objective.tie_metric] = objective.tie_maximize
    order = ", ".join(f"{c} {'desc' if down else 'asc'}" for c, down in columns.items())
    lines += [
        "",
        f"pandas   pandas.read_parquet({f'{run}/trials'!r})"
        f".sort_values({list(columns)}, ascending={[not down for down in columns.values()]})",
        f"duckdb   select * from '{run}/trials/*.parquet' "  # noqa: S608 # to be typed, not run
        f"order by {order} limit 9",
        f"next     caviar resume {typed}{'' if unfinished else ' --time 60s'}",
    ]
    if top is not None and top["test"]:
        lines.append(f"         caviar predict {typed} NEW_DATA --out predictions.parquet")
    lines.append(f"         caviar report {typed}")
    return lines


def _model_lines(top: dict[str, Any], places: list[PlacedValue], objective: Objective) -> list[str]:
    def told(split: str, intervals: Mapping[str, Any]) -> str:
        return ", ".join(
            f"{name} {format_with_interval(value, intervals.get(name))}"
            for name, value in top[split].items()
        )

    lines = [
        f"best by {objective}: trial {top['trial']}, epoch {top['epoch']} ({top['stage']})",
        f"  validation   {told('validation', {})}",  # the best of many: no interval would hold
    ]
    if top["test"]:
        lines.append(f"  test         {told('test', top['intervals'].get('test', {}))}")
    lines.append("")
    width = max((len(p.name) for p in places), default=0)
    for p in places:
        marks = ["─"] * 21
        marks[round(p.unit * 20)] = "●"
        lines.append(
            f"  {p.name:<{width}}  {format_number(p.value):>11}  {''.join(marks)}  {p.domain}"
        )
    for p in places:
        if p.border:
            lines.append(
                f"  warning: {p.name} sits on the {p.border} border of its range; "
                f"a wider one may do better"
            )
    return lines
