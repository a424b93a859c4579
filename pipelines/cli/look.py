"""Commands that look at runs and change nothing in them."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import options as o
from pipelines.cli.output import print_json, print_lines, print_summary, require_writable
from pipelines.export import FORMATS

__all__ = ["Format", "compare", "export", "report", "show", "watch", "why"]

#: What `--to` takes; typer reads the choices of an option from an enumeration.
Format = StrEnum("Format", {name: name for name in FORMATS})  # type: ignore[misc] # not literal


def show(
    run: o.RunArgument,
    importance: Annotated[
        bool, typer.Option("--importance", help="show which hyperparameters matter instead")
    ] = False,
    as_json: o.JsonOption = False,
) -> None:
    """Show what RUN came to, or has come to so far."""
    if importance:
        _show_importance(run, as_json=as_json)
    else:
        print_summary(run, as_json=as_json)


def _show_importance(folder: Path, *, as_json: bool) -> None:
    from pipelines.see.importance import compute_importance, format_importance
    from pipelines.see.run import load_run
    from pipelines.see.run_spec import read_run_spec

    single, pairs = compute_importance(read_run_spec(folder), load_run(folder))
    if as_json:
        print_json([asdict(effect) for effect in single])
    else:
        print_lines(format_importance(single, pairs))


def watch(run: o.RunArgument) -> None:
    """Follow RUN from another terminal until it ends; Ctrl-C leaves, the run continues."""
    from pipelines.see.console import PlainConsole
    from pipelines.see.watch import watch_run

    watch_run(run, console=PlainConsole())


def why(
    run: o.RunArgument,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="the trial's number")],
) -> None:
    """Explain where TRIAL of RUN came from, each decision about it, and the rule that ended it."""
    from pipelines.see.run import load_run
    from pipelines.see.why import explain_trial

    print_lines([explain_trial(load_run(run), trial)])


def report(
    runs: o.RunsArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="[report.html in RUN's folder]")
    ] = None,
) -> None:
    """Write one page of charts that opens offline in any browser; several RUNs side by side."""
    from pipelines.see.page import write_page

    page = out or runs[0] / "report.html"
    require_writable(page)
    write_page(runs, page)
    print_lines([f"{page}: open it in a browser"])


def compare(
    runs: o.RunsArgument,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE.html", help="write the page as well")
    ] = None,
) -> None:
    """Compare RUNs: results, differences of their specs, a paired test where seeds match."""
    from pipelines.see.compare import compare_folders, format_comparison

    for line in format_comparison(compare_folders(runs)):
        print_lines([line], bold=line.lstrip().startswith("differs in"))
    if page:
        report(runs, out=page)


def export(
    run: o.RunArgument,
    to: Annotated[Format, typer.Option(help="the tool that will open it")],
    out: Annotated[Path | None, typer.Option(help="the file or folder [in RUN's folder]")] = None,
) -> None:
    """Write RUN as other tools read it: all its trials, or with onnx its best model."""
    from pipelines.export import export

    require_writable(out or run)
    print_lines([export(run, to=str(to), out=out)])
