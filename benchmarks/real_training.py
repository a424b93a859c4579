"""Our search against the published methods on real training: same time, same machine, in turns.

    python benchmarks/real_training.py digits --seconds 60 --seeds 5
    python benchmarks/real_training.py MNIST_FOLDER --seconds 180 --seeds 5

Every method is a whole run of this program, with its own workers on a local cluster; the methods
take turns, so that what else the machine does falls on all alike. What is compared is the best
validation value that each run found, the metric that breaks its ties, and the test value of that
model, by which no method has chosen.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from pipelines.runs.execution import ExecutionOptions, make_budget
from pipelines.runs.launch import search
from pipelines.runs.new_spec import SearchRequest
from pipelines.see.run import load_run
from pipelines.see.summary import describe_best

METHODS = "caviar,asha,random"


def one_run(source: str, method: str, seed: int, seconds: float, workers: int) -> dict[str, float]:
    """The best validation and the test value of a run of this method."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "spec.yaml"
        spec.write_text(f"search: {{method: {method}}}\n")
        out = Path(folder) / "run"
        done = search(
            SearchRequest(source=source, spec=spec, seed=seed),
            out=out,
            budget=make_budget(seconds, None, None),
            options=ExecutionOptions(workers=workers),
        )
        if done.ending.status != "finished":  # a signal ends the run it meets, not this program
            raise SystemExit(done.ending.reason)
        run = load_run(out)
        metric, tie = run.objective.metric, run.objective.tie_metric
        found = describe_best(run)
        assert found is not None
        return {
            "validation": found["validation"][metric.removeprefix("validation_")],
            "tie": found["validation"][(tie or metric).removeprefix("validation_")],
            "test": found["test"][metric.removeprefix("validation_")],
            "trials": len(run.trials),
            "epochs": int(run.trials["epochs"].sum()),
        }


def main(
    source: str,
    seconds: Annotated[float, typer.Option(help="of each run")] = 60,
    seeds: Annotated[int, typer.Option(help="so many runs of each method")] = 5,
    first_seed: Annotated[int, typer.Option(help="one that no constant was chosen with")] = 0,
    workers: Annotated[int, typer.Option()] = 2,
    methods: Annotated[str, typer.Option(help="with commas")] = METHODS,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Run all methods in turns and print each one's mean, and its difference to the first."""
    names, rows = methods.split(","), []
    for seed in range(first_seed, first_seed + seeds):
        for name in names[seed % len(names) :] + names[: seed % len(names)]:
            row = one_run(source, name, seed, seconds, workers)
            rows.append({"method": name, "seed": seed} | row)
            print(f"seed {seed}  {name:10s}", {k: round(v, 5) for k, v in row.items()}, flush=True)
    found = pd.DataFrame(rows)
    if json:
        found.to_json(json, orient="records")
    print(f"\n{source}, {seconds:g} s, {workers} workers, {seeds} seeds; mean +- standard error")
    first = found[found.method == names[0]].set_index("seed")
    for name in names:
        x = found[found.method == name].set_index("seed")
        cells = [
            f"{column} {x[column].mean():.5f} +- {x[column].std() / np.sqrt(seeds):.5f}"
            for column in ("validation", "tie", "test")
        ]
        gap = x["validation"] - first["validation"]
        cells.append(f"validation less the first's {gap.mean():+.5f}")
        cells.append(f"{x.trials.mean():.0f} trials, {x.epochs.mean():.0f} epochs")
        print(f"{name:10s} " + "  ".join(cells))


if __name__ == "__main__":
    typer.run(main)
