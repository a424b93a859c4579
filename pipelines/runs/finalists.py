"""`caviar finalists`: the best configurations of a run, trained again on fresh random numbers.

The best of many noisy results looks better than it is. So the few best configurations are trained
with several seeds that no decision has seen, on the same split of the data. Their means say which
one is best, which ones cannot be distinguished from it, and how optimistic the search was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from orchestrator.errors import RunError, SpecError
from orchestrator.search.random_streams import derive_trial_seed
from orchestrator.search.spec import MAX_CONFIGS, SearchSpec
from pipelines.runs.spec import Spec
from pipelines.runs.warm_start import select_best_configs
from pipelines.see.formatting import format_number
from pipelines.see.ranking import compute_losses, number_configs, rank_epochs
from pipelines.see.run import RunTables
from pipelines.see.summary import describe_best
from trainers.training.metrics import find_metric

__all__ = [
    "Finalist",
    "format_finalists",
    "make_finalists_spec",
    "make_repeat_spec",
    "rank_finalists",
]

FRESH = 2**40  #: the number of the first fresh seed: no run has as many trials
CONFIDENCE = 0.95  #: level of the intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist:
    """One configuration that was trained again; the best epoch of each training counts."""

    rank: int  #: place in the search, from 1
    values: tuple[float, ...]  #: the metric for each seed that had a result
    missing: int  #: seeds without a result: diverged or failed at once, or not trained yet
    mean: float  #: mean of the values
    low: float  #: low end of the mean's interval; NaN with a single seed
    high: float  #: high end of the mean's interval
    tied: bool  #: whether the paired differences to the best one do not exclude zero


def make_repeat_spec(spec: Spec, run: RunTables, search: SearchSpec) -> Spec:
    """The spec of a run that trains given configurations of another, on its data and its split.

    Raises:
        SpecError: If there are too many configurations for a spec.
    """
    _check_count(run, len(search.initial_configs))
    inherited = {
        name: getattr(spec.search, name) for name in ("explode_above", "retries", "state_budget")
    }
    whole = replace(
        search, sampler="none", pruning="none", zooms=0, rungs=(spec.max_epochs,), **inherited
    )
    return replace(spec, parent_run=str(run.folder.absolute()), search=whole)


def _check_count(run: RunTables, trainings: int) -> None:
    """Refuse more configurations than a spec can list."""
    if trainings > MAX_CONFIGS:
        raise SpecError(
            f"{run.folder}: at most {MAX_CONFIGS:,} trials can be trained again at once, "
            f"got {trainings:,}; ask for fewer"
        )


def make_finalists_spec(spec: Spec, run: RunTables, *, top: int, seeds: int) -> Spec:
    """The best `top` configurations, each with the same `seeds` fresh seeds, in turns.

    Raises:
        RunError: If no trial of the run has a result.
        SpecError: If there are too many configurations for a spec.
    """
    configs = select_best_configs(run, run.space, top)
    if not configs:
        raise RunError(f"{run.folder}: finalists need trials with results, found none")
    _check_count(run, len(configs) * seeds)
    fresh = [derive_trial_seed(spec.seed, FRESH + i) for i in range(seeds)]
    search = SearchSpec(
        method="finalists",
        initial_configs=tuple(config for _ in fresh for config in configs),
        initial_seeds=tuple(seed for seed in fresh for _ in configs),
    )
    return make_repeat_spec(spec, run, search)


def rank_finalists(run: RunTables) -> list[Finalist]:
    """The configurations of a finalists' run, the best mean first."""
    o = run.objective
    losses = compute_losses(run, run.epochs).groupby(run.epochs["trial"]).min()
    by_trial, kinds = run.trials.set_index("trial"), number_configs(run)
    table = pd.DataFrame(
        {
            "kind": kinds,
            "seed": by_trial["seed"],
            "loss": losses.reindex(by_trial.index).replace(np.inf, np.nan).astype(float),
        }
    ).pivot(index="seed", columns="kind", values="loss")
    results = []
    order = [
        int(k) for k in rank_epochs(run)["trial"].map(kinds).unique()
    ]  # ties as best/ breaks them
    whole = table.loc[:, table.notna().all()]
    leader = next((kind for kind in order if kind in whole), None)
    for kind in (*order, *(k for k in map(int, table.columns) if k not in order)):
        values_of_kind = table[kind].dropna().to_numpy()
        centre, reach = _estimate_interval(values_of_kind)
        values = tuple(o.value(float(loss)) for loss in values_of_kind)
        low, high = sorted((o.value(centre - reach), o.value(centre + reach)))
        results.append(
            Finalist(
                rank=kind + 1,
                values=values,
                missing=int(table[kind].isna().sum()),
                mean=o.value(centre),
                low=low,
                high=high,
                tied=kind in whole and _is_tied((table[kind] - table[leader]).to_numpy()),
            )
        )
    return sorted(results, key=lambda f: f.missing > 0)


def format_finalists(
    run: RunTables, parent: RunTables | None, ranking: Sequence[Finalist]
) -> list[str]:
    """Write the ranking of the finalists as lines for a person."""
    seeds, plural = len(ranking[0].values) + ranking[0].missing, "s" * (len(ranking) != 1)
    metric = find_metric(run.objective.metric)
    bounds = metric.bounds if metric else (-np.inf, np.inf)  # Student's interval knows none
    lines = [
        f"the best {len(ranking)} configuration{plural}, each trained again with "
        f"{seeds} fresh seed{'s' * (seeds != 1)}",
        "",
        f"  {run.objective!s:>20}  {'95 % of the mean':>18}  in the search",
    ]
    for i, f in enumerate(ranking):
        low, high = np.clip([f.low, f.high], *bounds)
        between = "" if np.isnan(low) else f"{format_number(low)} to {format_number(high)}"
        verdict = "best" if i == 0 else "tied with the best" if f.tied else ""
        if f.missing:
            verdict = f"no result with {f.missing} of {seeds} seed{'s' * (seeds != 1)}"
        lines.append(
            f"  {format_number(f.mean):>20}  {between:>18}  place {f.rank:<7} {verdict}".rstrip()
        )
    first = next(f for f in ranking if f.rank == 1)
    if parent is not None and len(ranked := rank_epochs(parent)) and first.values:
        claimed = float(ranked.iloc[0][run.objective.metric])
        excess = (claimed - first.mean) * (1 if run.objective.maximize else -1)
        bias = f"{abs(excess):.2g} too {'good' if excess >= 0 else 'bad'}"
        lines += [
            "",
            f"the search reported {format_number(claimed)} for its best; "
            f"the mean with fresh seeds is {format_number(first.mean)}: {bias}",
        ]
    chosen = describe_best(run)
    if chosen is not None and chosen["test"]:
        metrics = ", ".join(
            f"{name} {format_number(value)}" for name, value in chosen["test"].items()
        )
        lines.append(f"on the test split, which no decision has used, the best one has {metrics}")
    if chosen is not None and chosen["model"]:
        lines.append(f"model    {chosen['model']} (trial {chosen['trial']})")
    return lines


def _estimate_interval(values: np.ndarray) -> tuple[float, float]:
    """Mean of the values, and the reach of Student's interval on either side."""
    if len(values) < 2:
        return float(values.mean()) if len(values) else float("nan"), float("nan")
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean()), float(reach)


def _is_tied(differences: np.ndarray) -> bool:
    """Whether paired differences to the best one do not exclude zero; a single pair does not."""
    centre, reach = _estimate_interval(differences)
    return bool(np.isnan(reach) or centre <= reach)
