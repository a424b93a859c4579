"""Commands that train some of a run's trials again: `finalists` and `audit`."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.errors import RunError
from pipelines.cli import options as o
from pipelines.cli.output import print_json, print_lines, print_notes
from pipelines.cli.session import make_options, require_ended, train_spec_again

__all__ = ["audit", "finalists"]

AUDITS_ADVISED = 20  #: trials whose epochs the error message of `audit` suggests as a budget


def finalists(
    run: o.RunArgument,
    top: Annotated[int, typer.Option(help="how many of the best configurations")] = 5,
    seeds: Annotated[int, typer.Option(help="how often each is trained again")] = 5,
    out: Annotated[Path | None, typer.Option(help="the new run's folder [RUN-finalists]")] = None,
    workers: o.WorkersOption = None,
    address: o.AddressOption = None,
    epoch_timeout: o.EpochTimeoutOption = None,
    pool: o.PoolOption = o.PoolKind.RAY,
    trust_trainer: o.TrustOption = False,
    as_json: o.JsonOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """Train RUN's best configurations again on fresh seeds, and rank them by their means."""
    from pipelines.runs.execution import require_at_least
    from pipelines.runs.finalists import (
        format_finalists,
        make_finalists_spec,
        rank_finalists,
    )
    from pipelines.see.run import load_run
    from pipelines.see.run_spec import read_run_spec

    require_at_least(1, top=top, seeds=seeds)
    parent = load_run(run)
    require_ended(parent)
    spec = make_finalists_spec(read_run_spec(run), parent, top=top, seeds=seeds)
    folder = out or _name_folder(run, "finalists")
    options = make_options(pool, workers, address, epoch_timeout)
    train_spec_again(
        spec, folder, options, trust_trainer=trust_trainer, as_json=as_json, quiet=quiet
    )
    repeats = load_run(folder)
    ranking = rank_finalists(repeats)
    if as_json:
        print_json([asdict(finalist) for finalist in ranking])
    else:
        print_lines(format_finalists(repeats, parent, ranking))


def audit(
    run: o.RunArgument,
    total_epochs: o.TotalEpochsOption = None,
    out: Annotated[Path | None, typer.Option(help="the new run's folder [RUN-audit]")] = None,
    workers: o.WorkersOption = None,
    address: o.AddressOption = None,
    epoch_timeout: o.EpochTimeoutOption = None,
    pool: o.PoolOption = o.PoolKind.RAY,
    trust_trainer: o.TrustOption = False,
    as_json: o.JsonOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """Say whether pruning was right: by RUN's audits, or by new ones with --total-epochs."""
    from pipelines.runs.audit import evaluate_audits, format_audit, make_audit_spec
    from pipelines.runs.execution import require_at_least
    from pipelines.see.run import load_run
    from pipelines.see.run_spec import read_run_spec

    require_at_least(1, epochs=total_epochs)
    parent, spec = load_run(run), read_run_spec(run)
    folder = out or _name_folder(run, "audit")
    if total_epochs is not None:
        require_ended(parent)
        audit_spec = make_audit_spec(spec, parent, epochs=total_epochs)
        options = make_options(pool, workers, address, epoch_timeout)
        train_spec_again(
            audit_spec, folder, options, trust_trainer=trust_trainer, as_json=as_json, quiet=quiet
        )
    if (folder / "spec.yaml").is_file():
        audits = load_run(folder)
    elif out is None and parent.audit is not None:
        audits = parent.audit
    else:
        raise RunError(_describe_missing_audits(run, out, AUDITS_ADVISED * spec.max_epochs))
    result = evaluate_audits(spec, parent, audits)
    if as_json:
        print_json(asdict(result))
        return
    if parent.status == "running":
        print_notes([f"{run} is still going; all of this may change"])
    print_lines(format_audit(result))


def _describe_missing_audits(run: Path, out: Path | None, epochs: int) -> str:
    folder = f" --out {shlex.quote(str(out))}" if out else ""
    return (
        f"{out or run}: has no audits; `caviar audit {shlex.quote(str(run))} --total-epochs "
        f"{epochs}{folder}` trains {AUDITS_ADVISED} of the trials that pruning left behind"
    )


def _name_folder(run: Path, purpose: str) -> Path:
    """The default folder of a new run, beside the run that it trains again.

    Raises:
        RunError: If it is a link: who made the run's folder may have made this one, too.
    """
    run = run if run.name.strip(".") else run.resolve()  # the name of `.` and `..` is another one
    folder = run.with_name(f"{run.name}-{purpose}")
    if folder.is_symlink():
        raise RunError(f"{folder}: is a link; name the new run's folder with `out`")
    return folder
