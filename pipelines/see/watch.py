"""`caviar watch`: follow a run from another terminal, by its folder alone; it leaves nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from orchestrator.errors import RunError
from orchestrator.search.events import Kind
from orchestrator.search.trial import Status
from pipelines.see.formatting import format_duration, format_number
from pipelines.see.run import Run, concat_epochs, load
from pipelines.see.views import boxes, progress

__all__ = ["Left", "follow", "left", "panel", "sparkline"]

LOOK_SECONDS = 1.0  #: the tables themselves are a second or two behind
PATIENCE_SECONDS = 10.0  #: for a part that could not be read: it is replaced under a reader's feet
SLICES = 8  #: of the session's time; the later half of them say what is left
SHOWN = 12  #: workers, at most
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Seconds until the budget is used up: an estimate, and where it may lie."""

    seconds: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.high - self.low < 1:
            return f"{format_duration(self.seconds)} left"
        between = f"{format_duration(self.low)} to {format_duration(self.high)}"
        return f"about {format_duration(self.seconds)} left ({between})"


def follow(folder: Path, *, console: Console, sleep: Callable[[float], None] = time.sleep) -> None:
    """Draw the run until it ends or someone types Ctrl-C; once, where there is no terminal.

    Raises:
        RunError: If there is no run in the folder.
    """
    run = load(folder)
    if not console.is_terminal:
        console.print(panel(run))
        return
    with Live(panel(run), console=console, auto_refresh=False, transient=True) as live:
        while run.status == "running":
            sleep(LOOK_SECONDS)
            run = _looked(folder, sleep)
            live.update(panel(run), refresh=True)
    console.print(panel(run))


def _looked(folder: Path, sleep: Callable[[float], None]) -> Run:
    """Its tables, asked for again while a file is being replaced."""
    tries = int(PATIENCE_SECONDS / LOOK_SECONDS)
    for _ in range(tries):
        try:
            return load(folder)
        except RunError:
            sleep(LOOK_SECONDS)
    return load(folder)


def panel(run: Run) -> Panel:
    """All that one look shows."""
    rows = Table.grid(padding=(0, 2))
    found = progress(run)
    rows.add_row("best", _best(run, found))
    if len(found):
        rows.add_row("", f"{sparkline(_steps(found))}  over {len(run.epochs)} epochs")
    rows.add_row("stage", _stage(run))
    rows.add_row("trials", _fates(run))
    rows.add_row("time", _time(run))
    parts: list[Any] = [rows]
    if run.status == "running":
        parts += ["", _workers(run)]
    title = f"{run.folder} ({run.status})"
    return Panel(Group(*parts), title=escape(title), title_align="left", width=88)


def sparkline(values: np.ndarray, width: int = 40) -> str:
    """A curve in one line: the first value's height to the last's; what is not finite is a gap."""
    values = np.asarray(values, dtype=float)
    if len(values) > width:
        values = values[np.linspace(0, len(values) - 1, width).round().astype(int)]
    sound = values[np.isfinite(values)]
    if not len(sound):
        return " " * len(values)
    low, reach = sound.min(), np.ptp(sound) or 1.0
    heights = np.clip((np.nan_to_num(values) - low) / reach * (len(_BARS) - 1), 0, len(_BARS) - 1)
    marks = (_BARS[round(h)] for h in heights)
    return "".join(m if np.isfinite(v) else " " for m, v in zip(marks, values, strict=True))


def left(run: Run, now: float) -> Left | None:
    """How long the budget will last at second `now`; None where that cannot be told.

    What is left of a budget of epochs or trials is divided by the pace of late; the slowest and the
    fastest slice of that time say where the end may lie. Seen at 20 to 85 % of the time of nine
    recorded runs, the last start lay there 3 times of 4, the last epoch every other time.
    """
    session = run.events[run.events["kind"] == Kind.SESSION].iloc[-1]
    begun, found = float(session["at_seconds"]), []
    if not pd.isna(session["budget_seconds"]):
        rest = max(float(session["budget_seconds"]) - now, 0.0)
        found.append(Left(seconds=rest, low=rest, high=rest))
    starts = run.events[run.events["kind"] == Kind.START]
    for name, rows in (("budget_epochs", concat_epochs(run)), ("budget_trials", starts)):
        if pd.isna(session[name]) or not len(rows) or now <= begun:
            continue
        at = rows["at_seconds"].to_numpy(float)
        rest = float(session[name]) - len(at)
        if rest > 0 and (at >= begun).sum() >= 2 * SLICES:
            found.append(_at_the_pace(at, begun, max(now, at.max()), rest))
    return min(found, key=lambda one: one.seconds, default=None)


def _at_the_pace(at: np.ndarray, begun: float, now: float, rest: float) -> Left:
    """How long as many as `rest` more will take."""
    counts, edges = np.histogram(at, bins=SLICES, range=(begun, now))
    late = np.maximum(counts[SLICES // 2 :], 0.5)  # none in a slice is less than one
    seconds, low, high = (
        rest * (edges[1] - edges[0]) / np.array([late.mean(), late.max(), late.min()])
    )
    return Left(seconds=float(seconds), low=float(low), high=float(high))


def _steps(found: pd.DataFrame) -> np.ndarray:
    """The best after each of forty equal shares of the epochs."""
    spent = np.linspace(1, found["spent"].iloc[-1], 40)
    place = np.searchsorted(found["spent"].to_numpy(float), spent, side="right") - 1
    return np.where(place >= 0, found["best"].to_numpy(float)[np.maximum(place, 0)], np.nan)


def _best(run: Run, found: pd.DataFrame) -> str:
    if found.empty:
        return "none yet"
    top = found.iloc[-1]
    whose = f"trial {top['trial']}, epoch {top['epoch']}, {top['stage']}"
    return f"{run.objective} {format_number(float(top['best']))} ({whose})"


def _stage(run: Run) -> str:
    if run.audit is not None and (run.audit.trials["status"] == Status.RUNNING).any():
        return "audit of trials that were left behind"
    zooms = boxes(run)
    if not zooms:
        return "coarse, the whole space"
    box = zooms[-1]
    width = np.exp(np.mean(np.log([high - low for low, high in box["box"].values()])))
    around = ", ".join(map(str, box["parents"]))
    return f"fine, box {box['zoom']} around trials {around}: {width:.0%} of each range"


def _fates(run: Run) -> str:
    fate = run.trials["status"].value_counts()
    words = {Status.RUNNING: "in flight"}  # more than there are workers: some wait for one
    told = ", ".join(f"{fate[s]} {words.get(s, s.lower())}" for s in Status if fate.get(s, 0))
    return f"{len(run.trials)} ({told}), {len(run.epochs)} epochs"


def _now(run: Run) -> float:
    """The run's clock: what its tables say, and for a running one how old they are."""
    known = [float(frame["at_seconds"].max()) for frame in (run.events, run.epochs) if len(frame)]
    if run.status != "running":
        return max(known)
    parts = [p.stat().st_mtime for p in run.folder.glob("e*/part-*.parquet")]
    return max(known) + max(time.time() - max(parts), 0.0)


def _time(run: Run) -> str:
    now = _now(run)
    rest = left(run, now) if run.status == "running" else None
    return format_duration(now) + (f", {rest}" if rest else "")


def _workers(run: Run) -> Table:
    """Who trains what now: each worker's last trial, if there is more to come of it."""
    table = Table.grid(padding=(0, 2))
    epochs, going = concat_epochs(run), _going(run)
    count = max([int(run.session["workers"]), *(worker + 1 for worker in going)])
    for worker in range(min(count, SHOWN)):
        trial = going.get(worker)
        if trial is None:
            table.add_row(f"worker {worker}", "between trials")
            continue
        curve = epochs[epochs["trial"] == trial].sort_values("epoch")
        values = curve[run.objective.metric].to_numpy(float)
        table.add_row(
            f"worker {worker}",
            f"trial {trial}",
            f"epoch {curve['epoch'].iloc[-1]}",
            sparkline(values, 27),
            format_number(float(values[-1])),
        )
    if count > SHOWN:
        table.add_row(f"and {count - SHOWN} more")
    return table


def _going(run: Run) -> dict[int, int]:
    """By worker: the trial it is in the middle of, as the last report of both says."""
    rows = concat_epochs(run)
    if rows.empty:
        return {}
    parts = [part.trials for part in (run, run.audit) if part is not None]
    running = {t for p in parts for t in p.loc[p["status"] == Status.RUNNING, "trial"]}
    begun = run.events.loc[run.events["kind"] == Kind.SESSION, "seq"].iloc[-1]
    rows = rows[rows["seq"] > begun].sort_values("seq")
    rows = rows[~rows.duplicated("worker", keep="last") & ~rows.duplicated("trial", keep="last")]
    rows = rows[~rows["last"] & rows["trial"].isin(running)]
    return dict(zip(rows["worker"], rows["trial"], strict=True))
