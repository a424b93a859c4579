"""`caviar compare`: several runs side by side, the differences of their specs, a paired test."""

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
from pipelines.runs.spec import Spec, compare_specs
from pipelines.see.formatting import format_duration, format_number
from pipelines.see.run import RunTables, load_run
from pipelines.see.run_spec import read_run_spec
from pipelines.see.summary import summarize_run

__all__ = [
    "PairedComparison",
    "RunComparison",
    "compare_folders",
    "compare_runs",
    "format_comparison",
    "group_seed_repeats",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedComparison:
    """Two kinds of runs with the same seeds: how much better the first kind's best results are."""

    first: str  #: folder of one run of the first kind, which stands for all of them
    second: str  #: folder of one run of the second kind
    seeds: int  #: number of seeds that both kinds have
    gain: float  #: mean difference of the metric, above 0 where the first kind is better
    error: float  #: standard error of `gain`
    chance: float  #: p-value of the paired t-test: chance of such a difference if there were none


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Several runs side by side."""

    table: pd.DataFrame  #: one row for each run
    differences: list[str]  #: for each run: how its spec differs from the first one's
    paired: list[PairedComparison]
    metric: str  #: the metric that decides in all of the runs


def compare_folders(folders: list[Path]) -> RunComparison:
    """Compare the results of runs and their specs.

    Raises:
        RunError: If there are fewer than two, or their objectives differ.
    """
    if len(folders) < 2:
        raise RunError(f"compare needs at least two runs, got {len(folders)}")
    return compare_runs([(read_run_spec(folder), load_run(folder)) for folder in folders])


def compare_runs(runs: Sequence[tuple[Spec, RunTables]]) -> RunComparison:
    """Like `compare_folders`, for runs that are already loaded.

    Raises:
        RunError: If their objectives differ, or the same run is named twice.
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
    rows = [_summarize_row(run) for _, run in runs]
    return RunComparison(
        table=pd.DataFrame(rows),
        differences=["; ".join(_list_differences(runs[0], other)) for other in runs],
        paired=_compare_pairs(
            [(spec, run, row["best"]) for (spec, run), row in zip(runs, rows, strict=True)]
        ),
        metric=str(objective),
    )


def group_seed_repeats(
    runs: Sequence[tuple[Spec, RunTables]],
) -> list[list[tuple[Spec, RunTables]]]:
    """Group runs that differ in their seed alone; within a group each seed occurs once."""
    groups: list[list[tuple[Spec, RunTables]]] = []
    for spec, run in runs:
        for group in groups:
            first, seeds = group[0], [s.seed for s, _ in group]
            if spec.seed not in seeds and not _list_differences(
                (replace(first[0], seed=spec.seed), first[1]), (spec, run)
            ):
                group.append((spec, run))
                break
        else:
            groups.append([(spec, run)])
    return groups


def _list_differences(a: tuple[Spec, RunTables], b: tuple[Spec, RunTables]) -> list[str]:
    """The differences of two runs: of their specs, and of their whole budgets."""
    first, second = _describe_budget(a[1]), _describe_budget(b[1])
    budgets = [
        f"{name}: {first.get(name, 'no limit')} -> {second.get(name, 'no limit')}"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]
    return compare_specs(a[0], b[0]) + budgets


def format_comparison(comparison: RunComparison) -> list[str]:
    """Write a comparison as lines for a person."""
    table, metric = comparison.table, comparison.metric
    width = max(len(name) for name in table["run"])
    lines = [f"{'run':{width}}  {metric:>20}  {'test':>8}  {'trials':>7}  {'epochs':>8}  time"]
    for (_, row), difference in zip(table.iterrows(), comparison.differences, strict=True):
        status = "" if row["status"] == "finished" else f" ({row['status']})"
        lines.append(
            f"{row['run']:{width}}  {_format_cell(row['best']):>20}  "
            f"{_format_cell(row['test']):>8}  {row['trials']:>7}  {row['epochs']:>8}  "
            f"{format_duration(row['seconds'])}{status}"
        )
        if difference:
            lines.append(f"{'':{width}}  differs in {difference}")
    for pair in comparison.paired:
        lines.append(
            f"same {pair.seeds} seeds: {pair.first} and its repeats are better than {pair.second} "
            f"and its repeats by {pair.gain:+.4g} ± {pair.error:.2g} (p = {pair.chance:.2g})"
        )
    if not comparison.paired:
        lines.append("no paired test: it needs two or more runs of each kind with the same seeds")
    return lines


def _describe_budget(run: RunTables) -> dict[str, str]:
    """The whole budget of the run since its last session, by the command's options."""
    last = run.events[run.events["kind"] == Kind.SESSION].iloc[-1]
    columns = {
        "--time": "budget_seconds", "--trials": "budget_trials", "--total-epochs": "budget_epochs"
    }  # fmt: skip
    limits = {name: last[column] for name, column in columns.items() if pd.notna(last[column])}
    return {
        name: format_duration(float(value)) if name == "--time" else f"{int(value):,}"
        for name, value in limits.items()
    }


def _summarize_row(run: RunTables) -> dict[str, Any]:
    summary = summarize_run(run)
    top = summary["best"]
    name = run.objective.metric.removeprefix("validation_")
    return {
        "run": str(run.folder),
        "status": summary["status"],
        "best": top["validation"].get(name, float("nan")) if top else float("nan"),
        "test": top["test"].get(name, float("nan")) if top else float("nan"),
        "trials": summary["trials"],
        "epochs": summary["epochs"],
        "seconds": summary["seconds"],
    }


def _compare_pairs(runs: list[tuple[Spec, RunTables, float]]) -> list[PairedComparison]:
    """Compare each two groups of seed repeats, seed by seed."""
    best = {id(run): value for _, run, value in runs}
    grouped = [
        (group[0][1].folder, {spec.seed: best[id(run)] for spec, run in group})
        for group in group_seed_repeats([(spec, run) for spec, run, _ in runs])
    ]
    sign = 1 if runs[0][1].objective.maximize else -1
    compared = []
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
        compared.append(
            PairedComparison(
                first=str(first), second=str(second), seeds=len(seeds), gain=float(gains.mean()),
                error=spread / len(seeds) ** 0.5, chance=chance,
            )
        )  # fmt: skip
    return compared


def _format_cell(value: float) -> str:
    return "" if pd.isna(value) else format_number(float(value))
