"""Commands that check and mend a run's log: `replay` and `repair`."""

from __future__ import annotations

import typer

from pipelines.cli import options as o
from pipelines.cli.output import print_lines, print_problem

__all__ = ["repair", "replay"]


def replay(run: o.RunArgument, trust_trainer: o.TrustOption = False) -> None:
    """Make RUN's decisions again from what was known at each, and say whether they are the same."""
    from pipelines.runs.repair import replay_run

    result = replay_run(run, trust_trainer=trust_trainer)
    counts = f"{result.decisions} decisions taken again, {result.applied} events taken as they were"
    if result.difference:
        print_problem(f"{run}: {counts}; then {result.difference}")
        raise typer.Exit(1)
    print_lines([f"{run}: {counts}: the same"])


def repair(run: o.RunArgument, trust_trainer: o.TrustOption = False) -> None:
    """Keep all that can be read of RUN, some of whose files are damaged."""
    from pipelines.runs.repair import repair

    print_lines([repair(run, trust_trainer=trust_trainer)])
