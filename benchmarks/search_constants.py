"""What each constant of the search brings: LCBench with one of them changed at a time.

    python benchmarks/search_constants.py FOLDER [--seeds 10] [--noise 0] [--only shares.]

FOLDER holds searchbench/. Each line is one variant: normalised regret x 100 at 10, 25, 50, 100 % of
1,500 epochs over the public tasks, and its difference to the search as it is, over the same tasks
and seeds.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

BUDGET, WORKERS = 1500, 4
Setting = tuple[str, Any]  #: "module.NAME" below orchestrator.search, and its value
VARIANTS: dict[str, tuple[Setting, ...]] = {
    "as it is": (),
    "candidates at the ends of ranges: none": (("surrogate.acquisition.TO_EDGE", 0.0),),
    "candidates at the ends of ranges: half as many": (("surrogate.acquisition.TO_EDGE", 0.15),),
    "candidates crossed with elites: none": (("surrogate.acquisition.CROSSED", 0.0),),
    "four times the candidates": (
        ("surrogate.acquisition.RANDOM", 400),
        ("surrogate.acquisition.NEARBY", 320),
    ),
    "rungs share evenly from the start": (
        ("pruning.shares.LOWEST", 1.0),
        ("pruning.shares.TOPMOST", 1.0),
    ),
    "low rungs favoured twice as long": (("pruning.shares.EVEN", 0.4),),
    "first trials: 8": (("surrogate.advisor.INITIAL_TRIALS", 8),),
    "first trials: 20": (("surrogate.advisor.INITIAL_TRIALS", 20),),
    "fits twice as often": (("surrogate.advisor.GROWTH", 1.2),),
    "objective: soft constant 0.3": (("surrogate.advisor.LOG_OFFSET", 0.3),),
    "objective: soft constant 3": (("surrogate.advisor.LOG_OFFSET", 3.0),),
    "lengths: half": (("surrogate.gaussian_process.LENGTH_SCALE", 0.31),),
    "lengths: twice": (("surrogate.gaussian_process.LENGTH_SCALE", 1.24),),
    "coordinates hardly bent": (("surrogate.gaussian_process.WARP_DEVIATION", 0.01),),
    "noise: a tighter prior": (("surrogate.gaussian_process.NOISE_DEVIATION", 1.0),),
    "no last call": (("search.LAST_CALL", 2.0),),
    "fewer results in the model: 120": (
        ("surrogate.advisor.MAX_RESULTS", 120),
        ("surrogate.advisor.BEST_RESULTS", 80),
    ),
}
_Job = tuple[tuple[Setting, ...], str, int, float]  #: settings, task, seed, noise


def regrets(job: _Job) -> list[float]:
    """The regrets x 100 of one variant on one task with one seed."""
    from searchbench.core import DATA, FRACTIONS, MAX_EPOCH, LCBench, simulate

    from benchmarks.lcbench import make_tuner

    settings, task, seed, noise = job
    for place, value in settings:
        module, constant = place.rsplit(".", 1)
        found = importlib.import_module(f"orchestrator.search.{module}")
        assert hasattr(found, constant), place
        setattr(found, constant, value)
    bench = LCBench()
    tuner = make_tuner(
        bench.space,
        max_epoch=MAX_EPOCH,
        workers=WORKERS,
        seed=1000 * bench.tasks.index(task) + seed,
        budget_epochs=BUDGET,
    )
    rows = simulate(
        bench, task, tuner, workers=WORKERS, budget=BUDGET, noise=noise, noise_seed=seed
    )
    reference = json.loads((DATA / "reference.json").read_text())[task]
    best, middle = reference["best_any_direct"], reference["median52"]
    assert len(rows) == len(FRACTIONS)
    return [100 * (best - row["best_any"]) / (best - middle) for row in rows]


def main(
    folder: Annotated[Path, typer.Argument(help="holds searchbench/")],
    seeds: int = 10,
    noise: float = 0.0,
    only: Annotated[str, typer.Option(help="variants of this module's constants alone")] = "",
) -> None:
    """Run every variant and print a line each."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    sys.path[:0] = [str(folder.absolute()), str(Path(__file__).parents[1])]
    tasks = json.loads((folder / "searchbench" / "data" / "splits.json").read_text())["public"]
    chosen = {n: s for n, s in VARIANTS.items() if not s or s[0][0].startswith(only)}
    base = np.empty(0)
    context = multiprocessing.get_context("spawn")  # a changed constant stays in its process
    for name, settings in chosen.items():
        jobs = [(settings, task, seed, noise) for seed in range(seeds) for task in tasks]
        with context.Pool() as pool:
            found = np.array(list(pool.imap(regrets, jobs)))
        if not settings:
            base = found
        gap, error = found - base, (found - base).std(axis=0) / np.sqrt(len(found))
        print(
            f"{name:48s}"
            + "".join(f"{x:7.1f}" for x in found.mean(axis=0))
            + (
                "".join(f"  {x:+.1f} +- {e:.1f}" for x, e in zip(gap.mean(0), error, strict=True))
                if settings
                else ""
            ),
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
