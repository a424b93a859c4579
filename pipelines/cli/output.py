"""What the command line prints, and how it ends: summaries, JSON, errors, the log."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from orchestrator.errors import CaviarError, RunError, RunWarning
from orchestrator.quote import shorten
from pipelines.see.formatting import escape_controls

__all__ = [
    "log_to_stderr",
    "print_json",
    "print_lines",
    "print_notes",
    "print_problem",
    "print_run_warnings",
    "print_summary",
    "report_error",
    "require_writable",
    "word_for_command_line",
]

#: Arguments that error messages name in backquotes, as Python's, and the option to type for each.
_OPTIONS = {
    name: f"--{name.replace('_', '-')}"
    for name in (
        "address", "audit", "deterministic", "epoch_timeout", "like", "max_epochs", "metric",
        "mirror", "out", "pool", "seed", "seeds", "spec", "target", "task", "test", "time", "top",
        "trials", "workers",
    )
} | {"epochs": "--total-epochs"}  # fmt: skip
MAX_MESSAGE = 1_000  #: characters of an error; a path or an option may be of any length
_ARGUMENT = re.compile(r'`(\w+)(?:=("[^"`]*"|[^`\s]+))?`')


def word_for_command_line(message: str) -> str:
    """The message with each of Python's arguments as the option to type.

    Everything below the command line is also called from Python, and names arguments as Python
    does: `time="60s"` becomes --time 60s here.
    """

    def reword(match: re.Match[str]) -> str:
        option, value = _OPTIONS.get(match[1]), (match[2] or "").strip('"')
        if option is None:
            return match[0]
        return option if value in ("", "True") else f"{option} {value}"

    return _ARGUMENT.sub(reword, message)


def report_error(error: CaviarError) -> int:
    """Print an error on one line of standard error, and return the exit code."""
    print_problem(word_for_command_line(" ".join(str(error).split())))
    return error.exit_code


def print_problem(text: str) -> None:
    """Print one line of at most `MAX_MESSAGE` characters to standard error."""
    sys.stderr.write(f"caviar: {shorten(escape_controls(text), MAX_MESSAGE)}\n")


def print_run_warnings() -> None:
    """From now on, print a warning about a run's folder as a note, and others as Python does."""
    show = warnings.showwarning

    def show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, RunWarning):
            sys.stderr.write(f"note: {escape_controls(str(message))}\n")
        else:
            show(message, category, *place)

    warnings.showwarning = show_warning  # type: ignore[assignment] # the same arguments


def print_lines(lines: Iterable[str], *, bold: bool = False) -> None:
    """Print each line to standard output, without what would act on the terminal."""
    for line in lines:
        typer.secho(escape_controls(line), bold=bold)


def print_notes(notes: Iterable[str]) -> None:
    """Print what a person should know beside the result."""
    print_lines(f"note: {note}" for note in notes)


def print_json(value: object) -> None:
    """Print a value as one line of JSON; a number that JSON does not have is null."""

    def to_plain(part: object) -> object:
        if isinstance(part, dict):
            return {name: to_plain(item) for name, item in part.items()}
        if isinstance(part, list | tuple):
            return [to_plain(item) for item in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    typer.echo(json.dumps(to_plain(value), allow_nan=False))


def print_summary(folder: Path, *, as_json: bool) -> None:
    """Print what a run came to."""
    from pipelines.see.placement import locate_best_values
    from pipelines.see.run import load_run
    from pipelines.see.run_spec import read_run_spec
    from pipelines.see.summary import summarize_run
    from pipelines.see.terminal import format_summary

    spec = read_run_spec(folder)
    run = load_run(folder)
    content = summarize_run(run)
    if as_json:
        print_json(content)
        return
    print_lines(format_summary(content, locate_best_values(run), run.objective))
    if spec.search.audit and not content["audits"]:
        print_notes(
            [
                f"{spec.search.audit:.0%} of the epochs did not suffice for an audit, "
                f"which takes {spec.max_epochs}"
            ]
        )


def require_writable(path: Path) -> None:
    """Refuse a place that cannot be written to before the work, not after it.

    Raises:
        RunError: If the nearest folder that exists cannot be written to.
    """
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        raise RunError(f"--out needs a place that can be written to, got {path}: {existing} is not")


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg] # generic in stubs alone
    """Writes to standard error as it is now: a progress panel or a test may replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _LineFormatter(logging.Formatter):
    """Writes one line for each record, and below it the traceback of an error if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).splitlines()
        return "\n".join(map(escape_controls, lines))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # of logging
        return escape_controls(super().formatMessage(record))


@contextmanager
def log_to_stderr(level: str) -> Iterator[None]:
    """Let the logger `caviar` write to standard error, from this level on."""
    logger, handler = logging.getLogger("caviar"), _StderrHandler()
    handler.setFormatter(_LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    level_before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level_before)
