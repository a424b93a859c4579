"""`caviar watch`: follow a run from another terminal; this reads its folder and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from orchestrator.errors import RunError
from orchestrator.search.events import Kind
from orchestrator.search.trial import Status
from pipelines.see.console import make_plain_text
from pipelines.see.epochs import concat_epochs
from pipelines.see.formatting import format_duration, format_number
from pipelines.see.run import RunTables, load_run
from pipelines.see.time_left import LimitedWork, TimeLeft, estimate_time_left
from pipelines.see.views import list_zooms, trace_incumbent

__all__ = ["draw_panel", "draw_sparkline", "estimate_run_time_left", "watch_run"]

LOOK_SECONDS = 1.0  #: seconds between two looks; the tables lag a second or two behind the search
PATIENCE_SECONDS = 10.0  #: seconds to try again when a part cannot be read while it is replaced
#: Age of the newest file above which the system's clock is wrong: on a disk that takes 5 s for each
#: synchronisation, a running search writes every ten minutes.
MOST_AGE_SECONDS = 3600.0
MAX_WORKERS = 12  #: workers that the panel shows
_BARS = "▁▂▃▄▅▆▇█"


def watch_run(
    folder: Path, *, console: Console, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Draw the run until it ends or the user types Ctrl-C; draw it once if there is no terminal.

    Raises:
        RunError: If there is no run in the folder.
    """
    run = load_run(folder)
    if not console.is_terminal:
        console.print(draw_panel(run))
        return
    with Live(draw_panel(run), console=console, auto_refresh=False, transient=True) as live:
        while run.status == "running":
            sleep(LOOK_SECONDS)
            run = _load_patiently(folder, sleep)
            live.update(draw_panel(run), refresh=True)
    console.print(draw_panel(run))


def _load_patiently(folder: Path, sleep: Callable[[float], None]) -> RunTables:
    """Load the tables; try again while a file cannot be read because it is being replaced."""
    tries = int(PATIENCE_SECONDS / LOOK_SECONDS)
    for _ in range(tries):
        try:
            return load_run(folder)
        except RunError:
            sleep(LOOK_SECONDS)
    return load_run(folder)


def draw_panel(run: RunTables) -> Panel:
    """Draw the best result, the stage, the trials, the time, and what each worker trains."""
    rows = Table.grid(padding=(0, 2))
    incumbents = trace_incumbent(run)
    rows.add_row("best", _describe_best(run, incumbents))
    if len(incumbents):
        rows.add_row(
            "", f"{draw_sparkline(_sample_best(incumbents))}  over {len(run.epochs)} epochs"
        )
    rows.add_row("stage", _describe_stage(run))
    rows.add_row("trials", _count_trials(run))
    rows.add_row("time", _describe_time(run))
    parts: list[Any] = [rows]
    if run.status == "running":
        parts += ["", _draw_workers(run)]
    title = f"{run.folder} ({run.status})"
    return Panel(Group(*parts), title=make_plain_text(title), title_align="left", width=88)


def draw_sparkline(values: np.ndarray, width: int = 40) -> str:
    """A curve as one line of text; a value that is not finite is a gap."""
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


def estimate_run_time_left(run: RunTables, now: float) -> TimeLeft | None:
    """Estimate at second `now` how long the budget of the last session will last."""
    session = run.events[run.events["kind"] == Kind.SESSION].iloc[-1]
    begun = float(session["at_seconds"])
    starts = run.events[run.events["kind"] == Kind.START]
    works = [
        _limit_rows(rows, session[budget], begun)
        for budget, rows in (("budget_epochs", concat_epochs(run)), ("budget_trials", starts))
        if len(rows) and not pd.isna(session[budget])
    ]
    seconds = session["budget_seconds"]
    deadline = None if pd.isna(seconds) else float(seconds)
    return estimate_time_left(works, deadline=deadline, begun=begun, now=now)


def _limit_rows(rows: pd.DataFrame, budget: float, begun: float) -> LimitedWork:
    done_at = rows["at_seconds"].to_numpy(float)
    return LimitedWork(done_at=done_at[done_at >= begun], remaining=float(budget) - len(rows))


def _sample_best(incumbents: pd.DataFrame) -> np.ndarray:
    """The best value after each of forty equal shares of the epochs."""
    spent = np.linspace(1, incumbents["spent"].iloc[-1], 40)
    place = np.searchsorted(incumbents["spent"].to_numpy(float), spent, side="right") - 1
    best = incumbents["best"].to_numpy(float)
    return np.where(place >= 0, best[np.maximum(place, 0)], np.nan)


def _describe_best(run: RunTables, incumbents: pd.DataFrame) -> str:
    if incumbents.empty:
        return "none yet"
    top = incumbents.iloc[-1]
    source = f"trial {top['trial']}, epoch {top['epoch']}, {top['stage']}"
    return f"{run.objective} {format_number(float(top['best']))} ({source})"


def _describe_stage(run: RunTables) -> str:
    if run.audit is not None and (run.audit.trials["status"] == Status.RUNNING).any():
        return "audit of trials that were left behind"
    zooms = list_zooms(run)
    if not zooms:
        return "coarse, the whole space"
    zoom = zooms[-1]
    width = np.exp(np.mean(np.log([high - low for low, high in zoom["box"].values()])))
    around = ", ".join(map(str, zoom["parents"]))
    return f"fine, box {zoom['zoom']} around trials {around}: {width:.0%} of each range"


def _count_trials(run: RunTables) -> str:
    counts = run.trials["status"].value_counts()
    words = {Status.RUNNING: "in flight"}  # may be more than there are workers: some are queued
    listed = ", ".join(f"{counts[s]} {words.get(s, s.lower())}" for s in Status if counts.get(s, 0))
    return f"{len(run.trials)} ({listed}), {len(run.epochs)} epochs"


def _read_clock(run: RunTables) -> float:
    """Seconds since the run began: the newest row, and for a running run the age of its files."""
    newest = [float(frame["at_seconds"].max()) for frame in (run.events, run.epochs) if len(frame)]
    if run.status != "running":
        return max(newest)
    parts = [p.stat().st_mtime for p in run.folder.glob("e*/part-*.parquet")]
    age = time.time() - max(parts)
    return max(newest) + (age if 0 < age < MOST_AGE_SECONDS else 0.0)


def _describe_time(run: RunTables) -> str:
    now = _read_clock(run)
    time_left = estimate_run_time_left(run, now) if run.status == "running" else None
    return format_duration(now) + (f", {time_left}" if time_left else "")


def _draw_workers(run: RunTables) -> Table:
    """One line for each worker: the trial that it is training, with its curve so far."""
    table = Table.grid(padding=(0, 2))
    epochs, in_training = concat_epochs(run), _find_trials_in_training(run)
    count = max([run.session.workers, *(worker + 1 for worker in in_training)])
    for worker in range(min(count, MAX_WORKERS)):
        trial = in_training.get(worker)
        if trial is None:
            table.add_row(f"worker {worker}", "between trials")
            continue
        curve = epochs[epochs["trial"] == trial].sort_values("epoch")
        values = curve[run.objective.metric].to_numpy(float)
        table.add_row(
            f"worker {worker}",
            f"trial {trial}",
            f"epoch {curve['epoch'].iloc[-1]}",
            draw_sparkline(values, 27),
            format_number(float(values[-1])),
        )
    if count > MAX_WORKERS:
        table.add_row(f"and {count - MAX_WORKERS} more")
    return table


def _find_trials_in_training(run: RunTables) -> dict[int, int]:
    """By worker: the trial that it is training, by the last report of the worker and the trial."""
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
