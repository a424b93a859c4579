"""How large the page of a long run is, and how long it takes to make.

python -m benchmarks.report [--trials 10000]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.orchestration import run
from orchestrator.search.budget import Budget
from pipelines.see.page import write_page
from pipelines.see.run import load_run


def main(trials: Annotated[int, typer.Option(help="of the run")] = 10_000) -> None:
    """A run of trials that learn nothing, ten epochs each; then its page."""
    with tempfile.TemporaryDirectory() as name:
        made = run(Path(name), budget=Budget(trials=trials), method="random")
        epochs = len(load_run(made.folder).epochs)
        out = Path(name) / "report.html"
        begin = time.perf_counter()
        write_page([made.folder], out)
        seconds, size = time.perf_counter() - begin, out.stat().st_size / 1e6
    typer.echo(f"{trials:,} trials, {epochs:,} epochs: {size:.2f} MB in {seconds:.2f} s")


if __name__ == "__main__":
    typer.run(main)
