"""From what a user typed to a finished run: opens the folder, runs a session in it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import shlex
import shutil
import socket
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from orchestrator.errors import CaviarError, InvalidEntry, PoolError, RunError
from orchestrator.runtime.ordered_pool import OrderedPool
from orchestrator.runtime.pool import Pool
from orchestrator.runtime.session import Session, SessionResult, Watcher
from orchestrator.runtime.trainer import Job, choose_objective, load_trainer
from orchestrator.runtime.worker import restore_trainer
from orchestrator.search.budget import Budget, extend_budget, remaining
from orchestrator.search.events import ModelTested, SessionDetails, SessionStarted
from orchestrator.search.messages import State
from orchestrator.search.objective import WORST, Objective, Score
from orchestrator.search.simulate import simulate
from orchestrator.search.trial import ENDED, Incumbent
from orchestrator.store.checkpoints import CheckpointStore
from orchestrator.store.files import atomic_write, reporting_write_errors
from orchestrator.store.lock import Lock
from orchestrator.store.log import Log, read_entries
from orchestrator.store.mirror import Mirror, restore
from pipelines.data.builtin_trainers import is_builtin_trainer
from pipelines.data.model import load_model, read_best_identity, save_model
from pipelines.data.preprocessing import Prepared
from pipelines.runs.execution import ExecutionOptions, Workers, stopped_by_signals
from pipelines.runs.repair import repair
from pipelines.runs.spec import Spec, differences, dump_spec
from pipelines.runs.specs import (
    list_module_paths,
    make_search,
    make_tables,
    new_spec,
    prepared,
    validate_before_start,
)
from pipelines.runs.trust import remember
from pipelines.see.run import load, read_run_spec, summary
from pipelines.see.terminal import Silent

__all__ = [
    "Result",
    "Run",
    "choose_folder",
    "make_job",
    "open_run",
    "resume",
    "search",
    "train_again",
]

#: What a driver that was killed at once leaves behind.
_BEFORE_SPEC = ("run.lock", ".spec.yaml.tmp")
SIMULATED_TRIALS = 100  #: takes a third of a second; enough to see what pruning lets through
#: Of the objective, the run's folder, its notes on the data, and the best score it begins with.
MakeWatcher = Callable[[Objective, Path, tuple[str, ...], Score], Watcher]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A session that has ended."""

    folder: Path
    ending: SessionResult

    def summary(self) -> dict[str, Any]:
        """What the run has come to, as `caviar show --json` prints it."""
        return summary(load(self.folder))


def search(
    source: str,
    *,
    out: str | Path | None = None,
    added: Budget | None = None,
    crew: ExecutionOptions | None = None,
    watch: MakeWatcher | None = None,
    **typed: Any,
) -> Result:
    """Search for good hyperparameters; on an existing `out`, go on with it or extend it.

    Args:
        source: A built-in data set or a path, as on the command line.
        out: The run's folder; runs/NAME-DATE-TIME unless given.
        added: Budget, added to what the run had.
        crew: Ray or this process, how many workers, which cluster.
        watch: Makes whoever looks on; nobody unless given.
        typed: What `new_spec` takes: spec_file, target, test, task, metric, seed, max_epochs,
            deterministic, like.

    Raises:
        InputError: If anything given cannot be used; nothing has been written.
    """
    folder = Path(out) if out else choose_folder(source)
    validate_before_start(source, typed.get("spec_file"))
    return _with_workers(folder, crew, added, watch, lambda: new_spec(source, **typed))


def resume(
    folder: str | Path,
    *,
    added: Budget | None = None,
    crew: ExecutionOptions | None = None,
    watch: MakeWatcher | None = None,
) -> Result:
    """Go on with a run where it stopped.

    Raises:
        InputError: If there is no run, its data has changed, or its budget is used up.
    """
    folder = Path(folder)
    if crew and crew.mirror and not (folder / "spec.yaml").exists():
        restore(crew.mirror, folder)
        repair(folder)  # where the copy was broken off between two files
    spec = read_run_spec(folder)
    return _with_workers(folder, crew, added, watch, lambda: (spec, prepared(spec)))


def train_again(
    spec: Spec, *, out: Path, crew: ExecutionOptions | None = None, watch: MakeWatcher | None = None
) -> Result | None:
    """Train all that a spec gives, as those of finalists and audits do; go on where it stopped.

    Returns:
        None if all of it was trained before.

    Raises:
        InputError: If `out` holds another run, or the data has changed.
    """
    known = (out / "spec.yaml").is_file()
    if known:
        _check_same_given(out, spec)
        if any((out / "events").glob("part-*.parquet")) and load(out).status == "finished":
            return None
    added = Budget(trials=len(spec.search.initial_configs))
    return _with_workers(
        out, crew, Budget() if known else added, watch, lambda: (spec, prepared(spec))
    )


def _with_workers(
    folder: Path,
    crew: ExecutionOptions | None,
    added: Budget | None,
    watch: MakeWatcher | None,
    read: Callable[[], tuple[Spec, Prepared]],
) -> Result:
    """Read the data while the workers come up, then run a session."""
    crew, added = crew or ExecutionOptions(), added or Budget()
    workers = Workers(crew)
    try:
        spec, data = read()
        workers.wait()
        with open_run(folder, spec, data) as run:
            best = run.search.incumbent.score if run.search.incumbent else WORST
            watcher = watch(run.job.objective, folder, data.notes, best) if watch else Silent()
            # As in the workers: two BLAS threads give other bits, also to the model that decides.
            with threadpool_limits(limits=1):
                ending = run.train(added, crew, watcher, workers.pool)
        return Result(folder=folder, ending=ending)
    finally:
        workers.close()


def make_job(spec: Spec, data: Prepared) -> Job:
    """What the workers of a run are made with.

    Raises:
        SpecError: If the trainer cannot be found, or the metric is none of its own.
    """
    return Job(
        trainer=spec.trainer,
        data=data.data,
        max_epochs=spec.max_epochs,
        objective=choose_objective(
            load_trainer(spec.trainer, list_module_paths(spec)), spec.metric
        ),
        paths=list_module_paths(spec),
    )


class Run:
    """A run's folder, locked for writing, with all that its log says taken in."""

    def __init__(self, folder: Path, spec: Spec, data: Prepared) -> None:
        self.folder, self.spec, self.data = folder, spec, data
        self.job = make_job(spec, data)
        tables = make_tables(spec)
        self.search = make_search(spec)
        self.at_seconds = 0.0
        self._log = Log(folder, tables)
        try:
            for seq, at_seconds, entry in read_entries(folder, tables):
                self.search.apply(entry, seq=seq)
                self._log.restore(seq, at_seconds, entry)
                self.at_seconds = max(self.at_seconds, at_seconds)
        except InvalidEntry as e:
            raise RunError(
                f"{folder}: events/ and epochs/ do not fit together, as if files of one were "
                f"missing: {e}; put them back, or `caviar repair {shlex.quote(str(folder))}`"
            ) from e
        self._states = CheckpointStore(
            folder / "checkpoints", budget_bytes=spec.search.state_budget_bytes
        )
        self._states.keep({t.id for t in self.search.trials.values() if t.status not in ENDED})

    def train(
        self,
        added: Budget,
        crew: ExecutionOptions,
        watcher: Watcher,
        make_pool: Callable[[Job], Pool],
    ) -> SessionResult:
        """One session: until its budget is used up, or someone says stop."""
        budget = extend_budget(
            self.search.budget, added, self._used(), used_up=self._budget_used_up()
        )
        deterministic = self.spec.search.deterministic
        if deterministic and budget.seconds is not None:
            raise RunError(
                f"{self.folder}: a deterministic run needs --trials or --total-epochs and no "
                f"--time: what can be trained in {budget.seconds:g} s depends on the machine"
            )
        pool = make_pool(self.job)
        if deterministic:
            pool = OrderedPool(pool, max_in_flight=self.spec.search.max_in_flight)
        session = Session(
            search=self.search,
            pool=pool,
            log=self._log,
            checkpoints=self._states,
            budget=budget,
            start=self._make_session_event(budget, crew, pool.size),
            at_seconds=self.at_seconds,
            expected_epochs=_expected_epochs(self.spec, budget),
            watcher=watcher,
            save_best=self._save_best,
            closing_events=self._closing_events,
        )
        try:
            with stopped_by_signals(session), self._mirrored(crew, watcher):
                return session.run()
        except PoolError as e:
            typed = shlex.quote(str(self.folder))
            raise PoolError(f"{e}; `caviar resume {typed}` goes on from what it has") from e

    def _used(self) -> Budget:
        """What all sessions so far have used."""
        return Budget(
            seconds=self.at_seconds, trials=self.search.started, epochs=self.search.epochs
        )

    def _budget_used_up(self) -> bool:
        b, search = self.search.budget, self.search
        return (
            remaining(b.seconds, self.at_seconds) <= 0
            or remaining(b.epochs, search.epochs) <= 0
            or (b.trials is not None and search.is_settled())
        )

    def _make_session_event(
        self, budget: Budget, crew: ExecutionOptions, workers: int
    ) -> SessionStarted:
        rows = self.data.data
        versions = ("caviar", "numpy", "ray", "pyarrow")
        details = SessionDetails(
            workers=workers,
            pool=crew.pool,
            address=crew.address,
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
    def _mirrored(self, crew: ExecutionOptions, watcher: Watcher) -> Iterator[None]:
        if crew.mirror is None:
            yield
            return
        with contextlib.closing(Mirror(self.folder, crew.mirror, failed=watcher.note)):
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

    def _closing_events(self) -> list[ModelTested]:
        """The best model's figures on the test split, which has chosen nothing."""
        best = self.search.choose_model()
        if best is None:
            return []
        trial = self.search.trials[best.trial]
        if read_best_identity(self.folder / "best") != (best.trial, best.epoch):
            # the driver died between a new best and the next flush, or someone damaged the
            # files: train it again
            held = self._states.get(best.trial)
            trainer = restore_trainer(self.job, trial.config, trial.seed, held, epoch=best.epoch)
            self._save_best(best, trainer.state())
        if not is_builtin_trainer(self.spec.trainer) or not len(self.data.x_test):
            return []
        model, data = load_model(self.folder / "best"), self.data
        figures = model.figures(data.x_test, data.y_test)
        intervals = {
            "validation": model.intervals(data.data.x_validation, data.data.y_validation),
            "test": model.intervals(data.x_test, data.y_test),
        }
        return [
            ModelTested(
                trial=best.trial,
                epoch=best.epoch,
                metrics={f"test_{name}": value for name, value in figures.items()},
                reason=f"the best model on {len(data.x_test)} rows that chose nothing",
                intervals=intervals,
            )
        ]


@contextlib.contextmanager
def open_run(folder: Path, spec: Spec, data: Prepared) -> Iterator[Run]:
    """Make the run's folder, or take up the one there is, as its only writer.

    Raises:
        RunError: If it cannot be written, another writer has it, or it is another run's.
    """
    known = folder / "spec.yaml"
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--out needs a folder, got the file {folder}; give another name")
    if known.exists():
        _check_same(folder, spec)
    elif folder.exists() and any(p.name not in _BEFORE_SPEC for p in folder.iterdir()):
        raise RunError(f"{folder}: needs a folder that is new, empty or a run's; got another one")
    made = not folder.exists()
    with contextlib.ExitStack() as undo:
        try:
            with reporting_write_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                lock = Lock(folder)
                undo.callback(lock.release)
                if not known.exists():
                    with atomic_write(known) as file:
                        file.write(dump_spec(spec).encode())
                    if not is_builtin_trainer(spec.trainer):
                        remember(known)  # whoever made the run has trusted its trainer
                run = Run(folder, spec, data)
            yield run
        except CaviarError:
            if made and folder.is_dir() and not list(folder.glob("events/part-*.parquet")):
                shutil.rmtree(folder)  # it has learnt nothing yet: leave nothing half-written
            raise


def _check_same(folder: Path, spec: Spec) -> None:
    if told := differences(read_run_spec(folder), spec):
        shown = "; ".join(textwrap.shorten(one, 120) for one in told[:3])
        raise RunError(
            f"{folder}: holds another run ({shown}{'; …' if len(told) > 3 else ''}); "
            f"give another folder with --out"
        )


def _check_same_given(folder: Path, spec: Spec) -> None:
    """As `_check_same`; where nothing but what is given differs, in the words it was typed in."""
    old = read_run_spec(folder)
    told = differences(old, spec)
    if not told or any(not one.startswith("search.initial_") for one in told):
        return _check_same(folder, spec)
    made = _typed(old)
    since = ", before that run went on" if made == _typed(spec) else ""
    raise RunError(
        f"{folder}: was made of {old.parent_run} with {made}{since}; give --out FOLDER for another"
    )


def _typed(spec: Spec) -> str:
    """What makes a run of finalists or of audits such as it is."""
    given, seeds = len(spec.search.initial_configs), len(set(spec.search.initial_seeds))
    if spec.search.method == "finalists":
        return f"--top {given // seeds} --seeds {seeds}"
    return f"--total-epochs {given * spec.max_epochs}"


def choose_folder(source: str) -> Path:
    """runs/NAME-YYYYMMDD-HHMM, one that is not there yet."""
    name = Path(source).name.partition(".")[0] or "run"
    stem = f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M}"
    tries = (Path("runs") / (stem if i == 1 else f"{stem}-{i}") for i in range(1, 10_000))
    return next(folder for folder in tries if not folder.exists())


def _expected_epochs(spec: Spec, budget: Budget) -> float:
    """The epochs that a budget of trials will need, by simulating it; infinite without one."""
    if budget.trials is None:
        return math.inf
    trials = min(budget.trials, SIMULATED_TRIALS)
    found = simulate(
        make_search(spec),
        budget=Budget(trials=trials),
        workers=1,
        epoch_seconds=lambda _: 1.0,
    )
    return found.epochs * budget.trials / trials
