"""Commands that check and mend a run's log: `replay` and `repair`."""

from __future__ import annotations

import typer

from pipelines.cli import options as o
from pipelines.cli.output import print_lines, print_problem
from pipelines.cli.session import require_trust

__all__ = ["repair", "replay"]


def replay(run: o.RunArgument, trust_trainer: o.TrustOption = False) -> None:
    """Make RUN's decisions again from what was known at each, and say whether they are the same."""
    from pipelines.runs.repair import replay_run

    require_trust(run / "spec.yaml", granted=trust_trainer)
    result = replay_run(run)
    counts = f"{result.decisions} decisions taken again, {result.applied} events taken as they were"
    if result.difference:
        print_problem(f"{run}: {counts}; then {result.difference}")
        raise typer.Exit(1)
    print_lines([f"{run}: {counts}: the same"])


def repair(run: o.RunArgument, trust_trainer: o.TrustOption = False) -> None:
    """Keep all that can be read of RUN, some of whose files are damaged."""
    from pipelines.runs.repair import repair

    require_trust(run / "spec.yaml", granted=trust_trainer)
    print_lines([repair(run)])
