"""One training step, and whole trials, against everything else a user could pick.

    python benchmarks/training_step.py [--json FILE] [--mnist DIR] [--rounds 11]

One process on one core; the contestants take turns, a few hundredths of a second each, and the
median of the rounds counts. float32, Adam, batch norm, cross-entropy. A contestant that is not
installed is left out and named.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import math
import os
import platform
import statistics
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# One thread each: has to be said before the libraries are loaded.
os.environ.update(
    dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
)
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # else compiling takes the time of reading
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.contestants import Contestant, Entrant, Pool, Shape, Split, pool

SHAPES = [
    Shape((64, 64, 32, 10), 32),
    Shape((64, 100, 100, 10), 64),
    Shape((64, 256, 256, 10), 128),
    Shape((784, 256, 128, 10), 64),
    Shape((784, 512, 256, 10), 128),
    Shape((784, 1024, 1024, 10), 256),
    Shape((14, 128, 128, 128, 2), 512),
]
#: name, module, class
CONTESTANTS = [
    ("caviar", "caviar_numpy", "Contestant"),
    ("products", "products", "Contestant"),
    ("pytorch", "pytorch", "Contestant"),
    ("torch.compile", "pytorch", "Compiled"),
    ("jax", "jax_scan", "Contestant"),
    ("scikit-learn", "scikit", "Contestant"),
]
IN_TRIALS = ("caviar", "pytorch", "jax", "scikit-learn")
#: Seconds of one contestant's turn.
TURN = 0.04
#: Bytes of views and numbers; the smallest array of examples and units has 4,096.
SMALL_CHANGE = 3000


def main() -> None:
    """Measure, print the table and the ratios, keep the figures if asked to."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--json", type=Path, help="write all figures to this file")
    asked.add_argument("--mnist", type=Path, help="folder with MNIST in IDX layout")
    asked.add_argument("--rounds", type=int, default=11, help="turns of each contestant")
    given = asked.parse_args()
    warnings.filterwarnings("ignore", "dynamo_pgo force disabled")
    console = Console(width=150)
    contestants = present(console)
    rounds = given.rounds
    steps = [measured_steps(shape, contestants, rounds) for shape in SHAPES]
    entered: list[tuple[str, type[Entrant]]] = [c for c in contestants if c[0] in IN_TRIALS]
    trials = [measured_trials("digits, 10 epochs", SHAPES[0], digits(), 10, entered, rounds)]
    if given.mnist:
        split = mnist(given.mnist)
        trials.append(
            measured_trials("MNIST, 1 epoch", SHAPES[3], split, 1, entered, rounds // 2 + 1)
        )
    figures = {
        "machine": machine(),
        "steps": steps,
        "trials": trials,
        "ratios": ratios(steps, trials),
        "steps_of_a_hundred_that_allocate": {str(s): allocations(s) for s in SHAPES},
    }
    show(console, figures, [name for name, _ in contestants])
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def present(console: Console) -> list[tuple[str, type[Contestant]]]:
    """The contestants whose libraries are installed."""
    found = []
    for name, module, attribute in CONTESTANTS:
        try:
            loaded = importlib.import_module(f"benchmarks.contestants.{module}")
        except ModuleNotFoundError as missing:
            console.print(f"without {name}: {missing.name} is not installed (make bench-trainer)")
        else:
            found.append((name, getattr(loaded, attribute)))
    return found


def measured_steps(
    shape: Shape, contestants: list[tuple[str, type[Contestant]]], rounds: int
) -> dict[str, Any]:
    """Microseconds of a step of each contestant, and seconds of compiling where there are any."""
    batches = pool(shape)
    turns: dict[str, Callable[[], None]] = {}
    step_count, compiling = {}, {}
    for name, made in contestants:
        try:
            contestant = made(shape, batches)
        except Exception as error:  # torch.compile needs a C++ compiler and more
            print(f"{name} does not build {shape}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        if hasattr(contestant, "compile_seconds"):
            compiling[name] = contestant.compile_seconds
        step_count[name] = steps_of_a_turn(contestant, batches)
        turns[name] = lambda c=contestant, n=step_count[name]: c.run(n)
    seconds = taking_turns(turns, rounds)
    return {
        "shape": str(shape),
        "microseconds": {name: 1e6 * s / step_count[name] for name, s in seconds.items()},
        "compile_seconds": compiling,
    }


def steps_of_a_turn(contestant: Contestant, batches: Pool) -> int:
    """A multiple of the pool's batches that takes about TURN seconds."""
    count = len(batches.x)
    contestant.run(count)
    began = time.perf_counter()
    contestant.run(count)
    return count * max(round(TURN / (time.perf_counter() - began)), 1)


def taking_turns(turns: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Measure the median seconds of each; each round runs all of them once."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            gc.collect()
            began = time.perf_counter()
            turn()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measured_trials(
    name: str,
    shape: Shape,
    split: Split,
    epochs: int,
    entered: list[tuple[str, type[Entrant]]],
    rounds: int,
) -> dict[str, Any]:
    """Milliseconds of a whole trial (JAX's compiling not counted), and what it reached."""
    accuracy = {n: c.trial(shape, split, epochs) for n, c in entered}
    turns = {n: lambda c=c: c.trial(shape, split, epochs) for n, c in entered}
    return {
        "trial": name,
        "shape": str(shape),
        "milliseconds": {n: 1e3 * s for n, s in taking_turns(turns, rounds).items()},
        "validation_accuracy": accuracy,
    }


def ratios(steps: list[dict[str, Any]], trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Compute the ratios of the table: other / ours, except for the products."""
    us = [step["microseconds"] for step in steps]
    found: dict[str, Any] = {}
    for other in ("pytorch", "torch.compile", "jax", "scikit-learn"):
        each = [row[other] / row["caviar"] for row in us if other in row]
        if each:
            found[f"{other} / caviar, geometric mean"] = math.prod(each) ** (1 / len(each))
            found[f"{other} / caviar, least"] = min(each)
    large = [row["caviar"] / row["products"] for row in us if row["products"] > 500]
    found["caviar / products, largest where the products take over 0.5 ms"] = max(large)
    for trial in trials:
        for other, milliseconds in trial["milliseconds"].items():
            if other != "caviar":
                found[f"{other} / caviar, {trial['trial']}"] = (
                    milliseconds / trial["milliseconds"]["caviar"]
                )
    return found


def allocations(shape: Shape) -> int:
    """Steps of a hundred that take memory of ours beyond small change, once a few are done."""
    from benchmarks.contestants.caviar_numpy import Contestant as Ours

    ours, found = Ours(shape, pool(shape)), 0
    del ours.batches[1:]
    tracemalloc.start()
    for _ in range(5):
        ours.run(1)
    for _ in range(100):
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        ours.run(1)
        found += tracemalloc.get_traced_memory()[1] - before > SMALL_CHANGE
    tracemalloc.stop()
    return found


def digits() -> Split:
    """scikit-learn's digits, a fifth of them for validation."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return standardised(x, y, held_out=360)


def mnist(folder: Path) -> Split:
    """The 60,000 training images, a sixth of them for validation."""
    from pipelines.data.sources import load_source

    frame = load_source(str(folder)).frame
    target = frame.columns[-1]
    x = frame.drop(columns=target).to_numpy(np.float32)
    return standardised(x, frame[target].to_numpy(np.int64), held_out=10_000)


def standardised(x: Any, y: Any, *, held_out: int) -> Split:
    """Shuffled once; features shifted and scaled by the training part."""
    order = np.random.default_rng(0).permutation(len(x))
    train, rest = order[held_out:], order[:held_out]
    x, y = np.asarray(x, np.float32), np.asarray(y, np.int64)
    mean, deviation = x[train].mean(0), x[train].std(0)
    x = (x - mean) / np.where(deviation > 0, deviation, 1)
    return Split(x[train], y[train], x[rest], y[rest])


def machine() -> dict[str, str]:
    """Describe the machine and the versions of the libraries."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")),
            processor,
        )
    packages = {}
    for package in ("numpy", "torch", "jax", "scikit-learn"):
        try:
            packages[package] = version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"processor": processor, "python": platform.python_version(), **packages}


def show(console: Console, figures: dict[str, Any], names: list[str]) -> None:
    """Print the table and the ratios."""
    console.print(", ".join(f"{k} {v}" for k, v in figures["machine"].items()))
    table = Table(title="microseconds a training step, one thread", title_justify="left")
    table.add_column("shape")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("seconds to compile (jax, torch)", justify="right")
    for step in figures["steps"]:
        seconds = step["compile_seconds"]
        compiled = [f"{seconds[n]:.1f}" for n in ("jax", "torch.compile") if n in seconds]
        cells = [
            f"{step['microseconds'][n]:,.0f}" if n in step["microseconds"] else "–" for n in names
        ]
        table.add_row(step["shape"], *cells, ", ".join(compiled))
    console.print(table)
    table = Table(title="milliseconds a whole trial", title_justify="left")
    table.add_column("trial")
    entered = list(figures["trials"][0]["milliseconds"])
    for name in entered:
        table.add_column(name, justify="right")
    for trial in figures["trials"]:
        cells = [
            f"{trial['milliseconds'][n]:,.0f} ({trial['validation_accuracy'][n]:.3f})"
            for n in entered
        ]
        table.add_row(trial["trial"], *cells)
    console.print(table)
    for name, value in figures["ratios"].items():
        console.print(f"{value:8.2f}  {name}")
    console.print(
        f"{max(figures['steps_of_a_hundred_that_allocate'].values()):8d}  "
        f"steps of a hundred that take more than {SMALL_CHANGE} bytes of memory"
    )


if __name__ == "__main__":
    main()
