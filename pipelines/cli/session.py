"""How a command runs a session: its options, its progress on the terminal, its exit code."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.errors import RunError
from pipelines.cli.options import PoolKind
from pipelines.cli.output import print_lines, print_notes, print_problem, require_writable
from pipelines.cli.streams import train_without_output

if TYPE_CHECKING:
    from orchestrator.runtime.session import Watcher
    from orchestrator.search.objective import Objective, Score
    from pipelines.runs.execution import ExecutionOptions
    from pipelines.runs.launch import MakeWatcher, Result
    from pipelines.runs.spec import Spec
    from pipelines.see.run import RunTables

__all__ = [
    "exit_unless_finished",
    "make_options",
    "require_ended",
    "train_spec_again",
    "watch_session",
]


def make_options(
    pool: PoolKind,
    workers: int | None,
    address: str | None,
    epoch_timeout: str | None,
    mirror: str | None = None,
) -> ExecutionOptions:
    """Where the session trains, from the options that were typed.

    Raises:
        SpecError: If two options exclude each other, or a value cannot be.
    """
    from pipelines.runs.execution import ExecutionOptions, parse_seconds

    return ExecutionOptions(
        pool=pool.value,
        workers=workers,
        address=address,
        epoch_timeout=parse_seconds(epoch_timeout, "epoch_timeout"),
        mirror=mirror,
    )


def require_ended(run: RunTables) -> None:
    """Refuse a run that is still going: its ranking is not final."""
    if run.status == "running":
        raise RunError(f"{run.folder}: is still going; wait for its end, or stop it with Ctrl-C")


@contextmanager
def watch_session(*, as_json: bool, quiet: bool) -> Iterator[MakeWatcher]:
    """Yield what makes a session's watcher; meanwhile say that the workers are starting.

    With --json, what a trainer prints goes to standard error, so that the object stands alone. From
    here on the command goes on where standard output fails: its result is in the run's folder.
    """
    from pipelines.runs.execution import ignore_repeated_signals

    train_without_output()
    silent = as_json or quiet
    try:
        with (
            _show_starting(shown=not silent) as started,
            redirect_stdout(sys.stderr) if as_json else nullcontext(),
        ):
            yield _make_watcher(started, silent=silent, show_notes=not as_json)
    finally:
        ignore_repeated_signals()


def exit_unless_finished(result: Result, *, as_json: bool) -> None:
    """End the command with the exit code of a session that failed or was stopped."""
    folder, ending = shlex.quote(str(result.folder)), result.ending
    if ending.status == "failed":
        print_problem(f"{ending.reason}; `caviar show {folder}` has the rest")
        raise typer.Exit(1)
    if ending.status == "interrupted":
        if not as_json:
            print_lines([f"stopped; `caviar resume {folder}` goes on"])
        raise typer.Exit(130)


def train_spec_again(
    spec: Spec,
    folder: Path,
    options: ExecutionOptions,
    *,
    trust_trainer: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train the configurations that a spec lists; end the command if that was broken off."""
    from pipelines.runs.launch import train_again

    require_writable(folder)
    with watch_session(as_json=as_json, quiet=quiet) as watcher:
        result = train_again(
            spec, out=folder, options=options, make_watcher=watcher, trust_trainer=trust_trainer
        )
    if result is not None:
        exit_unless_finished(result, as_json=as_json)


@contextmanager
def _show_starting(*, shown: bool) -> Iterator[Callable[[], None]]:
    """Say on a terminal that the workers are starting, until the yielded function is called."""
    if not (shown and sys.stdout.isatty()):
        yield lambda: None
        return
    from rich.console import Console

    status = Console().status("reading the data, starting the workers …")
    status.start()
    try:
        yield status.stop
    finally:
        status.stop()


def _make_watcher(started: Callable[[], None], *, silent: bool, show_notes: bool) -> MakeWatcher:
    from pipelines.see.terminal import make_watcher

    def make(objective: Objective, folder: Path, notes: tuple[str, ...], best: Score) -> Watcher:
        started()
        print_notes(notes if show_notes else ())
        return make_watcher(objective, str(folder), best, silent=silent)

    return make
