"""From what a user typed to a finished run: reads the data, opens the folder, runs a session."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from orchestrator.errors import CaviarError, RunError, SpecError
from orchestrator.events import Event, Kind
from orchestrator.log import Lock, Log, entries, replacing
from orchestrator.pool import InlinePool, Pool
from orchestrator.pruning import geometric_rungs
from orchestrator.run import Budget, Ending, Session, Watcher
from orchestrator.search import Incumbent, Search
from orchestrator.simulate import simulate
from orchestrator.spec import Spec, differences, dump_spec, load_spec, parse_yaml, read_yaml
from orchestrator.states import States
from orchestrator.tables import Tables
from orchestrator.trainer import Job, load_trainer, objective_of
from orchestrator.trial import State
from orchestrator.worker import resumed
from pipelines.analysis import opened_spec
from pipelines.datasets import BUILT_IN, Table, fingerprint, read
from pipelines.model import load_model, save_model, saved_best
from pipelines.preprocessing import Prepared, prepare

__all__ = [
    "DEFAULT_SECONDS",
    "Options",
    "Run",
    "Workers",
    "budget_of",
    "named_folder",
    "new_spec",
    "open_run",
    "prepared",
    "space_spec",
    "stopped_by_signals",
]

SIMULATED_TRIALS = 300  #: enough to see what share of them pruning lets through
DEFAULT_SECONDS = 60.0  #: of search, where no budget is given
_TRAINERS = {
    "classification": "trainers.batchnorm_mlp:BatchNormClassifier",
    "regression": "trainers.batchnorm_mlp:BatchNormRegressor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a session runs, which may differ from session to session."""

    seconds: float | None = None
    trials: int | None = None
    epochs: int | None = None
    workers: int | None = None
    pool: str = "ray"
    address: str | None = None


# ---------------------------------------------------------------------- spec and data


def new_spec(
    source: str,
    *,
    spec_file: Path | None = None,
    target: str | None = None,
    test: str | None = None,
    task: str | None = None,
    metric: str | None = None,
    seed: int | None = None,
    max_epochs: int | None = None,
) -> tuple[Spec, Prepared]:
    """The spec of a run, and its data: defaults, then the file, then what was typed.

    Raises:
        InputError: If any of it is wrong; nothing has been written.
    """
    content, ours = _content(spec_file)
    _type(content, metric=metric, seed=seed, max_epochs=max_epochs)
    _type(content["data"], target=target, task=task, test=test and _absolute(test))
    content["data"]["source"] = _absolute(source)
    checked = _checked(content, spec_file)
    table = read(checked.data.source, target=checked.data.target, test=checked.data.test)
    ready = _prepare(checked, table)
    trainer = _TRAINERS[ready.task] if ours else checked.trainer
    full = replace(
        checked,
        trainer=trainer,
        data=replace(
            checked.data, target=table.target_name, task=ready.task, fingerprint=ready.fingerprint
        ),
    )
    objective = objective_of(load_trainer(full.trainer, _paths()), full.metric)
    return replace(full, metric=objective.metric.removeprefix("validation_")), ready


def space_spec(spec_file: Path | None, *, seed: int | None) -> Spec:
    """A spec without data, for a look at its space."""
    content, _ = _content(spec_file)
    _type(content, seed=seed)
    content["data"]["source"] = "none"
    return _checked(content, spec_file)


def prepared(spec: Spec) -> Prepared:
    """The data of an existing run, read again.

    Raises:
        InputError: If it cannot be read, or its values are no longer those the run was made with.
    """
    table = read(spec.data.source, target=spec.data.target, test=spec.data.test)
    if fingerprint(table) != spec.data.fingerprint:
        raise RunError(
            f"{spec.data.source}: its values are not those this run was made with; "
            f"put the old file back, or begin a new run with `caviar search`"
        )
    return _prepare(spec, table)


def _prepare(spec: Spec, table: Table) -> Prepared:
    return prepare(
        table,
        task=spec.data.task,
        seed=spec.seed,
        validation_share=spec.data.validation_share,
        test_share=spec.data.test_share,
    )


def _content(spec_file: Path | None) -> tuple[dict[str, Any], bool]:
    """The defaults under what the file says; and whether the trainer is ours."""
    default = files("pipelines").joinpath("default.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = parse_yaml(default, source="default.yaml") | {"data": {}}
    given = read_yaml(spec_file) if spec_file else {}
    ours = "trainer" not in given
    if not ours:
        content["space"] = {}  # the default space is our own trainer's
    for section in ("space", "search", "data"):
        part = given.pop(section, {})
        if not isinstance(part, Mapping):
            raise SpecError(f"{spec_file}: {section} needs a mapping, got {part!r}")
        content[section] |= part
    content = {"trainer": _TRAINERS["classification"], **content, **given}
    return content, ours


def _type(content: dict[str, Any], **typed: object) -> None:
    """What was typed goes over what the file says."""
    content |= {key: value for key, value in typed.items() if value is not None}


def _checked(content: dict[str, Any], spec_file: Path | None) -> Spec:
    _fill_rungs(content)
    return load_spec(content, source=str(spec_file or "the command line"))


def _fill_rungs(content: dict[str, Any]) -> None:
    search = content["search"]
    eta, last = search.get("eta"), content.get("max_epochs")
    if "rungs" not in search and isinstance(eta, int) and isinstance(last, int):
        search["rungs"] = list(geometric_rungs(max_epochs=max(last, 1), eta=max(eta, 2)))


def _absolute(source: str) -> str:
    return source if source in BUILT_IN else str(Path(source).absolute())


def _paths() -> tuple[str, ...]:
    """Where a trainer of the user's own is looked for: beside where the command was typed."""
    return (str(Path.cwd()),)


# ---------------------------------------------------------------------- the run's folder


class Run:
    """A run's folder, locked for writing, with all that its log says taken in."""

    def __init__(self, folder: Path, spec: Spec, data: Prepared) -> None:
        self.folder, self.spec, self.data = folder, spec, data
        trainer = load_trainer(spec.trainer, _paths())
        self.job = Job(
            trainer=spec.trainer,
            data=data.data,
            max_epochs=spec.max_epochs,
            objective=objective_of(trainer, spec.metric),
            paths=_paths(),
        )
        space = spec.parameters()
        kinds = {name: kind for name, (kind, _) in trainer.metrics.items()}
        tables = Tables(space=space, metrics=kinds, objective=self.job.objective)
        self.search = Search(space, spec.search, seed=spec.seed, max_epochs=spec.max_epochs)
        self.at_seconds = 0.0
        self._log = Log(folder, tables)
        for seq, at_seconds, entry in entries(folder, tables):
            applied = isinstance(entry, Event) or self.search.accepts(entry.report)
            self._log.restore(seq, at_seconds, entry, applied=applied)
            self.at_seconds = max(self.at_seconds, at_seconds)
            if applied:
                self.search.apply(entry)
        self._states = States(folder / "checkpoints", budget_bytes=spec.search.state_budget_bytes)

    def train(
        self,
        options: Options,
        watcher: Watcher,
        make_pool: Callable[[Job], Pool],
        *,
        guard: Callable[[Session], contextlib.AbstractContextManager[None]],
    ) -> Ending:
        """One session: until its budget is used up, or someone says stop."""
        budget = budget_of(self.search, self.at_seconds, options)
        pool = make_pool(self.job)
        session = Session(
            search=self.search,
            pool=pool,
            log=self._log,
            states=self._states,
            budget=budget,
            opening=_opening(budget, options, pool.workers, self.job),
            at_seconds=self.at_seconds,
            expected_epochs=_expected_epochs(self.spec, budget),
            watcher=watcher,
            keep_best=self._keep_best,
            last_words=self._last_words,
        )
        with guard(session):
            return session.run()

    def _keep_best(self, best: Incumbent, state: State) -> None:
        save_model(
            self.folder / "best",
            best,
            state=state,
            config=self.search.trials[best.trial].config,
            trainer=self.spec.trainer,
            preprocessing=self.data.preprocessing,
        )

    def _last_words(self) -> list[Event]:
        """The best model's figures on the test split, which has chosen nothing."""
        best = self.search.incumbent
        if best is None:
            return []
        trial = self.search.trials[best.trial]
        if saved_best(self.folder / "best") != (best.trial, best.epoch):
            # the driver died between a new best and the next flush: train it again
            held = self._states.get(best.trial)
            trainer = resumed(self.job, trial.config, trial.seed, held, epoch=best.epoch)
            self._keep_best(best, trainer.state())
        if self.spec.trainer not in _TRAINERS.values() or not len(self.data.x_test):
            return []
        figures = load_model(self.folder / "best").figures(self.data.x_test, self.data.y_test)
        return [
            Event(
                kind=Kind.TEST,
                trial=best.trial,
                epoch=best.epoch,
                metrics={f"test_{name}": value for name, value in figures.items()},
                reason=f"the best model on {len(self.data.x_test)} rows nobody has chosen by",
            )
        ]


@contextlib.contextmanager
def open_run(folder: Path, spec: Spec, data: Prepared) -> Iterator[Run]:
    """Make the run's folder, or take up the one there is, as its only writer.

    Raises:
        RunError: If it cannot be written, another writer has it, or it is another run's.
    """
    known = folder / "spec.yaml"
    if known.exists():
        if told := differences(opened_spec(folder), spec):
            raise RunError(
                f"{folder}: holds another run ({'; '.join(told[:3])}"
                f"{'; …' if len(told) > 3 else ''}); give another folder with --out"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder}: needs a folder that is new, empty or a run's; got another one")
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise RunError(f"{folder}: needs a folder that can be written to: {e.strerror}") from e
    lock = Lock(folder)
    try:
        if not known.exists():
            with replacing(known) as file:
                file.write(dump_spec(spec).encode())
        yield Run(folder, spec, data)
    except CaviarError:
        if made and not list(folder.glob("events/part-*.parquet")):
            shutil.rmtree(folder)  # it has learnt nothing yet: leave nothing half-written
        raise
    finally:
        lock.release()


def _expected_epochs(spec: Spec, budget: Budget) -> float:
    """What a budget of trials will come to in epochs, by simulating it; infinite without one."""
    if budget.trials == float("inf"):
        return budget.trials
    trials = min(int(budget.trials), SIMULATED_TRIALS)
    found = simulate(
        Search(spec.parameters(), spec.search, seed=spec.seed, max_epochs=spec.max_epochs),
        budget=Event(kind=Kind.SESSION, budget_trials=trials),
        workers=1,
        epoch_seconds=lambda config: 1.0,
    )
    return found.epochs * budget.trials / trials


def named_folder(source: str) -> Path:
    """runs/NAME-YYYYMMDD-HHMM, one that is not there yet."""
    name = Path(source).name.partition(".")[0] or "run"
    stem = f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M}"
    tries = (Path("runs") / (stem if i == 1 else f"{stem}-{i}") for i in range(1, 10_000))
    return next(folder for folder in tries if not folder.exists())


def budget_of(search: Search, at_seconds: float, options: Options) -> Budget:
    """The budget of a session: what was typed, added to what the run had.

    Without a word, what is left of the old one; of a kind that was not named before, what is typed
    is added to what has been used.

    Raises:
        RunError: If the run's budget is used up and nothing is added.
    """
    old, fresh = search.budget, not search.trials
    if options.seconds is options.trials is options.epochs is None:
        if fresh and old.budget_seconds is old.budget_trials is old.budget_epochs is None:
            return Budget(seconds=at_seconds + DEFAULT_SECONDS)
        if _used_up(search, at_seconds):
            raise RunError("the run has used up its budget; add to it, for example with --time 60s")
        return _budget(old.budget_seconds, old.budget_trials, old.budget_epochs)
    return _budget(
        _added(options.seconds, old.budget_seconds, at_seconds),
        _added(options.trials, old.budget_trials, len(search.trials)),
        _added(options.epochs, old.budget_epochs, search.epochs),
    )


def _used_up(search: Search, at_seconds: float) -> bool:
    b = search.budget
    return (
        (b.budget_seconds is not None and at_seconds >= b.budget_seconds)
        or (b.budget_epochs is not None and search.epochs >= b.budget_epochs)
        or (b.budget_trials is not None and search.settled())
    )


def _added(more: float | None, old: float | None, used: float) -> float | None:
    return None if more is None else more + (used if old is None else old)


def _budget(seconds: float | None, trials: float | None, epochs: float | None) -> Budget:
    limits = {"seconds": seconds, "trials": trials, "epochs": epochs}
    return Budget(**{name: limit for name, limit in limits.items() if limit is not None})


def _opening(budget: Budget, options: Options, workers: int, job: Job) -> Event:
    limits = {name: limit for name, limit in asdict(budget).items() if limit != float("inf")}
    details = {
        "workers": workers,
        "pool": options.pool,
        "address": options.address,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("caviar", "numpy", "ray", "pyarrow")
        },
        "objective": asdict(job.objective),
    }
    told = ", ".join(f"{limit:g} {name}" for name, limit in limits.items())
    return Event(
        kind=Kind.SESSION,
        reason=f"a session of {workers} workers, budget in all: {told}",
        budget_seconds=limits.get("seconds"),
        budget_trials=int(limits["trials"]) if "trials" in limits else None,
        budget_epochs=int(limits["epochs"]) if "epochs" in limits else None,
        details=json.dumps(details),
    )


# ---------------------------------------------------------------------- workers and signals


class Workers:
    """Brings up the workers; Ray starts in a thread of its own while the data is read."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._failed: Exception | None = None
        self._thread: threading.Thread | None = None
        if options.pool == "ray":
            self._thread = threading.Thread(target=self._connect, daemon=True)
            self._thread.start()

    def _connect(self) -> None:
        try:
            from orchestrator.ray_pool import connect  # half a second, and not needed inline

            connect(self._options.address, cpus=self._options.workers)
        except Exception as e:  # raised again where it is waited for
            self._failed = e

    def wait(self) -> None:
        """Until Ray is there.

        Raises:
            InputError: If nobody answers at the address.
        """
        if self._thread is not None:
            self._thread.join()
        if self._failed is not None:
            raise self._failed

    def pool(self, job: Job) -> Pool:
        """The pool the user asked for."""
        if self._options.pool == "inline":
            return InlinePool(job)
        self.wait()
        from orchestrator.ray_pool import RayPool, processors

        return RayPool(job, workers=self._options.workers or processors())

    def close(self) -> None:
        """Leave the cluster, and end it if it was ours."""
        if self._thread is not None and self._failed is None:
            from orchestrator.ray_pool import disconnect

            self._thread.join()
            disconnect()


@contextlib.contextmanager
def stopped_by_signals(session: Session) -> Iterator[None]:
    """Ctrl-C or SIGTERM once: stop cleanly, keep everything. Ctrl-C twice: at once."""

    def stop(number: int, _: object) -> None:
        if session.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        session.stopping = f"stopped by {signal.Signals(number).name}"

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
