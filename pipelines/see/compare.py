"""`caviar compare`: several runs side by side, what their specs differ in, a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import ttest_rel

from orchestrator.errors import RunError
from orchestrator.search.events import Kind
from pipelines.runs.spec import Spec, differences
from pipelines.see.formatting import format_duration, format_number
from pipelines.see.run import Run, load, read_run_spec, summary

__all__ = ["Compared", "Paired", "compare", "compare_runs", "format_comparison", "kinds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Two ways to search, run with the same seeds: how much better the first one's best are."""

    first: str  #: a run of the one kind, which stands for all of it
    second: str
    seeds: int
    gain: float  #: the mean difference of the metric, above 0 where the first is better
    error: float  #: its standard error
    chance: float  #: of a difference as large or larger if there were none (paired t-test)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Runs beside each other."""

    table: pd.DataFrame  #: one row a run
    differences: list[str]  #: of each spec to the first one's; empty for the first
    paired: list[Paired]
    metric: str


def compare(folders: list[Path]) -> Compared:
    """What each run came to, and how they differ.

    Raises:
        RunError: If there are fewer than two, or their objectives differ.
    """
    if len(folders) < 2:
        raise RunError(f"compare needs at least two runs, got {len(folders)}")
    return compare_runs([(read_run_spec(folder), load(folder)) for folder in folders])


def compare_runs(runs: Sequence[tuple[Spec, Run]]) -> Compared:
    """The same of runs that are read already.

    Raises:
        RunError: If their objectives differ, or one is given twice.
    """
    folders = [run.folder.resolve() for _, run in runs]
    if len(set(folders)) < len(folders):
        twice = next(f for f in folders if folders.count(f) > 1)
        raise RunError(f"compare needs different runs, got {twice} twice")
    objective = runs[0][1].objective
    for _, run in runs[1:]:
        if run.objective != objective:
            raise RunError(
                f"compare needs runs that are decided by the same metric, got {objective.metric} "
                f"in {runs[0][1].folder} and {run.objective.metric} in {run.folder}"
            )
    found = [_row(run) for _, run in runs]
    return Compared(
        table=pd.DataFrame(found),
        differences=["; ".join(_differences(runs[0], other)) for other in runs],
        paired=_paired(
            [(spec, run, row["best"]) for (spec, run), row in zip(runs, found, strict=True)]
        ),
        metric=str(objective),
    )


def kinds(runs: Sequence[tuple[Spec, Run]]) -> list[list[tuple[Spec, Run]]]:
    """The runs, those together that differ in their seed alone, which each of them has once."""
    found: list[list[tuple[Spec, Run]]] = []
    for spec, run in runs:
        for own in found:
            first, seeds = own[0], [s.seed for s, _ in own]
            if spec.seed not in seeds and not _differences(
                (replace(first[0], seed=spec.seed), first[1]), (spec, run)
            ):
                own.append((spec, run))
                break
        else:
            found.append([(spec, run)])
    return found


def _differences(a: tuple[Spec, Run], b: tuple[Spec, Run]) -> list[str]:
    """Of their specs, and of the budgets that they were given in all."""
    first, second = budget_of(a[1]), budget_of(b[1])
    budgets = [
        f"{name}: {first.get(name, 'no limit')} -> {second.get(name, 'no limit')}"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]
    return differences(a[0], b[0]) + budgets


def format_comparison(found: Compared) -> list[str]:
    """For a person."""
    width = max(len(name) for name in found.table["run"])
    lines = [
        f"{'run':{width}}  {found.metric:>20}  {'test':>8}  {'trials':>7}  {'epochs':>8}  time"
    ]
    for (_, row), told in zip(found.table.iterrows(), found.differences, strict=True):
        lines.append(
            f"{row['run']:{width}}  {_told(row['best']):>20}  {_told(row['test']):>8}  "
            f"{row['trials']:>7}  {row['epochs']:>8}  {format_duration(row['seconds'])}"
            f"{'' if row['status'] == 'finished' else ' (' + row['status'] + ')'}"
        )
        if told:
            lines.append(f"{'':{width}}  differs in {told}")
    for pair in found.paired:
        lines.append(
            f"same {pair.seeds} seeds: {pair.first} and its like are better than {pair.second} and "
            f"its like by {pair.gain:+.4g} ± {pair.error:.2g} (p = {pair.chance:.2g})"
        )
    if not found.paired:
        lines.append("no paired test: it needs two or more runs of each kind with the same seeds")
    return lines


def budget_of(run: Run) -> dict[str, str]:
    """What the last session was given, by the command's options."""
    last = run.events[run.events["kind"] == Kind.SESSION].iloc[-1]
    columns = {
        "--time": "budget_seconds", "--trials": "budget_trials", "--total-epochs": "budget_epochs"
    }  # fmt: skip
    known = {name: last[column] for name, column in columns.items() if pd.notna(last[column])}
    return {
        name: format_duration(float(value)) if name == "--time" else f"{int(value):,}"
        for name, value in known.items()
    }


def _row(run: Run) -> dict[str, Any]:
    told = summary(run)
    top = told["best"]
    name = run.objective.metric.removeprefix("validation_")
    return {
        "run": str(run.folder),
        "status": told["status"],
        "best": top["validation"].get(name, float("nan")) if top else float("nan"),
        "test": top["test"].get(name, float("nan")) if top else float("nan"),
        "trials": told["trials"],
        "epochs": told["epochs"],
        "seconds": told["seconds"],
    }


def _paired(runs: list[tuple[Spec, Run, float]]) -> list[Paired]:
    """Kinds of runs, compared seed by seed."""
    best = {id(run): value for _, run, value in runs}
    grouped = [
        (own[0][1].folder, {spec.seed: best[id(run)] for spec, run in own})
        for own in kinds([(spec, run) for spec, run, _ in runs])
    ]
    sign = 1 if runs[0][1].objective.maximize else -1
    found = []
    for (first, a), (second, b) in combinations(grouped, 2):
        seeds = sorted(a.keys() & b.keys())
        if len(seeds) < 2:
            continue
        gains = pd.Series([sign * (a[s] - b[s]) for s in seeds])
        spread = float(gains.std(ddof=1))
        chance = (
            float(ttest_rel([a[s] for s in seeds], [b[s] for s in seeds]).pvalue)
            if spread
            else float(gains.mean() == 0)
        )
        found.append(
            Paired(
                first=str(first), second=str(second), seeds=len(seeds), gain=float(gains.mean()),
                error=spread / len(seeds) ** 0.5, chance=chance,
            )
        )  # fmt: skip
    return found


def _told(value: float) -> str:
    return "" if pd.isna(value) else format_number(float(value))
