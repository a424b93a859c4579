"""Which hyperparameters matter: functional ANOVA over random forests.

A forest learns from the configurations what each came to; every one of its trees cuts the cube into
boxes with a value each, so the share of the variance that a hyperparameter alone explains, and what
two explain only together, are sums over boxes and not estimates. Hutter, Hoos & Leyton-Brown 2014,
"An Efficient Approach for Assessing Hyperparameter Importance", algorithms 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

from orchestrator.search.trial import Status
from pipelines.runs.spec import Spec
from pipelines.see.run import Run, compute_losses

__all__ = ["Importance", "Pair", "fanova", "format_importance", "importance", "pairs_in_words"]

FORESTS, TREES = 16, 8  #: so many resamples of the trials, each with a forest of so many trees
LEAST_TRIALS = 20  #: fewer say nothing
MOST_TRIALS = 2_000  #: that a forest learns from
LEAVES = 128  #: of a tree: its size, not that of the run, is what a page waits for
BARS = (0.1, 0.9)  #: the quantiles over the forests that the bars end at
RED, YELLOW = 0.5, 0.2  #: of the first one's share, and more: tune first; then; the rest is green
NOTHING = 0.01  #: where the first one's bar begins below it, none stands out

Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """The share of the loss's variance that one hyperparameter explains alone, with its bar."""

    name: str
    share: float  #: the median over the forests
    low: float
    high: float
    colour: str  #: red: tune first; yellow: then; green: leave it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The share that two explain only together, with its bar."""

    names: tuple[str, str]
    share: float
    low: float
    high: float


def importance(spec: Spec, run: Run) -> tuple[list[Importance], list[Pair]]:
    """Hyperparameters and pairs, the most important first; nothing where there is too little.

    What diverged or failed counts as the worst result there was. A hyperparameter that is not
    active gets a value by lot, anew for each forest: it then explains nothing, where one value for
    all would tell the forest which trials they were.
    """
    names = [d.name for d in spec.parameters().dimensions]
    y = _results(run)
    if not names or len(y) < LEAST_TRIALS or np.ptp(y) == 0:
        return [], []
    units = run.trials.set_index("trial").loc[y.index, [f"unit_{n}" for n in names]]
    known, values = units.astype(float).to_numpy(), y.to_numpy()
    found = []
    for i in range(FORESTS):
        rng = np.random.default_rng((spec.seed, i))
        drawn = rng.integers(len(known), size=min(len(known), MOST_TRIALS))
        x = known[drawn]
        forest = RandomForestRegressor(
            TREES, min_samples_leaf=3, max_leaf_nodes=LEAVES, max_features=0.7,
            bootstrap=False, random_state=i,
        ).fit(np.where(np.isnan(x), rng.random(x.shape), x), values[drawn])  # fmt: skip
        found.append(np.mean([fanova(*_leaves(t.tree_, len(names))) for t in forest], axis=0))
    return _sorted(names, np.array(found))


def format_importance(alone: list[Importance], pairs: list[Pair]) -> list[str]:
    """For a person: a bar each, and the pairs that explain most."""
    if not alone:
        return [f"nothing yet: it needs {LEAST_TRIALS} trials with different results"]
    words = {"red": "tune first", "yellow": "then", "green": ""}
    width = max(len(a.name) for a in alone)
    lines = [
        "the share of the differences that each explains alone (10 % to 90 % of resamples)",
        "",
    ]
    lines += [
        f"  {a.name:<{width}}  {a.share:6.1%}  {'█' * round(40 * a.share):<40}  "
        f"{a.low:.1%} to {a.high:.1%}  {words[a.colour]}".rstrip()
        for a in alone
    ]
    lines += ["", "and what two explain only together:"]
    lines += [f"  {told}" for told in pairs_in_words(pairs)]
    return lines


def pairs_in_words(pairs: list[Pair]) -> list[str]:
    """The strongest interactions."""
    return [f"{' x '.join(p.names)} {p.share:.1%} ({p.low:.1%} to {p.high:.1%})" for p in pairs[:3]]


def _results(run: Run) -> pd.Series[float]:
    """By trial: the logarithm of how far its loss is from the best, carried on to the last epoch.

    Few are trained to the end, and those are not like the rest. So each one's last result goes on
    as the others did from there: by the median of what each further epoch changed.
    """
    failed = pd.Index(run.trials.loc[run.trials["status"] == Status.FAILED, "trial"].astype(int))
    if run.epochs.empty:
        return pd.Series(dtype=float)
    rows = run.epochs.astype({"trial": int, "epoch": int}).sort_values(["trial", "epoch"])
    loss = compute_losses(run, rows)
    finite = loss[np.isfinite(loss)]
    if finite.empty:
        return pd.Series(dtype=float)
    best, worst = finite.min(), finite.max()
    spread = finite.median() - best or 1.0
    rows = rows.assign(y=np.log1p((loss.clip(upper=worst) - best) / spread), sound=loss < np.inf)
    change = rows["y"].groupby(rows["trial"]).diff()
    each = change[rows["sound"]].groupby(rows["epoch"]).median().fillna(0.0)
    still = each[::-1].cumsum()[::-1]  # from the epoch before on
    last = rows.groupby("trial").last()
    to_come = (last["epoch"] + 1).map(still).fillna(0.0)
    y = last["y"] + to_come
    bad = y.index[~last["sound"]].union(failed)
    return pd.concat([y[~y.index.isin(bad)], pd.Series(rows["y"].max(), index=bad)])


def _leaves(tree: Any, d: int) -> tuple[Array, Array, Array]:
    """Lower and upper corners, (leaves, d), and values of a tree's boxes."""
    low, high, values = [], [], []
    features, cuts = tree.feature.tolist(), np.clip(tree.threshold, 0.0, 1.0).tolist()
    left, right = tree.children_left.tolist(), tree.children_right.tolist()
    boxes = [(0, np.zeros(d), np.ones(d))]
    while boxes:
        node, lower, upper = boxes.pop()
        feature = features[node]
        if feature < 0:
            low.append(lower)
            high.append(upper)
            values.append(float(tree.value[node].item()))
            continue
        below, above = upper.copy(), lower.copy()
        below[feature] = above[feature] = cuts[node]
        boxes.append((left[node], lower, below))
        boxes.append((right[node], above, upper))
    return np.array(low), np.array(high), np.array(values)


def fanova(low: Array, high: Array, values: Array) -> Array:
    """Shares of the variance of a function that is constant in boxes that fill the unit cube.

    Args:
        low: Lower corners, shape (boxes, d).
        high: Upper corners.
        values: The function in each box, shape (boxes,).

    Returns:
        A matrix of shape (d, d): on the diagonal what each dimension explains alone, above it what
        two explain only together. All 0 for a constant.
    """
    d = low.shape[1]
    size = high - low
    volume = size.prod(axis=1)
    mean = float(values @ volume)
    shares = np.zeros((d, d))
    total = float(volume @ (values - mean) ** 2)
    if total <= 1e-12:
        return shares
    covers, lengths, alone = [], [], []
    for i in range(d):
        edges = np.unique(np.append(low[:, i], high[:, i]))
        middle = (edges[:-1] + edges[1:]) / 2
        cover = ((low[:, i, None] < middle) & (middle < high[:, i, None])).astype(float)
        others = np.delete(size, i, axis=1).prod(axis=1)
        effect = (values * others) @ cover - mean
        covers.append(cover)
        lengths.append(np.diff(edges))
        alone.append(effect)
        shares[i, i] = lengths[i] @ effect**2 / total
    for i, j in combinations(range(d), 2):
        others = np.delete(size, (i, j), axis=1).prod(axis=1)
        both = (covers[i] * (values * others)[:, None]).T @ covers[j]
        effect = both - mean - alone[i][:, None] - alone[j]
        shares[i, j] = lengths[i] @ effect**2 @ lengths[j] / total
    return shares


def _sorted(names: list[str], found: Array) -> tuple[list[Importance], list[Pair]]:
    share = np.median(found, axis=0)
    low, high = np.quantile(found, BARS, axis=0)
    first = int(np.argmax(share.diagonal()))
    stands_out = low[first, first] > NOTHING

    def colour(own: float) -> str:
        part = own / share[first, first] if stands_out else 0.0
        return "red" if part >= RED else "yellow" if part >= YELLOW else "green"

    alone = [
        Importance(name=n, share=float(share[i, i]), low=float(low[i, i]), high=float(high[i, i]),
                   colour=colour(share[i, i]))
        for i, n in enumerate(names)
    ]  # fmt: skip
    pairs = [
        Pair(names=(names[i], names[j]), share=float(share[i, j]), low=float(low[i, j]),
             high=float(high[i, j]))
        for i, j in combinations(range(len(names)), 2)
    ]  # fmt: skip
    return (
        sorted(alone, key=lambda found: -found.share),
        sorted(pairs, key=lambda found: -found.share),
    )
