"""Records a run of the present version for the tests: python tests/recordings/record_run.py NAME.

The run lies in tests/recordings/NAME afterwards, without its checkpoints and its lock. Its command
and its spec are those with which version 0.1 recorded run-0.1. Record a run once for each schema
of the tables, with the release that writes it; a recording of a version that was released is never
made again, because it stands for the runs that people have.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

SPEC = "max_epochs: 9\nspace: {units: {int_log2: [8, 16]}, layers: {int: [1, 2]}}\n"
COMMAND = (
    "search wine --spec spec.yaml --total-epochs 90 --seed 1 --pool inline --deterministic "
    "--audit 20% --out run"
)


def record(target: Path) -> None:
    """Run the search in a folder of its own and copy what the tests read."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
        command = [sys.executable, "-m", "pipelines.cli", *COMMAND.split()]
        subprocess.run(command, cwd=folder, check=True)
        shutil.rmtree(target, ignore_errors=True)
        left_out = shutil.ignore_patterns("checkpoints", "run.lock")
        shutil.copytree(folder / "run", target, ignore=left_out)


if __name__ == "__main__":
    record(Path(__file__).parent / sys.argv[1])
