"""Which hyperparameters matter: functional ANOVA over random forests.

A random forest learns the result of each configuration. Each of its trees divides the unit cube
into boxes with one value each. So the share of the variance that one hyperparameter explains alone,
and the share that two explain only together, are sums over boxes and not estimates. Hutter, Hoos &
Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance", algorithms 1
and 2.
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
from pipelines.see.ranking import compute_losses
from pipelines.see.run import RunTables

__all__ = [
    "Importance",
    "Interaction",
    "compute_fanova",
    "compute_importance",
    "format_importance",
    "format_interactions",
]

FORESTS, TREES = 16, 8  #: number of resamples of the trials, and of trees in the forest of each
MIN_TRIALS = 20  #: trials that an analysis needs; fewer show nothing
MAX_TRIALS = 2_000  #: trials that a forest learns from
MAX_LEAVES = 128  #: leaves of a tree: the time for a page depends on them, not on the run's size
BARS = (0.1, 0.9)  #: quantiles over the forests at which a bar begins and ends
RED, YELLOW = 0.5, 0.2  #: shares, as fractions of the largest one, from which the colour is used
NEGLIGIBLE = 0.01  #: if the bar of the largest share begins below this, every colour is green

Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """The share of the loss's variance that one hyperparameter explains alone, with its bar."""

    name: str
    share: float  #: median of the share over the forests, from 0 to 1
    low: float  #: lower end of the bar
    high: float  #: upper end of the bar
    colour: str  #: red: tune it first; yellow: tune it next; green: leave it


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """The share that two hyperparameters explain only together, with its bar."""

    names: tuple[str, str]
    share: float  #: median of the share over the forests, from 0 to 1
    low: float  #: lower end of the bar
    high: float  #: upper end of the bar


def compute_importance(spec: Spec, run: RunTables) -> tuple[list[Importance], list[Interaction]]:
    """Hyperparameters and pairs of them, the most important first; none if there is too little.

    A trial that diverged or failed counts as the worst result of all. A hyperparameter that is not
    active gets random values, new ones for each forest. So it explains nothing; with one value for
    all, the forest could tell from it which trials these were.
    """
    names = [d.name for d in run.space.dimensions]
    y = _extrapolate_results(run)
    if not names or len(y) < MIN_TRIALS or np.ptp(y) == 0:
        return [], []
    units = run.trials.set_index("trial").loc[y.index, [f"unit_{n}" for n in names]]
    points, values = units.astype(float).to_numpy(), y.to_numpy()
    shares = []
    for i in range(FORESTS):
        rng = np.random.default_rng((spec.seed, i))
        drawn = rng.integers(len(points), size=min(len(points), MAX_TRIALS))
        x = points[drawn]
        forest = RandomForestRegressor(
            TREES, min_samples_leaf=3, max_leaf_nodes=MAX_LEAVES, max_features=0.7,
            bootstrap=False, random_state=i,
        ).fit(np.where(np.isnan(x), rng.random(x.shape), x), values[drawn])  # fmt: skip
        by_tree = [compute_fanova(*_list_boxes(t.tree_, len(names))) for t in forest]
        shares.append(np.mean(by_tree, axis=0))
    return _sort_by_share(names, np.array(shares))


def format_importance(single: list[Importance], pairs: list[Interaction]) -> list[str]:
    """Write the shares as lines for a person: a bar for each, and the strongest interactions."""
    if not single:
        return [f"nothing yet: it needs {MIN_TRIALS} trials with different results"]
    words = {"red": "tune first", "yellow": "then", "green": ""}
    width = max(len(a.name) for a in single)
    lines = [
        "the share of the differences that each explains alone (10 % to 90 % of resamples)",
        "",
    ]
    lines += [
        f"  {a.name:<{width}}  {a.share:6.1%}  {'█' * round(40 * a.share):<40}  "
        f"{a.low:.1%} to {a.high:.1%}  {words[a.colour]}".rstrip()
        for a in single
    ]
    lines += ["", "and what two explain only together:"]
    lines += [f"  {line}" for line in format_interactions(pairs)]
    return lines


def format_interactions(pairs: list[Interaction]) -> list[str]:
    """Write the three strongest interactions, each as one phrase."""
    return [f"{' x '.join(p.names)} {p.share:.1%} ({p.low:.1%} to {p.high:.1%})" for p in pairs[:3]]


def _extrapolate_results(run: RunTables) -> pd.Series[float]:
    """By trial: the logarithm of its loss's distance to the best, extrapolated to the last epoch.

    Few trials are trained to the end, and those differ from the rest. So the last result of each
    trial is extrapolated as the others went on from there: by the median of the change in each
    further epoch.
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
    by_epoch = change[rows["sound"]].groupby(rows["epoch"]).median().fillna(0.0)
    to_the_end = by_epoch[::-1].cumsum()[::-1]  # from the epoch before to the last one
    last = rows.groupby("trial").last()
    to_come = (last["epoch"] + 1).map(to_the_end).fillna(0.0)
    y = last["y"] + to_come
    bad = y.index[~last["sound"]].union(failed)
    return pd.concat([y[~y.index.isin(bad)], pd.Series(rows["y"].max(), index=bad)])


def _list_boxes(tree: Any, d: int) -> tuple[Array, Array, Array]:
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


def compute_fanova(low: Array, high: Array, values: Array) -> Array:
    """Shares of the variance of a function that is constant in boxes that fill the unit cube.

    Args:
        low: Lower corners, shape (boxes, d).
        high: Upper corners.
        values: The function in each box, shape (boxes,).

    Returns:
        A matrix of shape (d, d): on the diagonal the share that each dimension explains alone,
        above it the share that two explain only together. All 0 for a constant.
    """
    d = low.shape[1]
    size = high - low
    volume = size.prod(axis=1)
    mean = float(values @ volume)
    shares = np.zeros((d, d))
    total = float(volume @ (values - mean) ** 2)
    if total <= 1e-12:
        return shares
    covers, lengths, effects = [], [], []
    for i in range(d):
        edges = np.unique(np.append(low[:, i], high[:, i]))
        middle = (edges[:-1] + edges[1:]) / 2
        cover = ((low[:, i, None] < middle) & (middle < high[:, i, None])).astype(float)
        others = np.delete(size, i, axis=1).prod(axis=1)
        effect = (values * others) @ cover - mean
        covers.append(cover)
        lengths.append(np.diff(edges))
        effects.append(effect)
        shares[i, i] = lengths[i] @ effect**2 / total
    for i, j in combinations(range(d), 2):
        others = np.delete(size, (i, j), axis=1).prod(axis=1)
        both = (covers[i] * (values * others)[:, None]).T @ covers[j]
        effect = both - mean - effects[i][:, None] - effects[j]
        shares[i, j] = lengths[i] @ effect**2 @ lengths[j] / total
    return shares


def _sort_by_share(names: list[str], shares: Array) -> tuple[list[Importance], list[Interaction]]:
    share = np.median(shares, axis=0)
    low, high = np.quantile(shares, BARS, axis=0)
    first = int(np.argmax(share.diagonal()))
    stands_out = low[first, first] > NEGLIGIBLE

    def choose_colour(size: float) -> str:
        part = size / share[first, first] if stands_out else 0.0
        return "red" if part >= RED else "yellow" if part >= YELLOW else "green"

    single = [
        Importance(name=n, share=float(share[i, i]), low=float(low[i, i]), high=float(high[i, i]),
                   colour=choose_colour(share[i, i]))
        for i, n in enumerate(names)
    ]  # fmt: skip
    pairs = [
        Interaction(names=(names[i], names[j]), share=float(share[i, j]), low=float(low[i, j]),
             high=float(high[i, j]))
        for i, j in combinations(range(len(names)), 2)
    ]  # fmt: skip
    return (
        sorted(single, key=lambda one: -one.share),
        sorted(pairs, key=lambda pair: -pair.share),
    )
