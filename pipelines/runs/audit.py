"""`caviar audit`: was pruning right? From trials that it left behind and that were trained on.

They were chosen by lot, and no decision saw them. Together with the trials that pruning let
through to the end they stand for all: each audited one for as many as were left behind in all over
those that were audited (a stratified sample, with weights).
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
from pipelines.runs.spec import Spec, differences
from pipelines.see.run import Run, compute_losses, read_run_spec, read_trial_config
from pipelines.see.views import count_saved_epochs

__all__ = ["Audited", "AuditedRung", "audit", "format_audit", "make_audit_spec"]

SURE = 0.95  #: of the intervals
RESAMPLES = 500
LEAST = 10  #: audits, for intervals of what the rungs knew and for advice
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
    kept_low: float  #: of its interval; all ends are NaN with fewer audits than LEAST
    kept_high: float


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
    grace: int | None  #: from this rung on each one is surely late enough, if one is
    max_epochs: int  #: of one audit
    promoted: int  #: audits that do not count: the run went on with what they repeat
    grown: bool  #: whether trials were left behind after some audits had been drawn


def make_audit_spec(spec: Spec, run: Run, *, epochs: int) -> Spec:
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
    given = tuple(
        run.space.check_config(read_trial_config(run, t), source="audit") for t in chosen["trial"]
    )
    seeds = tuple(int(seed) for seed in chosen["seed"])
    return make_repeat_spec(
        spec, run, SearchSpec(method="audit", initial_configs=given, initial_seeds=seeds)
    )


def audit(spec: Spec, run: Run, audits: Run) -> Audited:
    """What the audits say of the run's pruning.

    Args:
        spec: Of the run.
        run: The search.
        audits: Its own audits, or a run of `make_audit_spec`'s.

    Raises:
        RunError: If no audit has come to its end yet, or they are another run's.
    """
    left_behind = run.trials["status"].isin(LEFT_BEHIND)
    waiting, known = set(_drawn(run, run.trials[left_behind])), set(_drawn(run, run.trials))
    repeated = _drawn(run, audits.trials)
    others = differences(replace(read_run_spec(audits.folder), search=spec.search), spec)
    if others or not known.issuperset(repeated):
        raise RunError(
            f"{audits.folder}: needs audits of {run.folder}, got trials that it never had; "
            f"give another folder with --out"
        )
    ended = audits.trials["status"].isin([Status.COMPLETED, Status.DIVERGED])
    counts = np.array([who in waiting for who in repeated], bool)
    tried = audits.trials.loc[ended & counts, "trial"]
    if tried.empty:
        raise RunError(
            f"{audits.folder}: no audit of a trial that is still left behind has come to its end"
        )
    through = run.trials.loc[run.trials["status"] == Status.COMPLETED, "trial"]
    left = int(left_behind.sum())
    last_drawn = audits.trials["seed"].max()  # the lot draws the smallest seeds first
    of_audits = _curves(audits, tried, spec.max_epochs)
    curves = np.concatenate([of_audits, _curves(run, through, spec.max_epochs)])
    weights = np.repeat([left / len(tried), 1.0], [len(tried), len(through)])
    best = compute_losses(run, run.epochs).min()
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
        saved=count_saved_epochs(run, spec.max_epochs),
        whole=len(run.trials) * spec.max_epochs,
        rungs=rungs,
        grace=_grace(rungs),
        max_epochs=spec.max_epochs,
        promoted=int((~counts).sum()),
        grown=any(seed < last_drawn for seed, *_ in waiting.difference(repeated)),
    )


def format_audit(found: Audited) -> list[str]:
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
        told, kept = f"{r.correlation:.2f}", f"{r.kept:.0%}"
        if found.audits >= LEAST:
            told += f" ({r.low:.2f} to {r.high:.2f})"
            kept += f" ({r.kept_low:.0%} to {r.kept_high:.0%})"
        lines.append(f"  epoch {r.epoch:<4}{told:>29}  {kept}")
    lines += ["", _advice(found)]
    if found.promoted:
        lines.append(
            f"note: {found.promoted} more do not count: the run went on with what they repeat"
        )
    if found.grown:
        lines.append(
            "note: some trials were left behind after audits had been drawn; "
            "the audits speak for the earlier ones more"
        )
    return lines


def _advice(found: Audited) -> str:
    epochs = 2 * max(found.audits, LEAST) * found.max_epochs
    more = f"; --total-epochs {epochs} --out FOLDER trains more"
    more = more if found.audits < found.left_behind else ""
    kept = f"{KEPT:.0%} of the trials that end in the best quarter"
    if found.audits < LEAST:
        few = f"{found.audits} of at least {LEAST}"
        return f"too few audits to tell which grace period ({few}){more}"
    if found.grace is not None:
        grace = f"{found.grace} epoch{'s' * (found.grace != 1)}"
        return f"the data speak for a grace period of {grace}: the better half surely holds {kept}"
    if all(r.kept_high < KEPT for r in found.rungs):
        return f"no rung's better half holds {kept}: the data speak for a longer grace period"
    return f"the audits do not tell from which rung on the better half holds {kept}{more}"


def _drawn(run: Run, trials: pd.DataFrame) -> list[tuple[Any, ...]]:
    """What a trial has in common with its audit, wherever the runs lie: its seed and its config."""
    names = ["seed", *(f"config_{name}" for name in run.space.names)]
    rows = trials.reindex(columns=names).itertuples(index=False)
    return [tuple(None if pd.isna(value) else value for value in row) for row in rows]


def _grace(rungs: tuple[AuditedRung, ...]) -> int | None:
    """The first of the last rungs that all are late enough; NaN is not."""
    late = itertools.takewhile(lambda r: r.kept_low >= KEPT, reversed(rungs))
    return min((r.epoch for r in late), default=None)


def _curves(run: Run, trials: pd.Series[int], epochs: int) -> Array:
    """Losses, shape (trials, epochs); inf from where a trial has none."""
    rows = run.epochs[run.epochs["trial"].isin(trials)]
    table = rows.assign(loss=compute_losses(run, rows)).pivot(
        index="trial", columns="epoch", values="loss"
    )
    whole = table.reindex(index=trials, columns=range(1, epochs + 1))
    return whole.astype(float).fillna(np.inf).to_numpy()


def _rung(epoch: int, curves: Array, weights: Array, audits: int) -> AuditedRung:
    here, end = curves[:, epoch - 1], curves[:, -1]
    top = _places(end, weights) <= TOP
    better = _places(here, weights) <= 0.5
    kept = float(weights[top & better].sum() / max(weights[top].sum(), 1e-12))
    between = kept_between = (float("nan"), float("nan"))
    if audits >= LEAST and top.any():
        between = _resampled(here, end, weights, audits, np.random.default_rng(epoch))
        kept_between = _share_between(kept, weights[top])
    return AuditedRung(
        epoch=epoch,
        correlation=_correlation(here, end, weights),
        low=between[0],
        high=between[1],
        kept=kept,
        kept_low=kept_between[0],
        kept_high=kept_between[1],
    )


def _resampled(
    here: Array, end: Array, weights: Array, audits: int, rng: np.random.Generator
) -> tuple[float, float]:
    """The correlation's interval, by a bootstrap within the two strata."""
    drawn = []
    for _ in range(RESAMPLES):
        strata = (0, audits), (audits, len(here))
        i = np.concatenate([rng.integers(a, b, size=b - a) for a, b in strata if b > a])
        drawn.append(_correlation(here[i], end[i], weights[i]))
    low, high = np.nanquantile(drawn, [(1 - SURE) / 2, (1 + SURE) / 2])
    return float(low), float(high)


def _share_between(share: float, weights: Array) -> tuple[float, float]:
    """The exact interval of a weighted share, of as many trials as the weights are worth.

    Kish 1965: (sum of w)^2 / sum of w^2 of equal weight; Korn & Graubard 1998 put it into Clopper
    and Pearson's interval. A bootstrap of a few that are all kept would have no width.
    """
    count = weights.sum() ** 2 / (weights**2).sum()
    tail, hits = (1 - SURE) / 2, share * count
    low = beta.ppf(tail, hits, count - hits + 1) if hits > 0 else 0.0
    high = beta.isf(tail, hits + 1, count - hits) if count - hits > 1e-9 else 1.0
    return float(low), float(high)


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
