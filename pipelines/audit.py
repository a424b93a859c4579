"""`caviar audit`: was pruning right? From trials that it left behind and that were trained on.

They were chosen by lot, and no decision saw them. Together with the trials that pruning let
through to the end they stand for all: each audited one for as many as were left behind in all over
those that were audited (a stratified sample, with weights).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from orchestrator.errors import RunError
from orchestrator.spec import SearchSpec, Spec
from orchestrator.trial import LEFT_BEHIND, Status
from pipelines.analysis import Run, config_of, loss_of
from pipelines.finalists import repeating
from pipelines.views import saved_epochs

__all__ = ["Audited", "AuditedRung", "audit", "audit_lines", "audit_spec"]

SURE = 0.95  #: of the intervals
RESAMPLES = 500
TOP, KEPT = 0.25, 0.9  #: a rung is late enough if its better half holds KEPT of the TOP at the end

Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedRung:
    """What a rung knew of the end."""

    epoch: int
    correlation: float  #: Spearman's, between the loss here and at the last epoch
    low: float
    high: float
    kept: float  #: of the best quarter at the end, the share that is in the better half here


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """The answer."""

    audits: int  #: trained to the end, or until they diverged
    left_behind: int  #: trials that they stand for
    complete: int  #: trials that pruning let through to the end
    better: int  #: audits that beat the run's best model: false kills
    low: float  #: of the rate's exact interval (Clopper & Pearson 1934)
    high: float
    saved: int  #: epochs that pruning saved
    whole: int  #: epochs that all trials would have needed
    rungs: tuple[AuditedRung, ...]
    grace: int | None  #: the first rung that is late enough, if one is


def audit_spec(spec: Spec, run: Run, *, epochs: int) -> Spec:
    """The spec of a run that trains some of those that pruning left behind, as they would have.

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
            f"got --total-epochs {epochs}"
        )
    chosen = left.head(count)
    given = tuple(run.space.check(config_of(run, t), source="audit") for t in chosen["trial"])
    seeds = tuple(int(seed) for seed in chosen["seed"])
    return repeating(spec, run, SearchSpec(method="audit", given=given, given_seeds=seeds))


def audit(spec: Spec, run: Run, audits: Run) -> Audited:
    """What the audits say of the run's pruning.

    Args:
        spec: Of the run.
        run: The search.
        audits: Its own audits, or a run of `audit_spec`'s.

    Raises:
        RunError: If no audit has come to its end yet, or they are another run's.
    """
    if not audits.trials["seed"].isin(run.trials["seed"]).all():
        raise RunError(
            f"{audits.folder}: needs audits of {run.folder}, got trials that it never had; "
            f"give another folder with --out"
        )
    ended = [Status.COMPLETED, Status.DIVERGED]
    tried = audits.trials.loc[audits.trials["status"].isin(ended), "trial"]
    if tried.empty:
        raise RunError(f"{audits.folder}: no audit has come to its end yet")
    through = run.trials.loc[run.trials["status"] == Status.COMPLETED, "trial"]
    left = int(run.trials["status"].isin(LEFT_BEHIND).sum())
    of_audits = _curves(audits, tried, spec.max_epochs)
    curves = np.concatenate([of_audits, _curves(run, through, spec.max_epochs)])
    weights = np.repeat([max(left, len(tried)) / len(tried), 1.0], [len(tried), len(through)])
    best = loss_of(run, run.epochs).min()
    better = int((of_audits.min(axis=1) < best).sum())
    interval = binomtest(better, len(tried)).proportion_ci(SURE, method="exact")
    rungs = tuple(_rung(epoch, curves, weights, len(tried)) for epoch in spec.search.rungs[:-1])
    return Audited(
        audits=len(tried),
        left_behind=left,
        complete=len(through),
        better=better,
        low=float(interval.low),
        high=float(interval.high),
        saved=saved_epochs(run, spec.max_epochs),
        whole=len(run.trials) * spec.max_epochs,
        rungs=rungs,
        grace=next((r.epoch for r in rungs if r.kept >= KEPT), None),
    )


def audit_lines(found: Audited) -> list[str]:
    """For a person."""
    rate = found.better / found.audits
    lines = [
        f"{found.audits} of the {found.left_behind} trials that pruning left behind were trained "
        f"to the end",
        "",
        f"  false kills  {found.better} of {found.audits} came to beat the best model: "
        f"{rate:.0%} ({found.low:.0%} to {found.high:.0%})",
        f"  saved        {found.saved:,} epochs of {found.whole:,}: "
        f"{found.saved / found.whole:.0%}",
        "",
        "  rung      rank correlation with the end  of the best quarter, in the better half here",
    ]
    for r in found.rungs:
        told = f"{r.correlation:.2f} ({r.low:.2f} to {r.high:.2f})"
        lines.append(f"  epoch {r.epoch:<4}{told:>29}  {r.kept:.0%}")
    kept = f"holds {KEPT:.0%} of the trials that end in the best quarter"
    if found.grace is None:
        last = f"no rung's better half {kept}: the data speak for a longer grace period"
    else:
        last = f"the data speak for a grace period of {found.grace} epochs: the better half {kept}"
    return [*lines, "", last]


def _curves(run: Run, trials: pd.Series[int], epochs: int) -> Array:
    """Losses, shape (trials, epochs); inf from where a trial has none."""
    rows = run.epochs[run.epochs["trial"].isin(trials)]
    table = rows.assign(loss=loss_of(run, rows)).pivot(
        index="trial", columns="epoch", values="loss"
    )
    whole = table.reindex(index=trials, columns=range(1, epochs + 1))
    return whole.astype(float).fillna(np.inf).to_numpy()


def _rung(epoch: int, curves: Array, weights: Array, audits: int) -> AuditedRung:
    here, end = curves[:, epoch - 1], curves[:, -1]
    rng = np.random.default_rng(epoch)
    drawn = []
    for _ in range(RESAMPLES):  # within the two strata
        strata = (0, audits), (audits, len(curves))
        i = np.concatenate([rng.integers(a, b, size=b - a) for a, b in strata if b > a])
        drawn.append(_correlation(here[i], end[i], weights[i]))
    low, high = np.nanquantile(drawn, [(1 - SURE) / 2, (1 + SURE) / 2])
    top = _places(end, weights) <= TOP
    better = _places(here, weights) <= 0.5
    return AuditedRung(
        epoch=epoch,
        correlation=_correlation(here, end, weights),
        low=float(low),
        high=float(high),
        kept=float(weights[top & better].sum() / max(weights[top].sum(), 1e-12)),
    )


def _places(values: Array, weights: Array) -> Array:
    """Where each value stands among all, from 0 to 1; equals share the middle of their places."""
    _, number = np.unique(values, return_inverse=True)
    mass = np.bincount(number, weights)
    middle: Array = (np.cumsum(mass) - mass / 2) / mass.sum()
    return middle[number]


def _correlation(a: Array, b: Array, weights: Array) -> float:
    """Spearman's: Pearson's of the places; NaN where all are equal."""
    x, y = _places(a, weights), _places(b, weights)
    x, y = x - np.average(x, weights=weights), y - np.average(y, weights=weights)
    spread = np.sqrt((weights @ x**2) * (weights @ y**2))
    return float(weights @ (x * y) / spread) if spread > 0 else float("nan")
