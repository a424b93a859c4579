"""Commands that search: `search`, `resume`, and before them `plan` and `space`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from pipelines.cli import options as o
from pipelines.cli.output import (
    print_lines,
    print_notes,
    print_summary,
    require_writable,
)
from pipelines.cli.session import (
    exit_unless_finished,
    make_options,
    watch_session,
)

__all__ = ["plan", "resume", "search", "space"]


def search(
    data: o.DataArgument,
    target: o.TargetOption = None,
    test: o.TestOption = None,
    task: o.TaskOption = None,
    spec: o.SpecOption = None,
    time: o.TimeOption = None,
    trials: o.TrialsOption = None,
    total_epochs: o.TotalEpochsOption = None,
    max_epochs: o.MaxEpochsOption = None,
    metric: o.MetricOption = None,
    workers: o.WorkersOption = None,
    like: o.LikeOption = None,
    seed: o.SeedOption = None,
    deterministic: o.DeterministicOption = False,
    audit: Annotated[
        str | None,
        typer.Option(help="share of the epochs for trials that pruning left behind [0%]"),
    ] = None,
    out: o.OutOption = None,
    address: o.AddressOption = None,
    epoch_timeout: o.EpochTimeoutOption = None,
    mirror: o.MirrorOption = None,
    pool: o.PoolOption = o.PoolKind.RAY,
    trust_trainer: o.TrustOption = False,
    as_json: o.JsonOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """Find good hyperparameters for DATA; with an existing --out, continue or extend that run."""
    from pipelines.runs import launch
    from pipelines.runs.execution import make_budget
    from pipelines.runs.new_spec import SearchRequest
    from pipelines.see.formatting import parse_share

    require_writable(out or launch.name_folder(data))
    budget = make_budget(time, trials, total_epochs)
    options = make_options(pool, workers, address, epoch_timeout, mirror)
    request = SearchRequest(
        source=data,
        spec=spec,
        target=target,
        test=test,
        task=task and task.value,
        metric=metric,
        like=like or (),
        seed=seed,
        max_epochs=max_epochs,
        deterministic=deterministic,
        audit=None if audit is None else parse_share(audit, "--audit"),
        trust_trainer=trust_trainer,
    )
    with watch_session(as_json=as_json, quiet=quiet) as watcher:
        result = launch.search(
            request, out=out, budget=budget, options=options, make_watcher=watcher
        )
    print_summary(result.folder, as_json=as_json)
    exit_unless_finished(result, as_json=as_json)


def resume(
    run: o.RunArgument,
    time: o.TimeOption = None,
    trials: o.TrialsOption = None,
    total_epochs: o.TotalEpochsOption = None,
    workers: o.WorkersOption = None,
    address: o.AddressOption = None,
    epoch_timeout: o.EpochTimeoutOption = None,
    mirror: o.MirrorOption = None,
    pool: o.PoolOption = o.PoolKind.RAY,
    trust_trainer: o.TrustOption = False,
    as_json: o.JsonOption = False,
    quiet: o.QuietOption = False,
) -> None:
    """Continue RUN where it stopped; a budget that is typed here is added to the old one."""
    from pipelines.runs import launch
    from pipelines.runs.execution import make_budget

    budget = make_budget(time, trials, total_epochs)
    options = make_options(pool, workers, address, epoch_timeout, mirror)
    with watch_session(as_json=as_json, quiet=quiet) as watcher:
        result = launch.resume(
            run,
            budget=budget,
            options=options,
            make_watcher=watcher,
            trust_trainer=trust_trainer,
        )
    print_summary(result.folder, as_json=as_json)
    exit_unless_finished(result, as_json=as_json)


def plan(
    data: o.DataArgument,
    target: o.TargetOption = None,
    test: o.TestOption = None,
    task: o.TaskOption = None,
    spec: o.SpecOption = None,
    time: o.TimeOption = None,
    trials: o.TrialsOption = None,
    total_epochs: o.TotalEpochsOption = None,
    max_epochs: o.MaxEpochsOption = None,
    metric: o.MetricOption = None,
    workers: o.WorkersOption = None,
    seed: o.SeedOption = None,
    trust_trainer: o.TrustOption = False,
) -> None:
    """Say how many trials, epochs, seconds and bytes a search would need; trains a few epochs."""
    from pipelines.runs.execution import make_budget, require_at_least
    from pipelines.runs.from_spec import make_job
    from pipelines.runs.new_spec import SearchRequest, new_spec
    from pipelines.runs.plan import format_plan, measure_cost

    budget = make_budget(time, trials, total_epochs)
    require_at_least(1, workers=workers)
    request = SearchRequest(
        source=data,
        spec=spec,
        target=target,
        test=test,
        task=task and task.value,
        metric=metric,
        seed=seed,
        max_epochs=max_epochs,
        trust_trainer=trust_trainer,
    )
    full, ready = new_spec(request)
    print_notes(ready.notes)
    cost = measure_cost(full, make_job(full, ready))
    count = workers or os.cpu_count() or 1
    print_lines(format_plan(full, ready, budget, cost, workers=count))


def space(spec: o.SpecOption = None, seed: o.SeedOption = None) -> None:
    """Show what a search will draw from: each range, a histogram of draws, and warnings."""
    from pipelines.runs.new_spec import list_spec_notes, load_space_spec
    from pipelines.see.preview import format_space

    lines = format_space(load_space_spec(spec, seed=seed))
    print_notes(list_spec_notes(spec))
    print_lines(lines)
