"""From a request to an ended session: brings up workers, reads the data, opens the run, trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from threadpoolctl import threadpool_limits

from orchestrator.errors import RunError
from orchestrator.runtime.session import SessionResult, Watcher
from orchestrator.search.budget import Budget
from orchestrator.search.objective import WORST, Objective, Score
from orchestrator.store.lock import Lock
from orchestrator.store.mirror import Mirror, check_mirror, restore
from orchestrator.store.reading import list_parts, list_staged_events
from pipelines.data.prepare import PreparedData
from pipelines.runs.execution import (
    ExecutionOptions,
    Workers,
    disturbed_by_ctrl_c_only,
    unwound_by_signals,
)
from pipelines.runs.first_budget import read_first_budget
from pipelines.runs.from_spec import read_run_data
from pipelines.runs.logged_watcher import LoggedWatcher
from pipelines.runs.new_spec import SearchRequest, new_spec, validate_before_start
from pipelines.runs.older_runs import check_version_can_write
from pipelines.runs.open_run import OpenRun, open_run, require_same_spec
from pipelines.runs.repair import repair
from pipelines.runs.spec import Spec, compare_specs
from pipelines.runs.trust import check_trust
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec

__all__ = ["MakeWatcher", "Result", "name_folder", "resume", "search", "train_again"]

#: Makes a watcher from the objective, the run's folder, notes on the data, and the best score yet.
MakeWatcher = Callable[[Objective, Path, tuple[str, ...], Score], Watcher]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A session that has ended."""

    folder: Path
    ending: SessionResult


def search(
    request: SearchRequest,
    *,
    out: str | Path | None = None,
    budget: Budget | None = None,
    options: ExecutionOptions | None = None,
    make_watcher: MakeWatcher | None = None,
) -> Result:
    """Search for good hyperparameters; with an existing `out`, continue or extend that run.

    Args:
        request: The data, the user's spec, and what overrides it.
        out: The run's folder; None = runs/NAME-DATE-TIME.
        budget: Budget to what the run had.
        options: Where the trials are trained.
        make_watcher: Makes what a person sees of the session; None = nothing.

    Raises:
        InputError: If any of it cannot be used; nothing has been written.
    """
    folder = Path(out) if out else name_folder(request.source)
    validate_before_start(request)
    return _run_session(
        folder, options, budget, make_watcher, lambda: new_spec(request), unused=not out
    )


def resume(
    folder: str | Path,
    *,
    budget: Budget | None = None,
    options: ExecutionOptions | None = None,
    make_watcher: MakeWatcher | None = None,
    trust_trainer: bool = False,
) -> Result:
    """Continue a run where it stopped; without a folder, from its mirror.

    Raises:
        InputError: If there is no run, its data has changed, or its budget is used up.
    """
    folder = Path(folder)
    mirror = options.mirror if options and not (folder / "spec.yaml").exists() else None
    if mirror is not None:
        restore(mirror, folder)
    spec = read_run_spec(folder)
    check_trust(spec, granted=trust_trainer)
    if mirror is not None:
        _repair_restored(folder, mirror)
    is_budget_known = _has_events(folder) or read_first_budget(folder) is not None
    if not (is_budget_known or (budget and budget.limits())):
        raise RunError(
            f"{folder}: was killed before its budget was written; name it again, for example "
            f'with `time="60s"`'
        )
    return _run_session(folder, options, budget, make_watcher, lambda: (spec, read_run_data(spec)))


def train_again(
    spec: Spec,
    *,
    out: Path,
    options: ExecutionOptions | None = None,
    make_watcher: MakeWatcher | None = None,
    trust_trainer: bool = False,
) -> Result | None:
    """Train all configurations that a spec lists, as those of finalists and audits do.

    Returns:
        None if all of them were trained before.

    Raises:
        InputError: If `out` holds another run, or the data has changed.
    """
    check_trust(spec, granted=trust_trainer)
    budget = Budget(trials=len(spec.search.initial_configs))
    if (out / "spec.yaml").is_file():
        _require_same_repeats(out, spec)
        if list_parts(out / "events") and load_run(out).status == "finished":
            with contextlib.suppress(RunError):  # another process has it open
                Lock(out).release()  # removes what a killed process has left
            return None
        if _has_events(out) or read_first_budget(out) is not None:
            budget = Budget()  # what is left of the first session's
    return _run_session(out, options, budget, make_watcher, lambda: (spec, read_run_data(spec)))


def _run_session(
    folder: Path,
    options: ExecutionOptions | None,
    budget: Budget | None,
    make_watcher: MakeWatcher | None,
    read: Callable[[], tuple[Spec, PreparedData]],
    *,
    unused: bool = False,
) -> Result:
    """Read the data while the workers come up, then run a session."""
    options, budget = options or ExecutionOptions(), budget or Budget()
    check_version_can_write(folder)  # before the workers start, which takes seconds
    if options.mirror is not None:
        check_mirror(folder, options.mirror)
    workers = Workers(options)
    try:
        with unwound_by_signals():
            spec, data = read()
            workers.wait()
            with open_run(folder, spec, data, budget, unused=unused) as run:
                ending = _train(run, budget, options, make_watcher, workers)
            return Result(folder=run.folder, ending=ending)
    finally:
        with disturbed_by_ctrl_c_only():
            workers.close()


def _train(
    run: OpenRun,
    budget: Budget,
    options: ExecutionOptions,
    make_watcher: MakeWatcher | None,
    workers: Workers,
) -> SessionResult:
    """Run one session of an open run, and show it."""
    best = run.search.incumbent.score if run.search.incumbent else WORST
    notes = run.data.notes
    shown = make_watcher and make_watcher(run.job.objective, run.folder, notes, best)
    watcher = LoggedWatcher(shown or None)
    watcher.log_notes(notes)
    # As in the workers: two BLAS threads give other bits, also to the model that decides.
    with threadpool_limits(limits=1):
        return run.train(budget, options, watcher, workers.pool)


def _has_events(folder: Path) -> bool:
    """Whether a session of the run has begun; the first event may wait for its last rename."""
    return bool(list_parts(folder / "events") or list_staged_events(folder))


def _repair_restored(folder: Path, mirror: str) -> None:
    """Repair a run from a mirror of version 0.1, whose tables may not fit together.

    The mirror then gets the repaired tables, because a session refuses a mirror with other rows.
    """
    repair(folder)
    if any(folder.glob("damaged-*")):

        def fail(message: str) -> None:
            raise RunError(message)

        Mirror(folder, mirror, failed=fail, replace=True).close()


def _require_same_repeats(folder: Path, spec: Spec) -> None:
    """Refuse another spec; where only its configurations differ, say what made the old ones."""
    old = read_run_spec(folder)
    changes = compare_specs(old, spec)
    if not changes or any(not change.startswith("search.initial_") for change in changes):
        return require_same_spec(folder, spec)
    arguments = _describe_repeats(old)
    since = ", before that run went on" if arguments == _describe_repeats(spec) else ""
    raise RunError(
        f"{folder}: was made of {old.parent_run} with {arguments}{since}; "
        f"give another folder with `out`"
    )


def _describe_repeats(spec: Spec) -> str:
    """The arguments that a run of finalists or of audits was made with."""
    configs, seeds = len(spec.search.initial_configs), len(set(spec.search.initial_seeds))
    if spec.search.method == "finalists":
        return f"`top={configs // seeds}` `seeds={seeds}`"
    return f"`epochs={configs * spec.max_epochs}`"


def name_folder(source: str) -> Path:
    """The default name of a new run's folder: runs/NAME-YYYYMMDD-HHMM."""
    name = Path(source).name.partition(".")[0] or "run"
    return Path("runs") / f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M}"
