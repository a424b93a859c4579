"""The example answers its questions on the run that lies beside it, with figures that are its."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import caviar
from pipelines.runs.repair import replay_run
from pipelines.see.run import load_run

EXAMPLES = Path(__file__).parents[1] / "examples"


def answers(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "analyse.py"), *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\d)\. ", done.stdout, re.MULTILINE) == list("12345")
    return done.stdout


def test_a_run_of_few_epochs_is_asked_about_those_it_has(tmp_path: Path) -> None:
    for most in (1, 4):
        run = tmp_path / str(most)
        caviar.search("wine", out=run, max_epochs=most, trials=20, pool="inline")
        third = answers(str(run)).partition("\n3. ")[2].partition("\n4. ")[0]
        told = [int(epoch) for epoch in re.findall(r"^(\d+) ", third, re.MULTILINE)]
        assert [epoch for epoch in told if epoch < most] == [1, 2, 3][: most - 1]


def test_all_five_questions_are_answered_with_the_figures_of_the_run() -> None:
    told = answers()
    run = load_run(EXAMPLES / "run")
    second = told.partition("\n2. ")[2].partition("\n3. ")[0]
    for stage, rows in run.trials.groupby("stage"):
        found = re.search(rf"{stage}\s+(\d+)\s+(\d+)", second)
        assert found is not None
        assert int(found[2]) == rows["epochs"].sum()
    fourth = told.partition("\n4. ")[2].partition("\n5. ")[0]
    for status, rows in run.trials.groupby("status"):
        assert re.search(rf"{status}\s+{len(rows)}\s+{rows['epochs'].sum()}\s", fourth)


def test_the_recorded_run_is_replayed_to_the_same_decisions_whatever_the_version() -> None:
    assert replay_run(EXAMPLES / "run").difference == ""
