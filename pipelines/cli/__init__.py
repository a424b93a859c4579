"""The command line, `caviar`: one file for each group of commands, and here the list of them.

A new command is a function in the file of its group, and a row of COMMANDS. The files import what
is heavy inside their functions: `caviar --help` takes 0.2 s.
"""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from orchestrator.errors import CaviarError
from orchestrator.quote import quote
from orchestrator.store.memory import require_address_space
from pipelines.cli import data, look, maintain, search, train_again
from pipelines.cli.options import LogLevel
from pipelines.cli.output import log_to_stderr, print_problem, print_run_warnings, report_error
from pipelines.cli.streams import OutputError, describe_failure, guard_streams

__all__ = ["app", "main"]

#: Each command with its group, in the order in which --help lists them.
COMMANDS = (
    ("Search", search.search),
    ("Search", search.resume),
    ("Search", search.plan),
    ("Search", search.space),
    ("Look", look.show),
    ("Look", look.watch),
    ("Look", look.why),
    ("Look", look.report),
    ("Look", look.compare),
    ("Look", look.export),
    ("Train again", train_again.finalists),
    ("Train again", train_again.audit),
    ("Data", data.predict),
    ("Maintain", maintain.replay),
    ("Maintain", maintain.repair),
)

app = typer.Typer(
    name="caviar",
    help="Tune batch-norm networks: train many side by side, keep the best, all in Parquet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _group, _command in COMMANDS:
    app.command(rich_help_panel=_group)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"caviar {version('caviar')}")
        raise typer.Exit


@app.callback()
def _set_up(
    context: typer.Context,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(envvar="CAVIAR_LOG", help="write a log of this level to standard error"),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    if log_level is not None:
        context.with_resource(log_to_stderr(log_level.value))


def main() -> None:
    """Run the command; an error of the user's is one line and exit code 2."""
    with guard_streams():
        code = _run_command()
        if failure := describe_failure():
            print_problem(failure)
    sys.exit(code)


def _run_command() -> int:
    """Run the command that was typed, and return its exit code."""
    print_run_warnings()
    try:
        require_address_space()
        code = app(standalone_mode=False)
    except OutputError as e:
        return e.exit_code  # `main` reports the failure, also of commands that go on without output
    except CaviarError as e:
        return report_error(e)
    except MemoryError as e:
        print_problem(f"needs more memory than this process can have: {e or 'no details'}")
        return 1
    except typer.Exit as e:
        return e.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except Exception as e:
        if isinstance(e, OSError) and e.errno == errno.ENAMETOOLONG:  # of a path that was typed
            print_problem(f"needs a shorter name of a file, got {quote(e.filename)}")
            return 2
        if hasattr(e, "format_message"):  # the command line itself was wrong
            print_problem(" ".join(e.format_message().split()))
            return 2
        raise
    return int(code or 0)
