"""Trainers that leave their process, or change it: the trial fails with its message, no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_runs import INLINE, TOYS, check_tables, searched, toy_spec

from orchestrator.errors import CaviarError
from orchestrator.search.budget import Budget
from pipelines.runs import launch
from pipelines.runs.new_spec import SearchRequest
from pipelines.runs.repair import replay_run
from pipelines.see.run import load_run

#: What the toy `Leaving` does in its second epoch -> the reason of the failed trial.
WAYS = {
    "sys.exit()": "SystemExit",
    "sys.exit(3)": "SystemExit: 3",
    "sys.exit('no GPU')": "SystemExit: no GPU",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit('enough')": "GeneratorExit: enough",
    "raise StopIteration('no batch')": "StopIteration: no batch",
    "raise BaseException('all')": "BaseException: all",
    "raise Unreadable": "Unreadable: its message cannot be read",
    "raise ValueError('\\ud800')": "ValueError: ?",
    "raise BaseExceptionGroup('two', [SystemExit(1)])": "BaseExceptionGroup: two (1 sub-exception)",
}


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOYS)


def leaving_spec(folder: Path, *ways: str) -> Path:
    """A spec whose trials train well and leave in turns."""
    space = {"floor": {"linear": [0, 1]}, "way": {"choice": ["pass", *ways]}}
    given = [{"floor": 0.5, "way": way} for way_out in ways for way in ("pass", way_out)]
    search = {"method": "random", "initial_configs": given}
    return toy_spec(folder, "Leaving", space=space, search=search)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("toys")
def test_whatever_a_trainer_raises_fails_its_trial_with_its_message(
    way: str, tmp_path: Path
) -> None:
    folder = searched(tmp_path / "run", spec_file=leaving_spec(tmp_path, way), trials=2)
    check_tables(folder)
    run = load_run(folder)
    assert run.status == "finished"
    assert list(run.trials["status"]) == ["COMPLETED", "FAILED"]
    assert run.trials["reason"].iloc[1] == WAYS[way]
    assert replay_run(folder).difference == ""


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_whatever_a_trainer_raises_fails_its_trial_with_its_message_on_ray(tmp_path: Path) -> None:
    spec = leaving_spec(tmp_path, *WAYS)
    words = f"search wine --spec {spec} --trust-trainer --workers 2 --quiet"
    words += f" --trials {2 * len(WAYS)}"
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *words.split(), "--out", str(folder)],
        env=os.environ | {"PYTHONPATH": f"{TOYS}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    run = load_run(folder)
    failed = run.trials[run.trials["status"] == "FAILED"]
    assert dict(zip(failed["config_way"], failed["reason"], strict=True)) == WAYS
    assert set(failed["attempts"]) == {1}


def test_a_trainer_changes_neither_the_working_directory_nor_the_signals_of_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toys: None
) -> None:
    monkeypatch.chdir(tmp_path)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    way = "os.chdir('/'); [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]"
    spec = leaving_spec(tmp_path, way)
    check_tables(searched(Path("run"), spec_file=spec, trials=2))
    assert Path.cwd() == tmp_path
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_a_best_model_that_cannot_be_trained_again_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toys: None
) -> None:
    import toy_trainers

    spec = toy_spec(tmp_path, "Toy", search={"method": "random"})
    folder = searched(tmp_path / "run", spec_file=spec, trials=2)
    for file in (folder / "best").iterdir():
        file.unlink()
    for file in (folder / "checkpoints").iterdir():
        file.unlink()
    monkeypatch.setattr(toy_trainers.Toy, "state", lambda self: sys.exit(3))
    with pytest.raises(CaviarError, match=r"could not be trained again: SystemExit: 3"):
        launch.resume(folder, budget=Budget(epochs=1), options=INLINE)


@pytest.mark.parametrize("way", ["sys.stdout.close()", "sys.stdout = None", "os.close(1)"])
def test_a_trainer_that_closes_standard_output_ends_nothing(way: str, tmp_path: Path) -> None:
    words = f"search wine --spec {leaving_spec(tmp_path, way)} --trust-trainer --pool inline"
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *words.split(), "--trials=2", f"--out={folder}"],
        env=os.environ | {"PYTHONPATH": f"{TOYS}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    check_tables(folder)
    assert load_run(folder).status == "finished"


@pytest.mark.parametrize(
    ("state", "name"), [({"x": 1j}, "complex for 'x'"), ({"x": [1]}, "list"), ({1: 1.0}, "for 1")]
)
def test_a_state_that_no_file_can_hold_fails_the_trial(
    state: Mapping[Any, Any], name: str, tmp_path: Path, toys: None
) -> None:
    code = f"from toy_trainers import Toy\nclass Odd(Toy):\n    def state(self): return {state!r}\n"
    (tmp_path / "odd.py").write_text(code)
    spec = toy_spec(tmp_path, "Odd", search={"method": "random"})
    spec.write_text(spec.read_text().replace("toy_trainers:Odd", "odd:Odd"))
    request = SearchRequest(source="wine", spec=spec, trust_trainer=True)
    ending = launch.search(
        request, out=tmp_path / "run", budget=Budget(trials=3), options=INLINE
    ).ending
    assert ending.status == "failed"
    assert "the trainer's state needs arrays of numbers" in ending.reason
    assert name in ending.reason
