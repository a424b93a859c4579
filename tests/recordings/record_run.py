"""Records the runs that the tests read: python tests/recordings/record_run.py.

tests/recordings/run-0.2 is made with the command and the spec of run-0.1, which version 0.1
recorded; the runs that earlier versions recorded are never made again, because they stand for those
that people have. examples/run is the run that examples/analyse.py asks its questions. Both are
recorded by the version that writes the present schema, and again before a release whose search
takes other decisions, because a test replays them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
SPEC = "max_epochs: 9\nspace: {units: {int_log2: [8, 16]}, layers: {int: [1, 2]}}\n"
COMMANDS = {
    "tests/recordings/run-0.2": "search wine --spec spec.yaml --total-epochs 90 --seed 1 "
    "--pool inline --deterministic --audit 20% --out run",
    "examples/run": "search digits --trials 150 --seed 1 --pool inline --out run",
}
#: By run: what is not copied. The example needs no model, and a lock is of its process alone.
LEFT_OUT = {
    "tests/recordings/run-0.2": ("checkpoints", "run.lock"),
    "examples/run": ("checkpoints", "run.lock", "best"),
}


def record(name: str) -> None:
    """Run the search in a folder of its own and copy what the tests read."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "spec.yaml").write_text(SPEC, encoding="utf-8")
        command = [sys.executable, "-m", "pipelines.cli", *COMMANDS[name].split()]
        subprocess.run(command, cwd=folder, check=True)
        shutil.rmtree(ROOT / name, ignore_errors=True)
        ignored = shutil.ignore_patterns(*LEFT_OUT[name])
        shutil.copytree(Path(folder) / "run", ROOT / name, ignore=ignored)


if __name__ == "__main__":
    for name in COMMANDS:
        record(name)
