"""Commands that check and mend a run's log: `replay` and `repair`."""

from __future__ import annotations

import sys

import typer

from pipelines.cli import options as o
from pipelines.cli.session import require_trust

__all__ = ["repair", "replay"]


def replay(run: o.RunArgument, trust_trainer: o.TrustOption = False) -> None:
    """Make RUN's decisions again from what was known at each, and say whether they are the same."""
    from pipelines.runs.repair import replay_run

    require_trust(run / "spec.yaml", granted=trust_trainer)
    result = replay_run(run)
    counts = f"{result.decisions} decisions taken again, {result.applied} events taken as they were"
    if result.difference:
        sys.stderr.write(f"caviar: {run}: {counts}; then {result.difference}\n")
        raise typer.Exit(1)
    typer.echo(f"{run}: {counts}: the same")


def repair(run: o.RunArgument, trust_trainer: o.TrustOption = False) -> None:
    """Keep all that can be read of RUN, some of whose files are damaged."""
    from pipelines.runs.repair import repair

    require_trust(run / "spec.yaml", granted=trust_trainer)
    typer.echo(repair(run))
