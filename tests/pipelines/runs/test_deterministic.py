"""--deterministic: the same seed, the same trials, epochs, decisions and weights."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import threadpoolctl
from test_faults import started, wait_for_rows
from test_runs import check_tables

import caviar
from orchestrator.errors import RunError
from orchestrator.runtime.session import Session
from pipelines.runs import launch
from pipelines.runs.execution import ExecutionOptions, make_budget
from pipelines.runs.new_spec import SearchRequest
from pipelines.see.run import load_run
from pipelines.see.terminal import SilentWatcher

#: What may differ: who trained it, when, how long it took, and how often it was begun anew.
_MAY_DIFFER = {"seq", "at_seconds", "epoch_seconds", "worker", "attempt", "attempts",
               "started_at_seconds", "ended_at_seconds"}  # fmt: skip
EPOCHS = 300


class Threads(SilentWatcher):
    """How many threads the BLAS of the driver has; with two it decides by other bits."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def tick(self, session: Session) -> None:
        self.seen |= {library["num_threads"] for library in threadpoolctl.threadpool_info()}


def outcome(folder: Path) -> dict[str, pd.DataFrame]:
    """A run's tables: what was decided, in order; what came out, by trial and epoch."""
    check_tables(folder)
    run = load_run(folder)
    decided = run.events[~run.events["kind"].isin(["session", "stop", "retry", "end"])]
    frames = {
        "events": decided.reset_index(drop=True),
        "epochs": run.epochs.sort_values(["trial", "epoch"], ignore_index=True),
        "trials": run.trials,
    }
    return {n: f.drop(columns=_MAY_DIFFER & set(f.columns)) for n, f in frames.items()}


def assert_same(a: Path, b: Path) -> None:
    found, expected = outcome(a), outcome(b)
    for name in expected:
        pd.testing.assert_frame_equal(found[name], expected[name])
    for file in ("model.safetensors", "config.yaml", "preprocessing.json"):
        assert (a / "best" / file).read_bytes() == (b / "best" / file).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in this process, without a break."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return caviar.search(
        "wine", out=folder, epochs=EPOCHS, pool="inline", deterministic=True
    ).folder


def test_another_run_is_the_same(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    caviar.search("wine", out=folder, epochs=EPOCHS, pool="inline", deterministic=True)
    assert_same(folder, whole)


@pytest.mark.slow
def test_a_run_that_was_killed_twice_is_the_same(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = f"search wine --pool inline --total-epochs 300 --deterministic --out {folder} --quiet"
    for words, rows in ((first, 20), (f"resume {folder} --pool inline --quiet", 90)):
        with started(*words.split()) as process:
            wait_for_rows(folder, rows, process)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert len(load_run(folder).epochs) < 300
    caviar.resume(folder, pool="inline")
    assert (load_run(folder).events["kind"] == "retry").any()
    assert_same(folder, whole)


@pytest.mark.ray
@pytest.mark.timeout(180)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_on_ray_it_is_the_same_with_any_number_of_workers(
    whole: Path, workers: int, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    threads = Threads()
    launch.search(
        SearchRequest(source="wine", deterministic=True),
        out=folder,
        budget=make_budget(None, None, EPOCHS),
        options=ExecutionOptions(workers=workers),
        make_watcher=lambda *_: threads,
    )
    assert_same(folder, whole)
    assert threads.seen == {1}


def test_it_needs_a_budget_that_is_the_same_everywhere(tmp_path: Path) -> None:
    for time, trials in ((None, None), (3, None), (3, 5)):
        with pytest.raises(RunError, match="needs `trials` or `epochs` and no `time`"):
            caviar.search(
                "wine",
                out=tmp_path / "run",
                time=time,
                trials=trials,
                pool="inline",
                deterministic=True,
            )
        assert not (tmp_path / "run").exists()
