"""The page's charts: from a run's tables to what Plotly draws, as plain values for JSON.

Every axis of a hyperparameter goes from 0 to 1, as in the unit cube, so that each has its own
scale; its ticks show the values. Only a sample of many trials is drawn, so that the page of a long
run stays small. Plotly reads text as markup, so each name that a user chose is escaped here.
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
    "draw_importance",
    "draw_incumbent",
    "draw_learning_curves",
    "draw_parallel_coordinates",
    "draw_parameter",
    "draw_rungs",
    "draw_runs",
    "draw_workers",
    "tabulate_trials",
]

Chart = dict[str, Any]  #: {"data": traces, "layout": layout}, as Plotly.newPlot takes them

#: Okabe & Ito's palette, which colour-blind readers can tell apart.
BLUE, SKY, GREEN, YELLOW, ORANGE, RED, PURPLE, GREY = (
    "#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00", "#CC79A7", "#999999",
)  # fmt: skip
BROWN = "#8C6D1F"  #: in place of the palette's yellow, whose thin lines are invisible on white
FATES = {
    Status.COMPLETED: BLUE,
    Status.PAUSED: GREY,
    Status.PRUNED: ORANGE,
    Status.DIVERGED: RED,
    Status.FAILED: PURPLE,
    Status.STOPPED: BROWN,
    Status.RUNNING: SKY,
}
CURVES = 240  #: learning curves that are drawn: a third are the best, the rest a sample
POINTS = 2_000  #: trials in the scatter of two hyperparameters and in the parallel coordinates
SMALL = 400  #: trials in each small scatter, which shows one hyperparameter
FEW = 20  #: with fewer values, an axis shows all of them
BLOCKS = 2_000  #: most bars of one worker in the timeline; smaller gaps are not drawn
TICKS = 5  #: ticks of an axis of numbers
INACTIVE = -0.12  #: coordinate of trials that have no value of the axis's hyperparameter
SECONDS = "seconds since the run began"
OVER = {"spent": "epochs spent, all trials", "at_seconds": SECONDS}


def draw_incumbent(run: RunTables, *, over: str) -> Chart:
    """Draw the incumbent over the epochs of all trials (`spent`) or over time (`at_seconds`)."""
    traced = trace_incumbent(run)
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "line": {"shape": "hv", "color": BLUE},
        "marker": {"size": 4},
        "x": _to_json_numbers(traced[over]),
        "y": _to_json_numbers(traced["best"]),
        "text": [f"trial {t}, epoch {e}, {s}" for t, e, s in zip(
            traced["trial"], traced["epoch"], traced["stage"], strict=True)],
        "hovertemplate": "%{y:.5g}<br>%{text}<extra></extra>",
    }  # fmt: skip
    return _make_chart([trace], x=OVER[over], y=str(run.objective))


def draw_learning_curves(run: RunTables) -> Chart:
    """Draw learning curves, each in the colour of its trial's status, the best trial on top."""
    epochs, metric = run.epochs, run.objective.metric
    if epochs.empty:
        return _make_chart([], x="epoch", y=str(run.objective))
    losses = compute_losses(run, epochs).groupby(epochs["trial"]).min().sort_values()
    shown = list(losses.index[: CURVES // 3])
    rest = losses.index[CURVES // 3 :]
    sample = np.random.default_rng(0).permutation(len(rest))[: CURVES - len(shown)]
    shown += [rest[i] for i in sorted(sample)]
    top = describe_best(run)
    winner = top["trial"] if top else None
    if winner is not None and winner not in shown:  # as good as others that are shown
        shown[0] = winner
    status = run.trials.set_index("trial")["status"]
    rows = epochs[epochs["trial"].isin(shown)].sort_values(["trial", "epoch"])
    groups = dict(list(rows.groupby("trial")))
    traces = []
    for fate, colour in FATES.items():
        with_status = [groups[t] for t in shown if status[t] == fate and t != winner]
        if with_status:
            traces.append(
                _make_curves(with_status, metric, fate.lower(), colour, width=1, opacity=0.45)
            )
    if winner in groups:
        traces.append(
            _make_curves([groups[winner]], metric, f"trial {winner}, the best", GREEN, width=3)
        )
    left_out = len(losses) - len(shown)
    label = f"epoch ({left_out:,} of {len(losses):,} trials are left out)" if left_out else "epoch"
    chart = _make_chart(traces, x=label, y=str(run.objective), legend=True)
    low, high = _choose_range(rows[metric], maximize=run.objective.maximize)
    if winner in groups:  # the whole curve of the best trial
        whole = groups[winner][metric].replace([np.inf, -np.inf], np.nan)
        low, high = min(low, float(whole.min())), max(high, float(whole.max()))
    chart["layout"]["yaxis"]["range"] = [low, high]
    return chart


def _make_curves(
    trials: Sequence[pd.DataFrame], metric: str, name: str, colour: str, *, width: int,
    opacity: float = 1.0,
) -> Chart:  # fmt: skip
    """Make one trace of many curves, with gaps in between."""
    x: list[Any] = []
    y: list[Any] = []
    text: list[Any] = []
    sizes: list[int] = []
    for rows in trials:
        x += [*_to_json_numbers(rows["epoch"]), None]
        y += [*_to_json_numbers(rows[metric]), None]
        text += [f"trial {rows['trial'].iloc[0]}"] * len(rows) + [None]
        sizes += [4 if len(rows) == 1 else 0] * (len(rows) + 1)  # a line of one epoch is a point
    return {
        "type": "scatter", "mode": "lines+markers",
        "name": name, "x": x, "y": y, "text": text, "opacity": opacity,
        "line": {"color": colour, "width": width}, "marker": {"color": colour, "size": sizes},
        "hovertemplate": "%{text}, epoch %{x}: %{y:.5g}<extra></extra>",
    }  # fmt: skip


def tabulate_trials(run: RunTables) -> dict[str, Any]:
    """Collect what page.js draws for a pair of hyperparameters: values, ticks and boxes."""
    o, top = run.objective, describe_best(run)
    trials = _thin_out(_select_trials(run), run, POINTS)
    dimensions = run.space.dimensions
    return {
        "metric": str(o),
        "range": _choose_range(trials[o.metric], maximize=o.maximize),
        "maximize": o.maximize,
        "trial": _to_json_numbers(trials["trial"]),
        "best": top and top["trial"],
        "value": _to_json_numbers(trials[o.metric]),
        "stage": list(trials["stage"]),
        "status": list(trials["status"]),
        "unit": {d.name: _to_json_numbers(trials[f"unit_{d.name}"], digits=4) for d in dimensions},
        "names": {d.name: escape(d.name) for d in dimensions},
        "ticks": {d.name: _make_ticks(d.domain) for d in dimensions},
        "boxes": list_zooms(run),
    }


def draw_parameter(run: RunTables, name: str) -> Chart:
    """Draw the metric of each trial over one hyperparameter."""
    o = run.objective
    (d,) = (d for d in run.space.dimensions if d.name == name)
    with_result = _select_trials(run)
    active = with_result[with_result[f"unit_{name}"].notna()]
    trials = _thin_out(active, run, SMALL)
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": _to_json_numbers(trials[f"unit_{name}"], digits=4),
        "y": _to_json_numbers(trials[o.metric]),
        "text": [f"trial {t}: {escape(format_number(v))}" for t, v in zip(
            trials["trial"], trials[f"config_{name}"], strict=True)],
        "marker": {
            "size": 4,
            "opacity": 0.6,
            "color": [FATES[Status(s)] for s in trials["status"]],
        },
        "hovertemplate": "%{text}<br>%{y:.5g}<extra></extra>",
    }  # fmt: skip
    label = escape(name)
    if len(active) < len(with_result):
        label += f" ({len(active):,} of {len(with_result):,} trials)"
    chart = _make_chart([trace], x=label, y="")
    chart["layout"]["xaxis"] |= _make_ticks(d.domain) | {"range": [-0.03, 1.03]}
    chart["layout"] |= {"height": 220, "margin": {"t": 8, "r": 8, "b": 40, "l": 50}}
    chart["layout"]["yaxis"]["range"] = _choose_range(with_result[o.metric], maximize=o.maximize)
    return chart


def draw_parallel_coordinates(run: RunTables, names: Sequence[str]) -> Chart:
    """Draw parallel coordinates of these hyperparameters, coloured by the metric."""
    o = run.objective
    trials = _thin_out(_select_trials(run), run, POINTS)
    if trials.empty:
        return _make_chart([], x="", y="")
    by_name = {d.name: d for d in run.space.dimensions}
    low, high = _choose_range(trials[o.metric], maximize=o.maximize, margin=0.0)
    axes = [_make_axis(by_name[name], trials[f"unit_{name}"]) for name in names]
    axes.append({
        "label": str(o), "range": [low, high],
        "values": _to_json_numbers(trials[o.metric].clip(low, high)),
    })  # fmt: skip
    trace = {
        "type": "parcoords",
        "dimensions": axes,
        "line": {
            "color": _to_json_numbers(trials[o.metric]),
            "reversescale": not o.maximize,
            "cmin": low,
            "cmax": high,
            "showscale": False,
        },
    }
    return {"data": [trace], "layout": {"margin": {"t": 60, "b": 24, "l": 80, "r": 60}}}


def _make_axis(d: Dimension, units: pd.Series[float]) -> Chart:
    """Make one of the parallel axes; a trial without a value is drawn below the range."""
    ticks = _make_ticks(d.domain)
    if not units.isna().any():
        return {
            "label": escape(d.name),
            "range": [0, 1],
            "values": _to_json_numbers(units, digits=4),
            **ticks,
        }
    return {
        "label": escape(d.name),
        "range": [INACTIVE, 1],
        "values": _to_json_numbers(units.fillna(INACTIVE), digits=4),
        "tickvals": [INACTIVE, *ticks["tickvals"]],
        "ticktext": ["inactive", *ticks["ticktext"]],
    }


def draw_importance(importance: Sequence[Importance]) -> Chart:
    """Draw the share that each hyperparameter explains alone, with its error bar.

    Red and yellow are also written in words.
    """
    words = {"red": " (tune first)", "yellow": " (then)", "green": ""}
    colours = {"red": RED, "yellow": YELLOW, "green": GREEN}
    rows = list(importance)[::-1]
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
    chart = _make_chart([trace], x="share explained alone", y="")
    chart["layout"]["xaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    chart["layout"] |= {"height": 90 + 26 * len(rows), "margin": {"l": 140, "t": 10, "r": 20}}
    return chart


def draw_rungs(run: RunTables) -> Chart:
    """Draw how many trials entered each rung, and what became of those that did not go on."""
    counts = count_trials_by_rung(run)
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
                for e, n in zip(counts["epoch"], counts["entered"], strict=True)
            ],
            "y": _to_json_numbers(counts[column]),
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}} {name}<extra></extra>",
        }
        for column, (name, colour) in parts.items()
        if len(counts) and counts[column].any()
    ]
    chart = _make_chart(traces, x="rung", y="trials", legend=True)
    chart["layout"]["barmode"] = "stack"
    chart["layout"]["legend"] |= {"traceorder": "normal", "y": -0.4}
    return chart


def draw_workers(run: RunTables) -> Chart:
    """Draw when each worker trained; the gaps are time in which it did not."""
    spans = list_worker_spans(run)
    if spans.empty:
        return _make_chart([], x=SECONDS, y="")
    merged = _merge_spans(spans, gap=float(spans["end_seconds"].max()) / BLOCKS)
    names = [f"worker {w}" for w in merged["worker"]]
    trace = {
        "type": "bar",
        "orientation": "h",
        "base": _to_json_numbers(merged["begin_seconds"]),
        "x": _to_json_numbers(merged["end_seconds"] - merged["begin_seconds"]),
        "y": names,
        "marker": {"color": SKY, "line": {"width": 0}},
        "hovertemplate": "%{y}, %{base:.2f} s: trained for %{x:.2f} s<extra></extra>",
    }
    chart = _make_chart([trace], x=SECONDS, y="")
    chart["layout"] |= {
        "height": 110 + 22 * merged["worker"].nunique(), "margin": {"l": 80, "t": 10, "r": 20}
    }  # fmt: skip
    return chart


def draw_runs(runs: Sequence[tuple[Spec, RunTables]], *, over: str = "spent") -> Chart:
    """Draw the incumbents of several runs; runs that differ in their seed alone are one band."""
    colours = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
    traces: list[Chart] = []
    for i, group in enumerate(group_seed_repeats(runs)):
        colour = colours[i % len(colours)]
        steps = [trace_incumbent(run) for _, run in group]
        steps = [s for s in steps if len(s)]
        if not steps:
            continue
        more = len(group) - 1
        name = escape(group[0][1].folder.name)
        name += f" and {more} more seed{'s' if more > 1 else ''}" if more else ""
        # from the x at which all of them have a result to the x at which the first one ends
        x = np.unique(np.concatenate([s[over].to_numpy(float) for s in steps]))
        x = x[
            (x >= max(s[over].iloc[0] for s in steps)) & (x <= min(s[over].iloc[-1] for s in steps))
        ]
        y = np.array([_read_steps(s, over, x) for s in steps])
        if len(steps) > 1:
            edge = {"line": {"width": 0, "shape": "hv"}, "showlegend": False, "hoverinfo": "skip"}
            traces += [
                _make_step_line(x, y.min(axis=0), name, colour) | edge,
                _make_step_line(x, y.max(axis=0), name, colour) | edge
                | {"fill": "tonexty", "fillcolor": f"{colour}33"},
            ]  # fmt: skip
        traces.append(_make_step_line(x, y.mean(axis=0), name, colour))
    return _make_chart(traces, x=OVER[over], y=str(runs[0][1].objective), legend=True)


def _read_steps(traced: pd.DataFrame, over: str, x: np.ndarray) -> np.ndarray:
    """Read the incumbent at each x; no x lies before the first result."""
    place = np.searchsorted(traced[over].to_numpy(float), x, side="right") - 1
    best: np.ndarray = traced["best"].to_numpy(float)[place]
    return best


def _make_step_line(x: np.ndarray, y: np.ndarray, name: str, colour: str) -> Chart:
    return {
        "type": "scatter", "mode": "lines", "name": name,
        "x": _to_json_numbers(x), "y": _to_json_numbers(y),
        "line": {"color": colour, "shape": "hv"},
    }  # fmt: skip


def _merge_spans(spans: pd.DataFrame, gap: float) -> pd.DataFrame:
    """Merge spans of one worker whose gap is at most `gap`, which is too small to be seen."""
    rows = spans.sort_values(["worker", "begin_seconds"])
    before = rows.groupby("worker")["end_seconds"].cummax().shift()
    new = (rows["begin_seconds"] - before > gap) | (rows["worker"] != rows["worker"].shift())
    return rows.groupby([rows["worker"], new.cumsum()]).agg(
        worker=("worker", "first"),
        begin_seconds=("begin_seconds", "min"),
        end_seconds=("end_seconds", "max"),
    )


def _select_trials(run: RunTables) -> pd.DataFrame:
    """Select the trials with a result; a run that has just begun lacks even the columns."""
    needed = [run.objective.metric, *(f"unit_{d.name}" for d in run.space.dimensions)]
    missing = dict.fromkeys(set(needed) - set(run.trials), np.nan)
    trials = run.trials.assign(**missing)
    return trials[trials[run.objective.metric].notna()]


def _thin_out(trials: pd.DataFrame, run: RunTables, most: int) -> pd.DataFrame:
    """Thin trials out to `most`, by id: one half are the best, the other a sample of the rest."""
    if len(trials) <= most:
        return trials
    order = trials[run.objective.metric].sort_values(ascending=not run.objective.maximize).index
    rest = np.random.default_rng(0).permutation(order[most // 2 :])[: most - most // 2]
    return trials.loc[sorted([*order[: most // 2], *rest])]


def _make_ticks(domain: Real | Integer | Choice) -> Chart:
    """Make the ticks of an axis of the unit cube: their coordinates and their values as text."""
    if isinstance(domain, Choice):
        k = len(domain.options)
        return {
            "tickvals": [(i + 0.5) / k for i in range(k)],
            "ticktext": [escape(str(o)) for o in domain.options],
        }
    if isinstance(domain, Integer) and domain.high - domain.low < 2 * TICKS:
        values: list[Any] = list(range(domain.low, domain.high + 1))
    else:
        between = (_round_for_reader(domain, i / (TICKS - 1)) for i in range(1, TICKS - 1))
        inside = {v for v in between if domain.low < v < domain.high}
        values = [domain.low, *sorted(inside), domain.high]
    return {
        "tickvals": [domain.to_unit(v) for v in values],
        "ticktext": [*map(format_number, values)],
    }


def _round_for_reader(domain: Real | Integer, u: float) -> float:
    """Round the value at this coordinate to one that a person would write."""
    value = float(domain.from_unit(u))
    match domain.scale:
        case "log2":
            return float(2 ** round(math.log2(value)))
        case "log":
            return float(f"{value:.1g}")
        case "reverse_log":
            return 1 - float(f"{1 - value:.1g}")
    return float(f"{value:.2g}")


def _choose_range(values: pd.Series[float], *, maximize: bool, margin: float = 0.06) -> list[float]:
    """Choose the range of an axis: from the best value to the edge of the worst quarter.

    Values that are far off would flatten the rest.
    """
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


def _make_chart(traces: list[Chart], *, x: str, y: str, legend: bool = False) -> Chart:
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


def _to_json_numbers(values: Any, *, digits: int = 6) -> list[Any]:
    """Round numbers for JSON to the digits that can be seen; null where there is none."""
    plain: list[Any] = []
    for v in values:
        if v is None or pd.isna(v) or (isinstance(v, float) and not math.isfinite(v)):
            plain.append(None)
        elif isinstance(v, (int, np.integer)):
            plain.append(int(v))
        else:
            plain.append(float(f"{float(v):.{digits}g}"))
    return plain
