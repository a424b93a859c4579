"""The example answers its questions on the run that lies beside it, with figures that are its."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from pipelines.analysis import load
from pipelines.repair import replayed

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_all_five_questions_are_answered_with_the_figures_of_the_run() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "analyse.py")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\d)\. ", done.stdout, re.MULTILINE) == list("12345")
    run = load(EXAMPLES / "run")
    second = done.stdout.partition("\n2. ")[2].partition("\n3. ")[0]
    for stage, rows in run.trials.groupby("stage"):
        told = re.search(rf"{stage}\s+(\d+)\s+(\d+)", second)
        assert told is not None
        assert int(told[2]) == rows["epochs"].sum()
    fourth = done.stdout.partition("\n4. ")[2].partition("\n5. ")[0]
    for status, rows in run.trials.groupby("status"):
        assert re.search(rf"{status}\s+{len(rows)}\s+{rows['epochs'].sum()}\s", fourth)


def test_the_recorded_run_is_replayed_to_the_same_decisions_whatever_the_version() -> None:
    assert replayed(EXAMPLES / "run").difference == ""
