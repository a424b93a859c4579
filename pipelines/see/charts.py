"""The page's charts: from a run's tables to what Plotly draws, as plain values for JSON.

Every axis of a hyperparameter is the unit cube's, so that each has its own scale; ticks carry the
values. What no eye can see is thinned out: a page stays small however long the run was. Plotly
reads text as markup, so whatever a user named is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.search.trial import Status
from orchestrator.space.domains import Choice, Integer, Real
from orchestrator.space.space import Dimension
from pipelines.runs.spec import Spec
from pipelines.see.compare import group_seed_repeats
from pipelines.see.formatting import format_number
from pipelines.see.importance import Importance
from pipelines.see.ranking import compute_losses
from pipelines.see.run import RunTables
from pipelines.see.summary import describe_best
from pipelines.see.views import count_trials_by_rung, list_worker_spans, list_zooms, trace_incumbent

__all__ = [
    "Chart",
    "against",
    "bars_of_importance",
    "best_so_far",
    "coordinates",
    "curves",
    "over_each_other",
    "rungs",
    "table_of_trials",
    "workers",
]

Chart = dict[str, Any]  #: {"data": traces, "layout": layout}, as Plotly.newPlot takes them

#: Okabe & Ito's palette, which colour-blind readers can tell apart.
BLUE, SKY, GREEN, YELLOW, ORANGE, RED, PURPLE, GREY = (
    "#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip
BROWN = "#8C6D1F"  #: a thin line in the palette's yellow is lost on white
FATES = {
    Status.COMPLETED: BLUE,
    Status.PAUSED: GREY,
    Status.PRUNED: ORANGE,
    Status.DIVERGED: RED,
    Status.FAILED: PURPLE,
    Status.STOPPED: BROWN,
    Status.RUNNING: SKY,
}
CURVES = 240  #: learning curves that are drawn, the best third and a sample of the rest
POINTS = 2_000  #: trials in the big scatter
SMALL = 400  #: and in each small one
FEW = 20  #: values that are all shown
BLOCKS = 2_000  #: stretches of work in the workers' timeline
TICKS = 5
INACTIVE = -0.12  #: where an axis that has a value for some trials only shows the others
SECONDS = "seconds since the run began"
OVER = {"spent": "epochs spent, all trials", "at_seconds": SECONDS}


def best_so_far(run: RunTables, *, over: str) -> Chart:
    """The incumbent against epochs spent (`spent`) or against seconds (`at_seconds`)."""
    found = trace_incumbent(run)
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


def curves(run: RunTables) -> Chart:
    """Learning curves coloured by what became of the trial, the winner on top."""
    epochs, metric = run.epochs, run.objective.metric
    if epochs.empty:
        return _chart([], x="epoch", y=str(run.objective))
    losses = compute_losses(run, epochs).groupby(epochs["trial"]).min().sort_values()
    kept = list(losses.index[: CURVES // 3])
    rest = losses.index[CURVES // 3 :]
    drawn = np.random.default_rng(0).permutation(len(rest))[: CURVES - len(kept)]
    kept += [rest[i] for i in sorted(drawn)]
    top = describe_best(run)
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
    told = f"epoch ({left_out:,} of {len(losses):,} trials are left out)" if left_out else "epoch"
    chart = _chart(traces, x=told, y=str(run.objective), legend=True)
    low, high = _where_it_counts(shown[metric], maximize=run.objective.maximize)
    if winner in groups:  # the whole of it
        whole = groups[winner][metric].replace([np.inf, -np.inf], np.nan)
        low, high = min(low, float(whole.min())), max(high, float(whole.max()))
    chart["layout"]["yaxis"]["range"] = [low, high]
    return chart


def _lines(
    own: Sequence[pd.DataFrame], metric: str, name: str, colour: str, *, width: int,
    opacity: float = 1.0,
) -> Chart:  # fmt: skip
    """Many curves as one trace, with gaps in between."""
    x: list[Any] = []
    y: list[Any] = []
    text: list[Any] = []
    sizes: list[int] = []
    for rows in own:
        x += [*_plain(rows["epoch"]), None]
        y += [*_plain(rows[metric]), None]
        text += [f"trial {rows['trial'].iloc[0]}"] * len(rows) + [None]
        sizes += [4 if len(rows) == 1 else 0] * (len(rows) + 1)  # a line of one epoch is a point
    return {
        "type": "scatter", "mode": "lines+markers",
        "name": name, "x": x, "y": y, "text": text, "opacity": opacity,
        "line": {"color": colour, "width": width}, "marker": {"color": colour, "size": sizes},
        "hovertemplate": "%{text}, epoch %{x}: %{y:.5g}<extra></extra>",
    }  # fmt: skip


def table_of_trials(run: RunTables) -> dict[str, Any]:
    """What the pair selector draws from: columns by hyperparameter, their ticks, and the boxes."""
    o, top = run.objective, describe_best(run)
    trials = _thinned(_with_result(run), run, POINTS)
    dimensions = run.space.dimensions
    return {
        "metric": str(o),
        "range": _where_it_counts(trials[o.metric], maximize=o.maximize),
        "maximize": o.maximize,
        "trial": _plain(trials["trial"]),
        "best": top and top["trial"],
        "value": _plain(trials[o.metric]),
        "stage": list(trials["stage"]),
        "status": list(trials["status"]),
        "unit": {d.name: _plain(trials[f"unit_{d.name}"], digits=4) for d in dimensions},
        "names": {d.name: escape(d.name) for d in dimensions},
        "ticks": {d.name: _ticks(d.domain) for d in dimensions},
        "boxes": list_zooms(run),
    }


def against(run: RunTables, name: str) -> Chart:
    """One hyperparameter against the metric."""
    o = run.objective
    (d,) = (d for d in run.space.dimensions if d.name == name)
    known = _with_result(run)
    active = known[known[f"unit_{name}"].notna()]
    trials = _thinned(active, run, SMALL)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": _plain(trials[f"unit_{name}"], digits=4),
        "y": _plain(trials[o.metric]),
        "text": [f"trial {t}: {escape(format_number(v))}" for t, v in zip(
            trials["trial"], trials[f"config_{name}"], strict=True)],
        "marker": {
            "size": 4,
            "opacity": 0.6,
            "color": [FATES[Status(s)] for s in trials["status"]],
        },
        "hovertemplate": "%{text}<br>%{y:.5g}<extra></extra>",
    }  # fmt: skip
    some = "" if len(active) == len(known) else f" ({len(active):,} of {len(known):,} trials)"
    chart = _chart([trace], x=escape(name) + some, y="")
    chart["layout"]["xaxis"] |= _ticks(d.domain) | {"range": [-0.03, 1.03]}
    chart["layout"] |= {"height": 220, "margin": {"t": 8, "r": 8, "b": 40, "l": 50}}
    chart["layout"]["yaxis"]["range"] = _where_it_counts(known[o.metric], maximize=o.maximize)
    return chart


def coordinates(run: RunTables, names: Sequence[str]) -> Chart:
    """Parallel coordinates of these hyperparameters, coloured by the metric."""
    o = run.objective
    trials = _thinned(_with_result(run), run, POINTS)
    if trials.empty:
        return _chart([], x="", y="")
    by_name = {d.name: d for d in run.space.dimensions}
    low, high = _where_it_counts(trials[o.metric], maximize=o.maximize, margin=0.0)
    axes = [_axis(by_name[name], trials[f"unit_{name}"]) for name in names]
    axes.append({
        "label": str(o), "range": [low, high], "values": _plain(trials[o.metric].clip(low, high)),
    })  # fmt: skip
    trace = {
        "type": "parcoords",
        "dimensions": axes,
        "line": {
            "color": _plain(trials[o.metric]),
            "reversescale": not o.maximize,
            "cmin": low,
            "cmax": high,
            "showscale": False,
        },
    }
    return {"data": [trace], "layout": {"margin": {"t": 60, "b": 24, "l": 80, "r": 60}}}


def _axis(d: Dimension, units: pd.Series[float]) -> Chart:
    """One of the parallel axes; a trial without a value has a place of its own, below the range."""
    ticks = _ticks(d.domain)
    if not units.isna().any():
        return {
            "label": escape(d.name),
            "range": [0, 1],
            "values": _plain(units, digits=4),
            **ticks,
        }
    return {
        "label": escape(d.name),
        "range": [INACTIVE, 1],
        "values": _plain(units.fillna(INACTIVE), digits=4),
        "tickvals": [INACTIVE, *ticks["tickvals"]],
        "ticktext": ["inactive", *ticks["ticktext"]],
    }


def bars_of_importance(found: Sequence[Importance]) -> Chart:
    """The share that each explains alone, with its bar; red, yellow, green also in words."""
    words = {"red": " (tune first)", "yellow": " (then)", "green": ""}
    colours = {"red": RED, "yellow": YELLOW, "green": GREEN}
    rows = list(found)[::-1]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [round(i.share, 5) for i in rows],
        "y": [escape(i.name) + words[i.colour] for i in rows],
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
    chart = _chart([trace], x="share explained alone", y="")
    chart["layout"]["xaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    chart["layout"] |= {"height": 90 + 26 * len(rows), "margin": {"l": 140, "t": 10, "r": 20}}
    return chart


def rungs(run: RunTables) -> Chart:
    """How many entered each rung, and what became of those that did not go on."""
    found = count_trials_by_rung(run)
    parts = {
        "went_on": ("went on", BLUE), "complete": ("complete", GREEN), "waiting": ("paused", GREY),
        "pruned": ("pruned", ORANGE), "bad": ("diverged or failed before it", RED),
        "under_way": ("stopped or still training before it", BROWN),
    }  # fmt: skip
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": [
                f"epoch {e}<br>reached by {n:,}"
                for e, n in zip(found["epoch"], found["entered"], strict=True)
            ],
            "y": _plain(found[column]),
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}} {name}<extra></extra>",
        }
        for column, (name, colour) in parts.items()
        if len(found) and found[column].any()
    ]
    chart = _chart(traces, x="rung", y="trials", legend=True)
    chart["layout"]["barmode"] = "stack"
    chart["layout"]["legend"] |= {"traceorder": "normal", "y": -0.4}
    return chart


def workers(run: RunTables) -> Chart:
    """What each worker did when; the gaps are time in which it did not train."""
    found = list_worker_spans(run)
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


def over_each_other(runs: Sequence[tuple[Spec, RunTables]], *, over: str = "spent") -> Chart:
    """The best so far of several runs; those that differ in their seed alone as one band."""
    colours = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
    traces: list[Chart] = []
    for i, own in enumerate(group_seed_repeats(runs)):
        colour = colours[i % len(colours)]
        steps = [trace_incumbent(run) for _, run in own]
        steps = [s for s in steps if len(s)]
        if not steps:
            continue
        more = len(own) - 1
        name = escape(own[0][1].folder.name)
        name += f" and {more} more seed{'s' if more > 1 else ''}" if more else ""
        # from where all have a result to where the first one ends
        x = np.unique(np.concatenate([s[over].to_numpy(float) for s in steps]))
        x = x[
            (x >= max(s[over].iloc[0] for s in steps)) & (x <= min(s[over].iloc[-1] for s in steps))
        ]
        y = np.array([_stepped(s, over, x) for s in steps])
        if len(steps) > 1:
            edge = {"line": {"width": 0, "shape": "hv"}, "showlegend": False, "hoverinfo": "skip"}
            traces += [
                _line(x, y.min(axis=0), name, colour) | edge,
                _line(x, y.max(axis=0), name, colour) | edge
                | {"fill": "tonexty", "fillcolor": f"{colour}33"},
            ]  # fmt: skip
        traces.append(_line(x, y.mean(axis=0), name, colour))
    return _chart(traces, x=OVER[over], y=str(runs[0][1].objective), legend=True)


def _stepped(found: pd.DataFrame, over: str, x: np.ndarray) -> np.ndarray:
    """The best so far at each x, none of them before the first result."""
    place = np.searchsorted(found[over].to_numpy(float), x, side="right") - 1
    best: np.ndarray = found["best"].to_numpy(float)[place]
    return best


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


def _with_result(run: RunTables) -> pd.DataFrame:
    """The trials that have one; the table of a run that has just begun lacks the columns too."""
    needed = [run.objective.metric, *(f"unit_{d.name}" for d in run.space.dimensions)]
    missing = dict.fromkeys(set(needed) - set(run.trials), np.nan)
    trials = run.trials.assign(**missing)
    return trials[trials[run.objective.metric].notna()]


def _thinned(trials: pd.DataFrame, run: RunTables, most: int) -> pd.DataFrame:
    """The best half of those that are kept, and a sample of the rest; by id."""
    if len(trials) <= most:
        return trials
    order = trials[run.objective.metric].sort_values(ascending=not run.objective.maximize).index
    rest = np.random.default_rng(0).permutation(order[most // 2 :])[: most - most // 2]
    return trials.loc[sorted([*order[: most // 2], *rest])]


def _ticks(domain: Real | Integer | Choice) -> Chart:
    """Where an axis of the unit cube has its ticks, and the values that stand there."""
    if isinstance(domain, Choice):
        k = len(domain.options)
        return {
            "tickvals": [(i + 0.5) / k for i in range(k)],
            "ticktext": [escape(str(o)) for o in domain.options],
        }
    if isinstance(domain, Integer) and domain.high - domain.low < 2 * TICKS:
        values: list[Any] = list(range(domain.low, domain.high + 1))
    else:
        between = (_rounded(domain, i / (TICKS - 1)) for i in range(1, TICKS - 1))
        inside = {v for v in between if domain.low < v < domain.high}
        values = [domain.low, *sorted(inside), domain.high]
    return {
        "tickvals": [domain.to_unit(v) for v in values],
        "ticktext": [*map(format_number, values)],
    }


def _rounded(domain: Real | Integer, u: float) -> float:
    """A value near this coordinate that a person would write."""
    value = float(domain.from_unit(u))
    match domain.scale:
        case "log2":
            return float(2 ** round(math.log2(value)))
        case "log":
            return float(f"{value:.1g}")
        case "reverse_log":
            return 1 - float(f"{1 - value:.1g}")
    return float(f"{value:.2g}")


def _where_it_counts(
    values: pd.Series[float], *, maximize: bool, margin: float = 0.06
) -> list[float]:
    """From the best to the worst quarter's edge: what is far off would flatten the rest."""
    finite = values[np.isfinite(values.astype(float))].astype(float)
    if finite.empty:
        return [0.0, 1.0]
    low, high = float(finite.min()), float(finite.max())
    if len(finite) >= FEW and maximize:
        low = float(finite.quantile(0.25))
    elif len(finite) >= FEW:
        high = float(finite.quantile(0.75))
    pad = margin * (high - low) or 0.01
    return [low - pad, high + pad]


def _chart(traces: list[Chart], *, x: str, y: str, legend: bool = False) -> Chart:
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": x}, "automargin": True},
            "yaxis": {"title": {"text": y}, "automargin": True},
            "showlegend": legend,
            "legend": {"orientation": "h", "y": -0.3, "yanchor": "top"},
            "margin": {"t": 20, "r": 16, "b": 50},
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
