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


def main(trials: Annotated[int, typer.Option(help="number of trials")] = 10_000) -> None:
    """Make a run of trials that learn nothing, ten epochs each, and time its page."""
    with tempfile.TemporaryDirectory() as name:
        result = run(Path(name), budget=Budget(trials=trials), method="random")
        epochs = len(load_run(result.folder).epochs)
        out = Path(name) / "report.html"
        begin = time.perf_counter()
        write_page([result.folder], out)
        seconds, size = time.perf_counter() - begin, out.stat().st_size / 1e6
    typer.echo(f"{trials:,} trials, {epochs:,} epochs: {size:.2f} MB in {seconds:.2f} s")


if __name__ == "__main__":
    typer.run(main)
