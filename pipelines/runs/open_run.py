"""A run's folder, open for writing: what its log says, and one session after another in it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import math
import os
import platform
import shlex
import socket
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

from orchestrator.errors import CaviarError, InvalidEntry, PoolError, RunError
from orchestrator.runtime.ordered_pool import OrderedPool
from orchestrator.runtime.pool import Pool
from orchestrator.runtime.session import Session, SessionResult, Watcher
from orchestrator.runtime.trainer import Job
from orchestrator.runtime.worker import StoppedAtOnce, describe_error, restore_trainer
from orchestrator.search.budget import Budget, extend_budget, remaining
from orchestrator.search.events import ModelTested, SessionDetails, SessionEnded, SessionStarted
from orchestrator.search.messages import State
from orchestrator.search.trial import ENDED, Incumbent
from orchestrator.store.checkpoints import CheckpointStore
from orchestrator.store.files import (
    atomic_write,
    make_folder,
    make_unused_folder,
    remove_file,
    remove_folder,
    reporting_write_errors,
)
from orchestrator.store.lock import Lock
from orchestrator.store.log import Log
from orchestrator.store.mirror import Mirror
from orchestrator.store.reading import read_entries
from orchestrator.store.run_files import FIRST_BUDGET, FOLDERS, LEFTOVERS, LOCK, SPEC
from pipelines.data.builtin_trainers import is_builtin_trainer
from pipelines.data.model import load_model, read_best_identity, save_model
from pipelines.data.prepare import PreparedData
from pipelines.runs.execution import ExecutionOptions, stopped_by_signals
from pipelines.runs.first_budget import (
    forget_first_budget,
    keep_first_budget,
    read_first_budget,
)
from pipelines.runs.from_spec import make_job, make_search, make_tables
from pipelines.runs.older_runs import check_version_can_write
from pipelines.runs.simulated import simulate_run
from pipelines.runs.spec import Spec, compare_specs, dump_spec
from pipelines.see.run_spec import read_run_spec

__all__ = ["OpenRun", "open_run", "require_same_spec"]

logger = logging.getLogger("caviar.runs.open_run")
SIMULATED_TRIALS = 100  #: takes a third of a second; enough to see what pruning lets through


class OpenRun:
    """A run that is open for writing: its search with all that its log says applied."""

    def __init__(
        self, folder: Path, spec: Spec, data: PreparedData, *, require_lock: Callable[[], None]
    ) -> None:
        self.folder, self.spec, self.data = folder, spec, data
        self._require_lock = require_lock
        self.job = make_job(spec, data)
        tables = make_tables(spec)
        self.search = make_search(spec)
        self.at_seconds = 0.0
        self._has_finished = False  # whether the last session came to its end
        self._run_id: str | None = None
        self._log = Log(folder, tables)
        try:
            for seq, at_seconds, entry in read_entries(folder, tables, settled=True):
                self.search.apply(entry, seq=seq)
                self._log.restore(seq, at_seconds, entry)
                self.at_seconds = max(self.at_seconds, at_seconds)
                if isinstance(entry, SessionStarted):
                    self._has_finished = False
                    self._run_id = self._run_id or entry.details.run_id
                elif isinstance(entry, SessionEnded):
                    self._has_finished = entry.status == "finished"
        except InvalidEntry as e:
            raise RunError(
                f"{folder}: events/ and epochs/ do not fit together, as if files of one were "
                f"missing: {e}; put them back, or `caviar repair {shlex.quote(str(folder))}`"
            ) from e
        for event in self.search.end_reported_assignments():
            self._log.append(event, self.at_seconds)
        self._log.flush(final=True)  # the trials table of a killed session is behind
        self._checkpoints = CheckpointStore(
            folder / "checkpoints", budget_bytes=spec.search.state_budget
        )
        unfinished = {t.id for t in self.search.trials.values() if t.status not in ENDED}
        self._checkpoints.keep(unfinished)

    def train(
        self,
        added: Budget,
        options: ExecutionOptions,
        watcher: Watcher,
        make_pool: Callable[[Job], Pool],
    ) -> SessionResult:
        """Run one session, until its budget is used up or it is stopped.

        Raises:
            RunError: If nothing is left of the budget, or the folder can no longer be written.
            PoolError: If the workers are gone; the folder keeps all that reached it.
        """
        if added.unlimited and self.search.budget.unlimited:
            added = read_first_budget(self.folder) or added
        budget = extend_budget(
            self.search.budget, added, self._count_used_budget(), used_up=self._is_budget_used_up()
        )
        deterministic = self.spec.search.deterministic
        if deterministic and budget.seconds is not None:
            raise RunError(
                f"{self.folder}: a deterministic run needs `trials` or `epochs` and no `time`: "
                f"what can be trained in {budget.seconds:g} s depends on the machine"
            )
        pool = make_pool(self.job)
        if deterministic:
            pool = OrderedPool(pool, max_in_flight=self.spec.search.max_in_flight)
        session = Session(
            search=self.search,
            pool=pool,
            log=self._log,
            checkpoints=self._checkpoints,
            budget=budget,
            start=self._make_session_event(budget, options, pool.size),
            at_seconds=self.at_seconds,
            expected_epochs=_estimate_epochs(self.spec, budget),
            watcher=watcher,
            save_best=self._save_best,
            require_lock=self._prepare_flush,
            closing_events=self._make_closing_events,
        )
        try:
            with stopped_by_signals(session), self._keep_mirror(options, watcher):
                return session.run()
        except PoolError as e:
            folder = shlex.quote(str(self.folder))
            raise PoolError(
                f"{e}; `caviar resume {folder}` goes on from what is on the disk"
            ) from e

    def _prepare_flush(self) -> None:
        """Require the lock; from the second flush on, the log has the first session's budget."""
        self._require_lock()
        forget_first_budget(self.folder)

    def _count_used_budget(self) -> Budget:
        """Count what all sessions so far have used."""
        return Budget(
            seconds=self.at_seconds, trials=self.search.started, epochs=self.search.epochs
        )

    def _is_budget_used_up(self) -> bool:
        """Whether a session under the old budget would do nothing.

        Where the last session was killed or stopped at its end, another one closes the run.
        """
        b, search = self.search.budget, self.search
        return self._has_finished and (
            remaining(b.seconds, self.at_seconds) <= 0
            or remaining(b.epochs, search.epochs) <= 0
            or (b.trials is not None and search.is_settled())
        )

    def _make_session_event(
        self, budget: Budget, options: ExecutionOptions, workers: int
    ) -> SessionStarted:
        rows = self.data.data
        versions = ("caviar", "numpy", "ray", "pyarrow")
        details = SessionDetails(
            run_id=uuid4().hex if self._run_id is None else self._run_id,
            workers=workers,
            pool=options.pool,
            address=options.address,
            host=socket.gethostname(),
            process=os.getpid(),
            python=platform.python_version(),
            platform=platform.platform(),
            versions={name: importlib.metadata.version(name) for name in versions},
            objective=self.job.objective,
            method=self.spec.search.method,
            rows={
                "train": len(rows.y_train),
                "validation": len(rows.y_validation),
                "test": len(self.data.y_test),
            },
        )
        limits = ", ".join(f"{limit:g} {name}" for name, limit in budget.limits().items())
        return SessionStarted(
            reason=f"a session of {workers} workers, budget in all: {limits}",
            budget=budget,
            details=details,
        )

    @contextlib.contextmanager
    def _keep_mirror(self, options: ExecutionOptions, watcher: Watcher) -> Iterator[None]:
        if options.mirror is None:
            yield
            return
        with contextlib.closing(Mirror(self.folder, options.mirror, failed=watcher.note)):
            yield

    def _save_best(self, best: Incumbent, state: State) -> None:
        save_model(
            self.folder / "best",
            best,
            state=state,
            config=self.search.trials[best.trial].config,
            trainer=self.spec.trainer,
            preprocessing=self.data.preprocessing,
        )

    def _train_best_again(self, best: Incumbent) -> State:
        """Train the best trial up to its best epoch once more.

        Raises:
            CaviarError: If the trainer raises an error this time.
        """
        trial = self.search.trials[best.trial]
        try:
            return restore_trainer(
                self.job,
                trial.config,
                trial.seed,
                self._checkpoints.get(best.trial),
                epoch=best.epoch,
                received=trial.received,
            ).state()
        except StoppedAtOnce:
            raise
        except BaseException as e:
            raise CaviarError(
                f"{self.folder}: the best model (trial {best.trial}, epoch {best.epoch}) could not "
                f"be trained again: {describe_error(e)}"
            ) from e

    def _make_closing_events(self) -> list[ModelTested]:
        """Evaluate the best model on the test split, which no decision has used."""
        best = self.search.choose_model()
        if best is None:
            return []
        if read_best_identity(self.folder / "best") != (best.trial, best.epoch):
            # the driver died between a new best and the next flush, or someone damaged the
            # files: train it again
            self._save_best(best, self._train_best_again(best))
        if not is_builtin_trainer(self.spec.trainer) or not len(self.data.x_test):
            return []
        model, data = load_model(self.folder / "best"), self.data
        metrics = model.evaluate(data.x_test, data.y_test)
        intervals = {
            "validation": model.compute_intervals(data.data.x_validation, data.data.y_validation),
            "test": model.compute_intervals(data.x_test, data.y_test),
        }
        return [
            ModelTested(
                trial=best.trial,
                epoch=best.epoch,
                metrics={f"test_{name}": value for name, value in metrics.items()},
                reason=f"the best model on {len(data.x_test)} rows that no decision used",
                intervals=intervals,
            )
        ]


@contextlib.contextmanager
def open_run(
    folder: Path, spec: Spec, data: PreparedData, budget: Budget, *, unused: bool = False
) -> Iterator[OpenRun]:
    """Make the run's folder, or open the existing one, as its only writer.

    Args:
        folder: The run's folder.
        spec: What the run searches.
        data: The data that the spec names.
        budget: The budget that a new run is given.
        unused: Whether a new folder is made in any case, with a number behind the name if another
            one has that name.

    Raises:
        RunError: If it cannot be written, another writer has it, or it is another run's.
    """
    with reporting_write_errors(folder):
        if unused:
            folder = make_unused_folder(folder)
        else:
            _check_is_free_or_same(folder, spec)  # other folders do not even get a run.lock
        is_made = unused or make_folder(folder)
        lock = Lock(folder)
    with contextlib.ExitStack() as closing:
        closing.callback(lock.release)
        # The lock is held only now, and until then another process may have made its run here.
        _check_is_free_or_same(folder, spec)
        is_new = not (folder / SPEC).exists()
        try:
            with reporting_write_errors(folder):
                if is_new:
                    keep_first_budget(folder, budget)
                    _write_spec(folder / SPEC, spec)
                run = OpenRun(folder, spec, data, require_lock=lock.require_held)
                logger.info("%s: open, %d trials so far", folder, len(run.search.trials))
            yield run
        except CaviarError:
            if is_new and not any((folder / "events").glob("part-*.parquet")):
                _remove_new_run(folder, lock, is_made=is_made)
            raise


def _check_is_free_or_same(folder: Path, spec: Spec) -> None:
    """Refuse a folder that holds something else than this run."""
    if (folder / SPEC).exists():
        check_version_can_write(folder)
        require_same_spec(folder, spec)
    elif folder.is_dir():
        known = LOCK, FIRST_BUDGET
        if any(p.name not in known and not p.match(LEFTOVERS) for p in folder.iterdir()):
            raise RunError(
                f"{folder}: needs a folder that is new, empty or a run's; got another one"
            )
    elif os.path.lexists(folder):
        raise RunError(f"`out` needs a folder, got the file {folder}; give another name")


def _write_spec(path: Path, spec: Spec) -> None:
    with atomic_write(path) as file:
        file.write(dump_spec(spec).encode())


def _remove_new_run(folder: Path, lock: Lock, *, is_made: bool) -> None:
    """Remove a run without rows, all of which this process has made since it holds the lock."""
    with contextlib.suppress(RunError, OSError):  # the error that ended the run is the one to tell
        lock.require_held()
        for name in FOLDERS:
            if (folder / name).exists():
                remove_folder(folder / name)
        for name in (SPEC, FIRST_BUDGET, LOCK):
            remove_file(folder / name)
        if is_made:
            folder.rmdir()  # fails if somebody has put another file there, which is right


def require_same_spec(folder: Path, spec: Spec) -> None:
    """Refuse to continue a folder's run with another spec.

    Raises:
        RunError: Naming the first differences.
    """
    if changes := compare_specs(read_run_spec(folder), spec):
        shown = "; ".join(textwrap.shorten(change, 120) for change in changes[:3])
        raise RunError(
            f"{folder}: holds another run ({shown}{'; …' if len(changes) > 3 else ''}); "
            f"give another folder with `out`"
        )


def _estimate_epochs(spec: Spec, budget: Budget) -> float:
    """The epochs that a budget of trials will need, by simulating it; infinite without one."""
    if budget.trials is None:
        return math.inf
    trials = min(budget.trials, SIMULATED_TRIALS)
    result = simulate_run(
        spec,
        budget=Budget(trials=trials),
        workers=1,
        epoch_seconds=lambda _: 1.0,
    )
    return result.epochs * budget.trials / trials
