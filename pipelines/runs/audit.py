"""`caviar audit`: judge pruning by trials that it left behind, trained to the end afterwards.

The audited trials were drawn at random, and no decision used them. Together with the trials that
pruning let through to the end they stand for all trials. In this stratified sample an audited trial
has the weight (trials left behind / trials audited), a trial that was let through has the weight 1.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta, binomtest

from orchestrator.errors import RunError
from orchestrator.search.spec import SearchSpec
from orchestrator.search.trial import LEFT_BEHIND, Status
from pipelines.runs.finalists import make_repeat_spec
from pipelines.runs.spec import Spec, compare_specs
from pipelines.see.configs import read_trial_config
from pipelines.see.ranking import compute_losses
from pipelines.see.run import RunTables
from pipelines.see.run_spec import read_run_spec
from pipelines.see.views import count_saved_epochs

__all__ = ["AuditResult", "AuditedRung", "evaluate_audits", "format_audit", "make_audit_spec"]

CONFIDENCE = 0.95  #: level of the intervals
RESAMPLES = 500  #: draws of the bootstrap
LEAST = 10  #: fewest audits for intervals of the rungs, and for advice
#: A rung is late enough if its better half holds the share RETAINED of the best quarter (TOP).
TOP, RETAINED = 0.25, 0.9

Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedRung:
    """How well the losses at a rung predict the losses at the last epoch."""

    epoch: int  #: the rung
    correlation: float  #: Spearman's, between the loss at the rung and at the last epoch
    low: float  #: low end of the correlation's interval; NaN with fewer audits than LEAST
    high: float  #: high end of the correlation's interval
    retained: float  #: share of the best quarter at the end that is in the rung's better half
    retained_low: float  #: low end of that share's interval; NaN with fewer audits than LEAST
    retained_high: float  #: high end of that share's interval


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """What the audits say about a run's pruning."""

    audits: int  #: audited trials that were trained to the end, or until they diverged
    left_behind: int  #: trials that the audited ones stand for
    complete: int  #: trials that pruning let through to the end
    better: int  #: audited trials that became better than the run's best model: false kills
    low: float  #: low end of the exact interval of better / audits (Clopper & Pearson 1934)
    high: float  #: high end of that interval
    saved: int  #: epochs that pruning saved
    whole: int  #: epochs that all trials would have needed without pruning
    rungs: tuple[AuditedRung, ...]
    grace: int | None  #: first rung from which on all are surely late enough; None without one
    max_epochs: int  #: epochs of one audited trial
    promoted: int  #: audited trials that do not count: the run itself trained them on later
    grown: bool  #: whether trials were left behind after audits had been drawn


def make_audit_spec(spec: Spec, run: RunTables, *, epochs: int) -> Spec:
    """The spec of a run that trains some of the trials that pruning left behind, with their seeds.

    Raises:
        RunError: If nothing was left behind, or the epochs do not suffice for one.
    """
    left = run.trials[run.trials["status"].isin(LEFT_BEHIND)].sort_values("seed")  # by lot
    count = epochs // spec.max_epochs
    if left.empty:
        raise RunError(f"{run.folder}: an audit needs trials that pruning left behind, found none")
    if count == 0:
        raise RunError(
            f"an audit needs at least the {spec.max_epochs} epochs of one trial, "
            f"got `epochs={epochs}`"
        )
    chosen = left.head(count)
    configs = tuple(
        run.space.check_config(read_trial_config(run, t), source="audit") for t in chosen["trial"]
    )
    seeds = tuple(int(seed) for seed in chosen["seed"])
    return make_repeat_spec(
        spec, run, SearchSpec(method="audit", initial_configs=configs, initial_seeds=seeds)
    )


def evaluate_audits(spec: Spec, run: RunTables, audits: RunTables) -> AuditResult:
    """Judge a run's pruning by its audited trials.

    Args:
        spec: The run's spec.
        run: The run.
        audits: The run's own audits, or a run of the spec that `make_audit_spec` made.

    Raises:
        RunError: If no audit has come to its end yet, or they are another run's.
    """
    left_behind = run.trials["status"].isin(LEFT_BEHIND)
    waiting, all_trials = (
        set(_identify_trials(run, run.trials[left_behind])),
        set(_identify_trials(run, run.trials)),
    )
    repeated = _identify_trials(run, audits.trials)
    others = compare_specs(replace(read_run_spec(audits.folder), search=spec.search), spec)
    if others or not all_trials.issuperset(repeated):
        raise RunError(
            f"{audits.folder}: needs audits of {run.folder}, got trials that it never had; "
            f"give another folder with `out`"
        )
    ended = audits.trials["status"].isin([Status.COMPLETED, Status.DIVERGED])
    counts = np.array([trial in waiting for trial in repeated], bool)
    tried = audits.trials.loc[ended & counts, "trial"]
    if tried.empty:
        raise RunError(
            f"{audits.folder}: no audit of a trial that is still left behind has come to its end"
        )
    through = run.trials.loc[run.trials["status"] == Status.COMPLETED, "trial"]
    left = int(left_behind.sum())
    last_drawn = audits.trials["seed"].max()  # the lot draws the smallest seeds first
    of_audits = _read_loss_curves(audits, tried, spec.max_epochs)
    curves = np.concatenate([of_audits, _read_loss_curves(run, through, spec.max_epochs)])
    weights = np.repeat([left / len(tried), 1.0], [len(tried), len(through)])
    best = compute_losses(run, run.epochs).min()
    better = int((of_audits.min(axis=1) < best).sum())
    interval = binomtest(better, len(tried)).proportion_ci(CONFIDENCE, method="exact")
    rungs = tuple(
        _judge_rung(epoch, curves, weights, len(tried)) for epoch in spec.search.rungs[:-1]
    )
    return AuditResult(
        audits=len(tried),
        left_behind=left,
        complete=len(through),
        better=better,
        low=float(interval.low),
        high=float(interval.high),
        saved=count_saved_epochs(run, spec.max_epochs),
        whole=len(run.trials) * spec.max_epochs,
        rungs=rungs,
        grace=_choose_grace(rungs),
        max_epochs=spec.max_epochs,
        promoted=int((~counts).sum()),
        grown=any(seed < last_drawn for seed, *_ in waiting.difference(repeated)),
    )


def format_audit(result: AuditResult) -> list[str]:
    """Write an audit's result as lines for a person."""
    rate = result.better / result.audits
    lines = [
        f"{result.audits} of the {result.left_behind} trials that pruning left behind were trained "
        f"to the end",
        "",
        f"  false kills  {result.better} of {result.audits} became better than the best model: "
        f"{rate:.0%} ({result.low:.0%} to {result.high:.0%})",
        f"  saved        {result.saved:,} epochs of {result.whole:,}: "
        f"{result.saved / result.whole:.0%}",
        "",
        "  rung      rank correlation with the end  of the best quarter, in the better half here",
    ]
    for r in result.rungs:
        correlation, retained = f"{r.correlation:.2f}", f"{r.retained:.0%}"
        if result.audits >= LEAST:
            correlation += f" ({r.low:.2f} to {r.high:.2f})"
            retained += f" ({r.retained_low:.0%} to {r.retained_high:.0%})"
        lines.append(f"  epoch {r.epoch:<4}{correlation:>29}  {retained}")
    lines += ["", _advise(result)]
    if result.promoted:
        lines.append(
            f"note: {result.promoted} more do not count: "
            f"the run itself trained these trials on later"
        )
    if result.grown:
        lines.append(
            "note: some trials were left behind after audits had been drawn; "
            "the audits represent the earlier ones better"
        )
    return lines


def _advise(result: AuditResult) -> str:
    epochs = 2 * max(result.audits, LEAST) * result.max_epochs
    more = f"; --total-epochs {epochs} --out FOLDER trains more"
    more = more if result.audits < result.left_behind else ""
    retained = f"{RETAINED:.0%} of the trials that end in the best quarter"
    if result.audits < LEAST:
        few = f"{result.audits} of at least {LEAST}"
        return f"too few audits to choose a grace period ({few}){more}"
    if result.grace is not None:
        grace = f"{result.grace} epoch{'s' * (result.grace != 1)}"
        return (
            f"the data support a grace period of {grace}: the better half surely holds {retained}"
        )
    if all(r.retained_high < RETAINED for r in result.rungs):
        return f"no rung's better half holds {retained}: the data support a longer grace period"
    return f"the audits do not show from which rung on the better half holds {retained}{more}"


def _identify_trials(run: RunTables, trials: pd.DataFrame) -> list[tuple[Any, ...]]:
    """List what each trial shares with its audit: the seed and the configuration."""
    names = ["seed", *(f"config_{name}" for name in run.space.names)]
    rows = trials.reindex(columns=names).itertuples(index=False)
    return [tuple(None if pd.isna(value) else value for value in row) for row in rows]


def _choose_grace(rungs: tuple[AuditedRung, ...]) -> int | None:
    """The first rung from which on all rungs are late enough; an interval of NaN is not enough."""
    late = itertools.takewhile(lambda r: r.retained_low >= RETAINED, reversed(rungs))
    return min((r.epoch for r in late), default=None)


def _read_loss_curves(run: RunTables, trials: pd.Series[int], epochs: int) -> Array:
    """Losses, shape (trials, epochs); infinite after a trial's last epoch."""
    rows = run.epochs[run.epochs["trial"].isin(trials)]
    table = rows.assign(loss=compute_losses(run, rows)).pivot(
        index="trial", columns="epoch", values="loss"
    )
    whole = table.reindex(index=trials, columns=range(1, epochs + 1))
    return whole.astype(float).fillna(np.inf).to_numpy()


def _judge_rung(epoch: int, curves: Array, weights: Array, audits: int) -> AuditedRung:
    here, end = curves[:, epoch - 1], curves[:, -1]
    top = _rank_values(end, weights) <= TOP
    better = _rank_values(here, weights) <= 0.5
    retained = float(weights[top & better].sum() / max(weights[top].sum(), 1e-12))
    between = retained_between = (float("nan"), float("nan"))
    if audits >= LEAST and top.any():
        between = _bootstrap_correlation(here, end, weights, audits, np.random.default_rng(epoch))
        retained_between = _estimate_share_interval(retained, weights[top])
    return AuditedRung(
        epoch=epoch,
        correlation=_correlate(here, end, weights),
        low=between[0],
        high=between[1],
        retained=retained,
        retained_low=retained_between[0],
        retained_high=retained_between[1],
    )


def _bootstrap_correlation(
    here: Array, end: Array, weights: Array, audits: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Interval of the correlation, by a bootstrap within the two strata."""
    drawn = []
    for _ in range(RESAMPLES):
        strata = (0, audits), (audits, len(here))
        i = np.concatenate([rng.integers(a, b, size=b - a) for a, b in strata if b > a])
        drawn.append(_correlate(here[i], end[i], weights[i]))
    low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _estimate_share_interval(share: float, weights: Array) -> tuple[float, float]:
    """Exact interval of a weighted share, with the effective number of trials.

    That number is (sum of w)^2 / sum of w^2 (Kish 1965); Korn & Graubard 1998 put it into Clopper
    and Pearson's interval. A bootstrap of a few trials that are all retained would have no width.
    """
    count = weights.sum() ** 2 / (weights**2).sum()
    tail, hits = (1 - CONFIDENCE) / 2, share * count
    low = beta.ppf(tail, hits, count - hits + 1) if hits > 0 else 0.0
    high = beta.isf(tail, hits + 1, count - hits) if count - hits > 1e-9 else 1.0
    return float(low), float(high)


def _rank_values(values: Array, weights: Array) -> Array:
    """Place of each value among all, from 0 to 1; equal values share the middle of their places."""
    _, number = np.unique(values, return_inverse=True)
    mass = np.bincount(number, weights)
    middle: Array = (np.cumsum(mass) - mass / 2) / mass.sum()
    return middle[number]


def _correlate(a: Array, b: Array, weights: Array) -> float:
    """Spearman's correlation: Pearson's of the places; NaN where all values are equal."""
    x, y = _rank_values(a, weights), _rank_values(b, weights)
    x, y = x - np.average(x, weights=weights), y - np.average(y, weights=weights)
    spread = np.sqrt((weights @ x**2) * (weights @ y**2))
    return float(weights @ (x * y) / spread) if spread > 0 else float("nan")
