"""What a run costs beside training, next to Ray Tune on the same workers.

    python -m benchmarks.orchestration [--json FILE] [--part throughput]

All is on: pruning, decisions with their reasons, Parquet, states. Trainers learn nothing
(benchmarks/idle.py), so everything that is measured is overhead. Ray Tune runs with its class API,
reused actors and ASHA, the quickest way it has; a part is left out, and named, where it is not
installed.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from benchmarks.idle import Empty
from orchestrator.runtime.session import Session
from orchestrator.runtime.worker import Checkpoint, Message
from orchestrator.search.budget import Budget
from orchestrator.search.events import SessionStarted, TrialStarted
from orchestrator.search.messages import Assignment, Observation, Report
from orchestrator.search.methods import METHODS
from orchestrator.search.objective import Objective
from orchestrator.search.search import Search
from orchestrator.search.spec import SearchSpec
from orchestrator.space.domains import Real
from orchestrator.space.space import Parameter, Space
from orchestrator.store.checkpoints import CheckpointStore
from orchestrator.store.log import Log
from orchestrator.store.tables import Tables
from pipelines.runs.execution import ExecutionOptions
from pipelines.runs.launch import search
from pipelines.runs.new_spec import SearchRequest
from pipelines.see.run import load_run
from pipelines.see.terminal import SilentWatcher

EPOCHS = 10
CORES = os.cpu_count() or 1


# ---------------------------------------------------------------------- whole runs on Ray


def run(
    folder: Path, *, trainer: str = "Empty", burn: float | None = None, workers: int = 2,
    budget: Budget, max_epochs: int = EPOCHS, **search_spec: Any,
) -> Any:  # fmt: skip
    """A whole run of this program on a Ray cluster of its own."""
    space = {"rate": {"log": [1e-4, 1]}, "share": {"linear": [0, 1]}}
    content = {
        "trainer": f"benchmarks.idle:{trainer}",
        "max_epochs": max_epochs,
        "space": space | ({} if burn is None else {"burn_seconds": burn}),
        "search": search_spec,
    }
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump(content))
    return search(
        SearchRequest(source="wine", spec=spec, trust_trainer=True),
        out=folder / "run",
        budget=budget,
        options=ExecutionOptions(workers=workers),
    )


def throughput(method: str, trials: int, **search_spec: Any) -> dict[str, float]:
    """Trials and epochs a second of a run with two workers, after start-up."""
    with tempfile.TemporaryDirectory() as name:
        done = run(Path(name), budget=Budget(trials=trials), method=method, **search_spec)
        epochs = len(load_run(done.folder).epochs)
        files = sum(p.is_file() and "checkpoints" not in p.parts for p in done.folder.rglob("*"))
    seconds = done.ending.seconds
    return {"trials_a_second": trials / seconds, "epochs_a_second": epochs / seconds,
            "files": files}  # fmt: skip


def ray_tune(
    *, trials: int = -1, seconds: float | None = None, burn: float = 0.0, workers: int = 2,
    max_epochs: int = EPOCHS,
) -> dict[str, float]:  # fmt: skip
    """Run the same trials with Ray Tune, or as many as it can run in `seconds`.

    The time goes from its first result to its last, without its start and its end.
    """
    code = f"""
import json, time, ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
import numpy as np
stamps, inside = [], []
class Empty(tune.Trainable):
    def setup(self, config): self.done = 0
    def step(self):
        begin = time.process_time()
        while (used := time.process_time() - begin) < {burn}: pass
        self.done += 1
        loss = (np.log10(self.config["rate"]) + 2) ** 2 + self.config["share"] + 1 / self.done
        return {{"loss": float(loss), "used": used}}
    def save_checkpoint(self, folder): return {{"done": self.done}}
    def load_checkpoint(self, state): self.done = state["done"]
    def reset_config(self, config): self.config, self.done = config, 0; return True
class Clock(tune.Callback):
    def on_trial_result(self, *a, result, **k):
        stamps.append(time.time())
        inside.append(result["used"])
ray.init(num_cpus={workers}, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
tuner = tune.Tuner(
    Empty,
    param_space={{"rate": tune.loguniform(1e-4, 1), "share": tune.uniform(0, 1)}},
    tune_config=tune.TuneConfig(
        metric="loss", mode="min", num_samples={trials}, time_budget_s={seconds}, reuse_actors=True,
        scheduler=ASHAScheduler(max_t={max_epochs}, grace_period=1, reduction_factor=3)),
    run_config=tune.RunConfig(stop={{"training_iteration": {max_epochs}}}, verbose=0,
        storage_path=STORAGE, callbacks=[Clock()]))
trials = len(tuner.fit())
print("FIGURES", json.dumps([trials, len(stamps), stamps[-1] - stamps[0], sum(inside[1:])]))
"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", f"STORAGE = {folder!r}\n{code}"],
            capture_output=True, text=True, check=False,
            env=os.environ | {"RAY_TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "0"},
        )  # fmt: skip
        files = sum(p.is_file() for p in Path(folder).rglob("*"))
    line = next((x for x in done.stdout.splitlines() if x.startswith("FIGURES")), None)
    if line is None:
        raise RuntimeError(f"Ray Tune failed: {done.stderr[-2000:]}")
    trials, reports, took, inside = json.loads(line.removeprefix("FIGURES"))
    return {"trials_a_second": trials / took, "epochs_a_second": reports / took,
            "files": files, "inside": inside / (workers * took)}  # fmt: skip


def utilisation(method: str, burn: float, workers: int, seconds: float) -> float:
    """Processor time inside epoch() over workers x wall time."""
    with tempfile.TemporaryDirectory() as name:
        done = run(
            Path(name), trainer="Burning", burn=burn, workers=workers, max_epochs=27,
            budget=Budget(seconds=seconds), method=method,
        )  # fmt: skip
        inside = load_run(done.folder).epochs["processor_seconds"].sum()
    return float(inside / (workers * done.ending.seconds))


def first_report() -> float:
    """Seconds from the typed command to the first report, files in the disk's cache."""
    with tempfile.TemporaryDirectory() as name:
        begin = time.monotonic()
        words = ["search", "digits", "--trials", "4", "--out", f"{name}/run"]
        with subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *words], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if " best " in line:
                    seconds = time.monotonic() - begin
                    process.communicate()
                    return seconds
    raise RuntimeError("no report ever came")


# ---------------------------------------------------------------------- the driver alone


SPACE = Space(
    [
        Parameter(name="rate", domain=Real(low=1e-4, high=1, scale="log")),
        Parameter(name="share", domain=Real(low=0, high=1)),
    ]
)
TABLES = Tables(
    space=SPACE,
    metrics={name: kind for name, (kind, _) in Empty.metrics.items()},
    objective=Objective(metric="validation_loss", maximize=False),
)


def parquet(folder: Path, *, rows: int, each: int) -> dict[str, float]:
    """Rows of epochs a second that the log takes in and writes, so many with each flush."""
    log = Log(folder, TABLES)
    start = TrialStarted(
        trial=0, stage="given", seed=0, config={}, stop_epoch=rows, reason="a benchmark"
    )
    log.append(start, 0)
    taken = written = 0.0
    for first in range(0, rows, each):
        reports = [
            Report(trial=0, attempt=1, epoch=first + i + 1, score=(0.5, 0.5), seconds=0.1, worker=0,
                   metrics={"validation_loss": 0.5 + i, "train_loss": 0.5 - i})
            for i in range(each)
        ]  # fmt: skip
        began = time.process_time()
        for report in reports:
            log.append(Observation(report=report, at_seconds=0.0), 0.0)
        taken += time.process_time() - began
        began = time.perf_counter()
        log.flush()
        written += time.perf_counter() - began
    return {"taken_in_a_second": rows / taken, "written_a_second": rows / written}


class Echo:
    """Workers without a process: what they would send, pickled as it would arrive."""

    def __init__(self, *, workers: int) -> None:
        self.size = self.workers = workers
        self._waiting: deque[Assignment] = deque()
        self._loss = np.random.default_rng(0).random(2**16)

    def free(self) -> int:
        """Count the assignments that can be taken, as RayPool does."""
        return self.size - len(self._waiting)

    def busy(self) -> int:
        """Count the workers with an assignment."""
        return len(self._waiting)

    def submit(self, assignment: Assignment, held: Checkpoint | None) -> None:
        """Take an assignment, which is trained at the next poll."""
        self._waiting.append(pickle.loads(pickle.dumps(assignment)))

    def poll(self, seconds: float, *, left: float = np.inf) -> list[Message]:
        """Return all epochs of one assignment, the state with the last one."""
        a = self._waiting.popleft()
        reports = []
        for epoch in range(a.start_epoch + 1, a.stop_epoch + 1):
            loss = float(self._loss[(31 * a.trial + epoch) % 2**16]) + 1 / epoch
            reports.append(
                Report(
                    trial=a.trial,
                    attempt=a.attempt,
                    epoch=epoch,
                    metrics={"validation_loss": loss, "train_loss": loss},
                    score=(loss, loss),
                    seconds=0.0,
                    worker=0,
                    last=epoch == a.stop_epoch,
                    state={"done": epoch} if epoch == a.stop_epoch else None,
                )
            )
        began = time.process_time()
        sent = pickle.dumps(reports)
        self.sending = getattr(self, "sending", 0.0) + time.process_time() - began
        return list(pickle.loads(sent))

    def drain(self) -> list[Message]:
        """Return nothing, because no assignment is under way."""
        return []

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class Marks(SilentWatcher):
    """Records the time whenever another `every` trials have begun."""

    def __init__(self, every: int) -> None:
        self.every, self.seconds = every, [time.perf_counter()]

    def handle_entry(self, entry: Any, at_seconds: float) -> None:
        """Record the time at the start of every `every`-th trial."""
        if isinstance(entry, TrialStarted) and not (
            (entry.trial or 0) + 1
        ) % self.every:  # fmt: skip
            self.seconds.append(time.perf_counter())


def driver(folder: Path, *, method: str, trials: int, max_epochs: int, rungs: tuple[int, ...],
           every: int = 10_000) -> dict[str, Any]:  # fmt: skip
    """A session without workers: the driver's processor time, its memory, what is on the disk."""
    parts = METHODS[method]
    spec = SearchSpec(method=method, sampler=parts.default_sampler,
                      pruning=parts.default_pruning, rungs=rungs)  # fmt: skip
    pool, marks = Echo(workers=4), Marks(every)
    states = CheckpointStore(folder / "checkpoints", budget_bytes=spec.state_budget)
    session = Session(
        search=Search(SPACE, spec, seed=0, max_epochs=max_epochs),
        pool=pool, log=Log(folder, TABLES), checkpoints=states,
        budget=Budget(trials=trials), at_seconds=0.0, expected_epochs=np.inf,
        start=SessionStarted(budget=Budget(trials=trials), reason="a benchmark"),
        watcher=marks, save_best=lambda *_: None, require_lock=lambda: None, closing_events=list,
    )  # fmt: skip
    began = time.process_time()
    session.run()
    spent = time.process_time() - began - pool.sending
    epochs = session.search.epochs
    gaps = np.diff(marks.seconds)
    return {
        "milliseconds_an_epoch": 1000 * spent / epochs,
        "epochs": epochs,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "last_to_first": float(gaps[-1] / gaps[0]) if len(gaps) > 1 else float("nan"),
        "files": sum(p.is_file() for n in ("events", "epochs", "trials")
                     for p in (folder / n).iterdir()),
        "checkpoint_mb": sum(p.stat().st_size for p in (folder / "checkpoints").iterdir()) / 1e6,
        "table_mb": sum(p.stat().st_size for n in ("events", "epochs", "trials")
                        for p in (folder / n).iterdir()) / 1e6,
    }  # fmt: skip


def run_in_process(code: str) -> Any:
    """Measure a function of this module in a new process, so that its memory counts alone."""
    program = (
        "import json, pathlib, tempfile\nfrom benchmarks.orchestration import *\n"
        f"with tempfile.TemporaryDirectory() as f:\n    print(json.dumps({code}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=False)  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def median(code: str, runs: int = 3) -> dict[str, float]:
    """Take medians: in which tenth files are merged and garbage is collected is random."""
    figures = [run_in_process(code) for _ in range(runs)]
    return {name: float(np.median([f[name] for f in figures])) for name in figures[0]}


# ---------------------------------------------------------------------- the command


def main(
    parts: Annotated[str, typer.Option("--parts", help="parts to run, separated by commas")] = (
        "throughput,utilisation,driver,memory,start"
    ),
    as_json: Annotated[Path | None, typer.Option("--json", help="file for the results")] = None,
) -> None:
    """Print the figures, ours and Ray Tune's from the same run."""
    figures: dict[str, Any] = {
        "machine": f"{CORES} cores, {platform.machine()}, Python {platform.python_version()}"
    }
    chosen = parts.split(",")

    def report(name: str, value: Any) -> None:
        figures[name] = value
        shown = {k: round(v, 4) for k, v in value.items()} if isinstance(value, dict) else value
        typer.echo(f"{name:58s} {shown}")

    tune = find_spec("ray.tune") and find_spec("tensorboardX")
    if "throughput" in chosen:
        report("empty trials, asha, 2 workers", throughput("asha", 5_000))
        theirs = ray_tune(trials=120) if tune else "not installed"
        report("Ray Tune, class API, reused actors, ASHA", theirs)
        report("empty trials of ten whole epochs, random", throughput("random", 3_000))
        report("empty trials, caviar (the model)", throughput("caviar", 600))
        report("300 trials, asha", throughput("asha", 300))
    if "utilisation" in chosen:
        for burn in (0.02, 0.2):
            for workers in (CORES, CORES - 1):
                for method in ("asha", "caviar"):
                    name = (
                        f"inside epoch(), {1000 * burn:.0f} ms epochs, {workers} workers, {method}"
                    )
                    report(name, round(utilisation(method, burn, workers, 40.0), 4))
                if tune:
                    name = f"inside step() of Ray Tune, {1000 * burn:.0f} ms, {workers} workers"
                    theirs = ray_tune(seconds=30.0, burn=burn, workers=workers, max_epochs=27)
                    report(name, round(theirs["inside"], 4))
    if "driver" in chosen:
        report(
            "rows of epochs, 10,000 a flush",
            run_in_process("parquet(pathlib.Path(f), rows=500_000, each=10_000)"),
        )
        report(
            "driver, one long trial after another",
            run_in_process(
                "driver(pathlib.Path(f), method='random', trials=60, max_epochs=1000, "
                "rungs=(1000,))"
            ),
        )
    if "memory" in chosen:
        report(
            "driver, 100,000 trials of ten epochs",
            median(
                "driver(pathlib.Path(f), method='random', trials=100_000, max_epochs=10, "
                "rungs=(10,))"
            ),
        )
        report(
            "driver, 100,000 trials, asha",
            median(
                "driver(pathlib.Path(f), method='asha', trials=100_000, max_epochs=10, "
                "rungs=(1, 3, 9, 10))"
            ),
        )
    if "start" in chosen:
        report(
            "command typed to first report, seconds",
            round(min(first_report() for _ in range(3)), 2),
        )
    if as_json:
        as_json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    typer.run(main)
