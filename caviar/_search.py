"""Searching from Python: the arguments of the command line, as plain typed arguments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from caviar._paths import make_path
from caviar._run import Run, load
from orchestrator.errors import CaviarError, SpecError

if TYPE_CHECKING:
    from pipelines.runs.execution import ExecutionOptions
    from pipelines.runs.launch import MakeWatcher, Result
    from pipelines.runs.new_spec import SearchRequest

__all__ = ["PoolName", "resume", "search"]

PoolName = Literal["ray", "inline"]


def search(  # noqa: D417 # arguments that belong together are described together
    data: str | Path,
    *,
    target: str | None = None,
    test: str | Path | None = None,
    task: Literal["classification", "regression"] | None = None,
    spec: str | Path | Mapping[str, Any] | None = None,
    time: str | float | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    max_epochs: int | None = None,
    metric: str | None = None,
    like: Sequence[str | Path] = (),
    seed: int | None = None,
    deterministic: bool = False,
    audit: str | float | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    pool: PoolName = "ray",
    address: str | None = None,
    epoch_timeout: str | float | None = None,
    mirror: str | None = None,
    trust_trainer: bool = False,
    progress: bool = False,
) -> Run:
    """Search for good hyperparameters; with an existing `out`, continue or extend that run.
    Ctrl-C stops the search cleanly; the run so far is returned, with the status "interrupted".

    Args:
        data: A built-in data set (digits, wine, ...), a file, or a folder in MNIST's IDX layout.
        target, test: The column to predict, None = the last one; a file with a separate test set.
        task, metric: What the target is, and what decides; None = guessed, the trainer's first.
        spec: A YAML file or a mapping with what differs from the defaults.
        time, trials, epochs: Budget: time as "60s", "10m" or seconds, epochs over all trials; the
            first limit that is reached ends the search. None of them = 60 s, or the run's rest.
        max_epochs: The most epochs of one trial; None = what the spec says, or 27.
        like: Folders of runs whose best configurations are tried first.
        seed, deterministic: The same seed gives the same draws, or the same run on any workers.
        audit: Share of the epochs for trials that pruning left behind, "5%" or 0.05.
        out: The run's folder; None = runs/NAME-DATE-TIME.
        workers, pool: Number of workers, None = one for each processor; "inline" = this process.
        address: The Ray cluster to use, "auto" or "HOST:PORT"; None = a local one.
        epoch_timeout: A worker is killed if a trial's first epoch takes longer, "10m" or seconds.
        mirror: A folder or URI (s3://, gs://) that receives a copy of the run's folder.
        trust_trainer: Whether the code of the spec's trainer may run here, until it changes.
        progress: Whether to print the progress, as the command line does.

    Raises:
        InputError: If an argument cannot be used; nothing has been written.
        CaviarError: If the search failed: every trial failed, or the workers are gone.
    """
    from pipelines.runs import launch

    request = _make_request(
        data, spec, target, test, task, metric, seed, max_epochs, deterministic, audit, like
    )
    request = replace(request, trust_trainer=trust_trainer)
    start = partial(launch.search, request, out=None if out is None else make_path("out", out))
    where = _make_options(pool, workers, address, epoch_timeout, mirror)
    return _run_session(start, where, time, trials, epochs, progress=progress)


def resume(
    folder: str | Path,
    *,
    time: str | float | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    workers: int | None = None,
    pool: PoolName = "ray",
    address: str | None = None,
    epoch_timeout: str | float | None = None,
    mirror: str | None = None,
    trust_trainer: bool = False,
    progress: bool = False,
) -> Run:
    """Continue a run where it stopped; without a folder, from its mirror.

    A budget that is named is added to the run's; without one, the rest of the old budget is used.
    The arguments are those of `caviar.search`.

    Raises:
        InputError: If there is no run, its data has changed, or its budget is used up.
        CaviarError: If the search failed.
    """
    from pipelines.runs import launch

    start = partial(launch.resume, make_path("folder", folder), trust_trainer=trust_trainer)
    where = _make_options(pool, workers, address, epoch_timeout, mirror)
    return _run_session(start, where, time, trials, epochs, progress=progress)


def _make_request(
    data: str | Path,
    spec: str | Path | Mapping[str, Any] | None,
    target: str | None,
    test: str | Path | None,
    task: str | None,
    metric: str | None,
    seed: int | None,
    max_epochs: int | None,
    deterministic: bool,
    audit: str | float | None,
    like: Sequence[str | Path],
) -> SearchRequest:
    from orchestrator.quote import quote
    from pipelines.runs.new_spec import SearchRequest
    from pipelines.see.formatting import parse_share

    if isinstance(like, str | os.PathLike) or not isinstance(like, Iterable):
        raise SpecError(f"`like` needs a list of folders, got {quote(like)}")
    return SearchRequest(
        source=str(make_path("data", data)),
        spec=make_path("spec", spec) if isinstance(spec, str) else spec,
        target=target,
        test=None if test is None else str(make_path("test", test)),
        task=task,
        metric=metric,
        seed=seed,
        max_epochs=max_epochs,
        deterministic=deterministic,
        audit=parse_share(audit, "audit") if isinstance(audit, str) else audit,
        like=[make_path("like", folder) for folder in like],
    )


def _make_options(
    pool: PoolName,
    workers: int | None,
    address: str | None,
    epoch_timeout: str | float | None,
    mirror: str | None,
) -> ExecutionOptions:
    from pipelines.runs.execution import ExecutionOptions, parse_seconds

    return ExecutionOptions(
        pool=pool,
        workers=workers,
        address=address,
        epoch_timeout=parse_seconds(epoch_timeout, "epoch_timeout"),
        mirror=mirror,
    )


def _run_session(
    start: Callable[..., Result],
    options: ExecutionOptions,
    time: str | float | None,
    trials: int | None,
    epochs: int | None,
    *,
    progress: bool,
) -> Run:
    """Run a session with that budget and return the run.

    Raises:
        CaviarError: If the session failed.
    """
    from pipelines.runs.execution import make_budget

    watcher = _show_progress() if progress else None
    budget = make_budget(time, trials, epochs)
    result = start(budget=budget, options=options, make_watcher=watcher)
    if result.ending.status == "failed":
        raise CaviarError(f"{result.folder}: the search failed: {result.ending.reason}")
    return load(result.folder)


def _show_progress() -> MakeWatcher:
    from pipelines.see.terminal import make_watcher

    return lambda objective, folder, _, best: make_watcher(
        objective, str(folder), best, silent=False
    )
