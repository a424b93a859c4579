"""The page's charts: from a run's tables to what Plotly draws, as plain values for JSON.

Every axis of a hyperparameter is the unit cube's, so that each has its own scale; ticks carry the
values. What no eye can see is thinned out: a page stays small however long the run was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.space import Choice, Dimension, Integer
from orchestrator.spec import Spec
from orchestrator.trial import Status
from pipelines.analysis import Run, best, loss_of
from pipelines.compare import kinds
from pipelines.importance import Importance, Pair
from pipelines.terms import figure
from pipelines.views import boxes, funnel, progress, timeline

__all__ = [
    "Chart",
    "against",
    "bars_of_importance",
    "best_so_far",
    "coordinates",
    "curves",
    "over_each_other",
    "pairs_in_words",
    "rungs",
    "table_of_trials",
    "workers",
]

Chart = dict[str, Any]  #: {"data": traces, "layout": layout}, as Plotly.newPlot takes them

#: Okabe & Ito's palette, which colour-blind readers can tell apart.
BLUE, SKY, GREEN, YELLOW, ORANGE, RED, PURPLE, GREY = (
    "#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip
FATES = {
    Status.COMPLETED: BLUE,
    Status.PAUSED: GREY,
    Status.PRUNED: ORANGE,
    Status.DIVERGED: RED,
    Status.FAILED: PURPLE,
    Status.STOPPED: YELLOW,
    Status.RUNNING: SKY,
}
CURVES = 240  #: learning curves that are drawn, the best third and a sample of the rest
POINTS = 2_000  #: trials in the big scatter
SMALL = 400  #: and in each small one
BLOCKS = 2_000  #: stretches of work in the workers' timeline
TICKS = 5
SECONDS = "seconds since the run began"
OVER = {"spent": "epochs spent, all trials", "at_seconds": SECONDS}


def best_so_far(run: Run, *, over: str) -> Chart:
    """The incumbent against epochs spent (`spent`) or against seconds (`at_seconds`)."""
    found = progress(run)
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "line": {"shape": "hv", "color": BLUE},
        "marker": {"size": 4},
        "x": _plain(found[over]),
        "y": _plain(found["best"]),
        "text": [f"trial {t}, epoch {e}, {s}" for t, e, s in zip(
            found["trial"], found["epoch"], found["stage"], strict=True)],
        "hovertemplate": "%{y:.5g}<br>%{text}<extra></extra>",
    }  # fmt: skip
    return _chart([trace], x=OVER[over], y=str(run.objective))


def curves(run: Run) -> Chart:
    """Learning curves coloured by what became of the trial, the winner on top."""
    epochs, metric = run.epochs, run.objective.metric
    if epochs.empty:
        return _chart([], x="epoch", y=str(run.objective))
    losses = loss_of(run, epochs).groupby(epochs["trial"]).min().sort_values()
    kept = list(losses.index[: CURVES // 3])
    rest = losses.index[CURVES // 3 :]
    drawn = np.random.default_rng(0).permutation(len(rest))[: CURVES - len(kept)]
    kept += [rest[i] for i in sorted(drawn)]
    top = best(run)
    winner = top["trial"] if top else None
    if winner is not None and winner not in kept:  # as good as others that are drawn
        kept[0] = winner
    status = run.trials.set_index("trial")["status"]
    shown = epochs[epochs["trial"].isin(kept)].sort_values(["trial", "epoch"])
    groups = dict(list(shown.groupby("trial")))
    traces = []
    for fate, colour in FATES.items():
        own = [groups[t] for t in kept if status[t] == fate and t != winner]
        if own:
            traces.append(_lines(own, metric, fate.lower(), colour, width=1, opacity=0.45))
    if winner in groups:
        traces.append(_lines([groups[winner]], metric, f"trial {winner}, the best", GREEN, width=3))
    left_out = len(losses) - len(kept)
    told = f"epoch ({left_out} trials are left out)" if left_out else "epoch"
    chart = _chart(traces, x=told, y=str(run.objective), legend=True)
    chart["layout"]["yaxis"]["range"] = _where_it_counts(
        shown[metric], maximize=run.objective.maximize
    )
    return chart


def _lines(
    own: Sequence[pd.DataFrame], metric: str, name: str, colour: str, *, width: int,
    opacity: float = 1.0,
) -> Chart:  # fmt: skip
    """Many curves as one trace, with gaps in between."""
    x: list[Any] = []
    y: list[Any] = []
    text: list[Any] = []
    for rows in own:
        x += [*_plain(rows["epoch"]), None]
        y += [*_plain(rows[metric]), None]
        text += [f"trial {rows['trial'].iloc[0]}"] * len(rows) + [None]
    return {
        "type": "scatter", "mode": "lines+markers" if max(map(len, own)) == 1 else "lines",
        "name": name, "x": x, "y": y, "text": text, "opacity": opacity,
        "line": {"color": colour, "width": width}, "marker": {"color": colour, "size": 4},
        "hovertemplate": "%{text}, epoch %{x}: %{y:.5g}<extra></extra>",
    }  # fmt: skip


def table_of_trials(run: Run) -> dict[str, Any]:
    """What the pair selector draws from: columns by hyperparameter, their ticks, and the boxes."""
    o = run.objective
    trials = _thinned(_with_result(run), run, POINTS)
    dimensions = run.space.dimensions
    return {
        "metric": str(o),
        "maximize": o.maximize,
        "trial": _plain(trials["trial"]),
        "value": _plain(trials[o.metric]),
        "status": list(trials["status"]),
        "unit": {d.name: _plain(trials[f"unit_{d.name}"], digits=4) for d in dimensions},
        "ticks": {d.name: _ticks(d) for d in dimensions},
        "boxes": boxes(run),
    }


def against(run: Run, name: str) -> Chart:
    """One hyperparameter against the metric."""
    o = run.objective
    (d,) = (d for d in run.space.dimensions if d.name == name)
    known = _with_result(run)
    trials = _thinned(known[known[f"unit_{name}"].notna()], run, SMALL)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": _plain(trials[f"unit_{name}"], digits=4),
        "y": _plain(trials[o.metric]),
        "text": [f"trial {t}: {figure(v)}" for t, v in zip(
            trials["trial"], trials[f"config_{name}"], strict=True)],
        "marker": {
            "size": 4,
            "opacity": 0.6,
            "color": [FATES[Status(s)] for s in trials["status"]],
        },
        "hovertemplate": "%{text}<br>%{y:.5g}<extra></extra>",
    }  # fmt: skip
    chart = _chart([trace], x=name, y="")
    chart["layout"]["xaxis"] |= _ticks(d) | {"range": [-0.03, 1.03]}
    chart["layout"] |= {"height": 220, "margin": {"t": 8, "r": 8, "b": 40, "l": 50}}
    if len(trials):
        chart["layout"]["yaxis"]["range"] = _where_it_counts(trials[o.metric], maximize=o.maximize)
    return chart


def coordinates(run: Run, names: Sequence[str]) -> Chart:
    """Parallel coordinates of these hyperparameters, coloured by the metric."""
    o = run.objective
    trials = _thinned(_with_result(run), run, POINTS)
    if trials.empty:
        return _chart([], x="", y="")
    by_name = {d.name: d for d in run.space.dimensions}
    low, high = sorted(_where_it_counts(trials[o.metric], maximize=o.maximize))
    axes = [
        {
            "label": name,
            "range": [0, 1],
            "values": _plain(trials[f"unit_{name}"].fillna(0.5), digits=4),
            **_ticks(by_name[name]),
        }
        for name in names
    ]
    axes.append({"label": str(o), "values": _plain(trials[o.metric])})
    trace = {
        "type": "parcoords",
        "dimensions": axes,
        "line": {
            "color": _plain(trials[o.metric]),
            "colorscale": "Cividis",
            "reversescale": not o.maximize,
            "cmin": low,
            "cmax": high,
            "showscale": False,
        },
    }
    return {"data": [trace], "layout": {"margin": {"t": 60, "b": 24, "l": 60, "r": 60}}}


def bars_of_importance(found: Sequence[Importance]) -> Chart:
    """The share that each explains alone, with its bar; red, yellow, green also in words."""
    words = {"red": " (tune first)", "yellow": " (then)", "green": ""}
    colours = {"red": RED, "yellow": YELLOW, "green": GREEN}
    rows = list(found)[::-1]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [round(i.share, 5) for i in rows],
        "y": [i.name + words[i.colour] for i in rows],
        "marker": {"color": [colours[i.colour] for i in rows]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [round(max(i.high - i.share, 0), 5) for i in rows],
            "arrayminus": [round(max(i.share - i.low, 0), 5) for i in rows],
            "color": GREY,
        },
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    chart = _chart([trace], x="share of the differences explained alone", y="")
    chart["layout"]["xaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    chart["layout"] |= {"height": 90 + 26 * len(rows), "margin": {"l": 140, "t": 10, "r": 20}}
    return chart


def pairs_in_words(pairs: Sequence[Pair]) -> list[str]:
    """The strongest interactions."""
    return [f"{a} × {b}: {p.share:.1%}" for p in pairs[:3] for a, b in [p.names]]


def rungs(run: Run) -> Chart:
    """How many entered each rung, and what became of those that did not go on."""
    found = funnel(run)
    parts = {
        "went_on": ("went on", BLUE), "complete": ("complete", GREEN), "waiting": ("paused", GREY),
        "pruned": ("pruned", ORANGE), "bad": ("diverged or failed before it", RED),
    }  # fmt: skip
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": [f"epoch {e}" for e in found["epoch"]],
            "y": _plain(found[column]),
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}} {name}<extra></extra>",
        }
        for column, (name, colour) in parts.items()
        if len(found) and found[column].any()
    ]
    chart = _chart(traces, x="rung", y="trials", legend=True)
    chart["layout"]["barmode"] = "stack"
    return chart


def workers(run: Run) -> Chart:
    """What each worker did when; the gaps are time in which it did not train."""
    found = timeline(run)
    if found.empty:
        return _chart([], x=SECONDS, y="")
    merged = _merged(found, gap=float(found["end_seconds"].max()) / BLOCKS)
    names = [f"worker {w}" for w in merged["worker"]]
    trace = {
        "type": "bar",
        "orientation": "h",
        "base": _plain(merged["begin_seconds"]),
        "x": _plain(merged["end_seconds"] - merged["begin_seconds"]),
        "y": names,
        "marker": {"color": SKY, "line": {"width": 0}},
        "hovertemplate": "%{y}, %{base:.2f} s: trained for %{x:.2f} s<extra></extra>",
    }
    chart = _chart([trace], x=SECONDS, y="")
    chart["layout"] |= {
        "height": 110 + 22 * merged["worker"].nunique(), "margin": {"l": 80, "t": 10, "r": 20}
    }  # fmt: skip
    return chart


def over_each_other(runs: Sequence[tuple[Spec, Run]], *, over: str = "spent") -> Chart:
    """The best so far of several runs; those that differ in their seed alone as one band."""
    colours = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
    traces: list[Chart] = []
    for i, own in enumerate(kinds(runs)):
        colour = colours[i % len(colours)]
        steps = [progress(run) for _, run in own]
        steps = [s for s in steps if len(s)]
        if not steps:
            continue
        name = own[0][1].folder.name + (f" and {len(own) - 1} more seeds" if len(own) > 1 else "")
        x = np.linspace(
            min(s[over].iloc[0] for s in steps), max(s[over].iloc[-1] for s in steps), 200
        )
        y = np.array([_stepped(s, over, x) for s in steps])
        if len(steps) > 1:
            traces += [
                {**_line(x, np.nanmin(y, axis=0), name, colour), "line": {"width": 0},
                 "showlegend": False, "hoverinfo": "skip"},
                {**_line(x, np.nanmax(y, axis=0), name, colour), "line": {"width": 0},
                 "showlegend": False, "hoverinfo": "skip", "fill": "tonexty",
                 "fillcolor": f"{colour}33"},
            ]  # fmt: skip
        traces.append(_line(x, np.nanmean(y, axis=0), name, colour))
    return _chart(traces, x=OVER[over], y=str(runs[0][1].objective), legend=True)


def _stepped(found: pd.DataFrame, over: str, x: np.ndarray) -> np.ndarray:
    """The best so far at each x; NaN before the first result."""
    place = np.searchsorted(found[over].to_numpy(float), x, side="right") - 1
    best = found["best"].to_numpy(float)
    return np.where(place >= 0, best[np.maximum(place, 0)], np.nan)


def _line(x: np.ndarray, y: np.ndarray, name: str, colour: str) -> Chart:
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": _plain(x), "y": _plain(y),
        "line": {"color": colour, "shape": "hv"},
    }  # fmt: skip


def _merged(found: pd.DataFrame, gap: float) -> pd.DataFrame:
    """Stretches of one worker that follow each other within a gap nobody would see, as one."""
    rows = found.sort_values(["worker", "begin_seconds"])
    before = rows.groupby("worker")["end_seconds"].cummax().shift()
    new = (rows["begin_seconds"] - before > gap) | (rows["worker"] != rows["worker"].shift())
    return rows.groupby([rows["worker"], new.cumsum()]).agg(
        worker=("worker", "first"),
        begin_seconds=("begin_seconds", "min"),
        end_seconds=("end_seconds", "max"),
    )


def _with_result(run: Run) -> pd.DataFrame:
    """The trials that have one; the table of a run that has just begun lacks the columns too."""
    needed = [run.objective.metric, *(f"unit_{d.name}" for d in run.space.dimensions)]
    missing = dict.fromkeys(set(needed) - set(run.trials), np.nan)
    trials = run.trials.assign(**missing)
    return trials[trials[run.objective.metric].notna()]


def _thinned(trials: pd.DataFrame, run: Run, most: int) -> pd.DataFrame:
    """The best half of those that are kept, and a sample of the rest; by id."""
    if len(trials) <= most:
        return trials
    order = trials[run.objective.metric].sort_values(ascending=not run.objective.maximize).index
    rest = np.random.default_rng(0).permutation(order[most // 2 :])[: most - most // 2]
    return trials.loc[sorted([*order[: most // 2], *rest])]


def _ticks(d: Dimension) -> Chart:
    """Where an axis of the unit cube has its ticks, and the values that stand there."""
    domain = d.domain
    if isinstance(domain, Choice):
        k = len(domain.options)
        return {
            "tickvals": [(i + 0.5) / k for i in range(k)],
            "ticktext": [str(o) for o in domain.options],
        }
    if isinstance(domain, Integer) and domain.high - domain.low < 2 * TICKS:
        whole = range(domain.low, domain.high + 1)
        return {"tickvals": [domain.to_unit(v) for v in whole], "ticktext": [*map(str, whole)]}
    at = [i / (TICKS - 1) for i in range(TICKS)]
    return {"tickvals": at, "ticktext": [figure(domain.from_unit(u)) for u in at]}


def _where_it_counts(values: pd.Series[float], *, maximize: bool) -> list[float]:
    """From the best to the worst quarter's edge: what is far off would flatten the rest."""
    finite = values[np.isfinite(values.astype(float))].astype(float)
    if finite.empty:
        return [0.0, 1.0]
    low, high = (
        (finite.quantile(0.25), finite.max()) if maximize else (finite.min(), finite.quantile(0.75))
    )
    pad = 0.06 * (high - low) or 0.01
    return [float(low - pad), float(high + pad)]


def _chart(traces: list[Chart], *, x: str, y: str, legend: bool = False) -> Chart:
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": x}, "automargin": True},
            "yaxis": {"title": {"text": y}, "automargin": True},
            "showlegend": legend,
            "legend": {"orientation": "h", "y": 1.12},
            "margin": {"t": 20, "r": 16},
            "hovermode": "closest",
        },
    }


def _plain(values: Any, *, digits: int = 6) -> list[Any]:
    """Numbers for JSON, as short as an eye needs them; null where there is none."""
    plain: list[Any] = []
    for v in values:
        if v is None or pd.isna(v) or (isinstance(v, float) and not math.isfinite(v)):
            plain.append(None)
        elif isinstance(v, (int, np.integer)):
            plain.append(int(v))
        else:
            plain.append(float(f"{float(v):.{digits}g}"))
    return plain
