"""`caviar report`: a run as one HTML page that opens offline; with several runs, side by side.

`charts.py` makes the charts and `page.js` draws them. Text that comes from a user, such as a
column's name or a failure's message, is escaped in HTML, and in JSON it cannot end its script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from orchestrator.store.files import (
    atomic_write,
    make_folder,
    remove_leftovers,
    reporting_write_errors,
)
from pipelines.data.intervals import estimate_interval
from pipelines.runs.spec import Spec, dump_spec
from pipelines.see import charts
from pipelines.see.compare import RunComparison, compare_runs
from pipelines.see.formatting import format_duration, format_number, format_with_interval
from pipelines.see.importance import (
    MIN_TRIALS,
    Importance,
    Interaction,
    compute_importance,
    format_interactions,
)
from pipelines.see.placement import PlacedValue, locate_best_values
from pipelines.see.ranking import rank_epochs
from pipelines.see.run import RunTables, load_run
from pipelines.see.run_spec import read_run_spec
from pipelines.see.summary import summarize_run
from pipelines.see.views import count_saved_epochs, group_failures

__all__ = ["format_page", "write_page"]

SHOWN_FAILURES = 12  #: kinds of failures that are listed
AXES = 10  #: hyperparameters that the parallel coordinates show
IN_THREE_COLOURS = (
    "the share of the differences between trials that each explains alone (functional ANOVA over "
    "random forests; the bars hold 80 % of resamples). Red: tune first, it explains at least half "
    "as much as the most important one; yellow: tune next, at least a fifth; green: leave it"
)
CUT = "values that are far off are outside the axis (a double click shows all)"


def format_page(folders: Sequence[Path]) -> str:
    """Write the page of one run, or of several runs side by side, as HTML.

    Raises:
        RunError: If a folder holds no run, or the runs cannot be compared.
    """
    runs = [(read_run_spec(folder), load_run(folder)) for folder in folders]
    content: dict[str, Any] = {}
    parts = []
    if len(runs) > 1:
        parts.append(_format_comparison(compare_runs(runs), runs, content))
    for i, (spec, run) in enumerate(runs):
        body = _format_run(spec, run, content, prefix=f"r{i}-")
        shown = body if len(runs) == 1 else _fold(str(run.folder), body)
        parts.append(shown)
    title = str(folders[0]) if len(runs) == 1 else f"{len(runs)} runs"
    return _format_document(title, "\n".join(parts), content)


def write_page(folders: Sequence[Path], out: Path) -> None:
    """Write the page of these runs to a file; a failure leaves no partial file."""
    text = format_page(folders)
    with reporting_write_errors(out.parent):
        make_folder(out.parent)
        remove_leftovers(out.parent)
        with atomic_write(out) as file:
            file.write(text.encode())


# ---------------------------------------------------------------------- one run


class _Figures:
    """The charts of one run: their HTML elements, and their content for page.js in `content`."""

    def __init__(self, content: dict[str, Any], *, prefix: str) -> None:
        self._content, self._prefix = content, prefix

    def add(self, name: str, chart: Any, title: str = "", note: str = "") -> str:
        """Add a chart and return its HTML element; a sentence if the chart has no data."""
        if not chart.get("data", True):
            return f"<p>{escape(title)}: nothing yet.</p>"
        id = self._prefix + name
        self._content[id] = chart
        caption = f"<figcaption>{escape(title)}</figcaption>" if title else ""
        note = f"<p class=note>{escape(note)}</p>" if note else ""
        return f'<figure>{caption}{note}<div class=chart id="{id}"></div></figure>'


def _format_run(spec: Spec, run: RunTables, content: dict[str, Any], *, prefix: str) -> str:
    summary, figures = summarize_run(run), _Figures(content, prefix=prefix)
    single, pairs = compute_importance(spec, run)
    names = [i.name for i in single] or [d.name for d in run.space.dimensions]
    curves = charts.draw_learning_curves(run)
    busy = f"{summary['utilisation']:.0%} of it was training; gaps are idle"
    sections = {
        "The answer": _format_answer(run, summary),
        "Best so far": _format_progress(run, figures),
        "Learning curves": figures.add("curves", curves, f"{run.objective} after each epoch", CUT),
        "From coarse to fine": _format_pair(run, figures, names, prefix=prefix),
        "What matters": _format_importance(single, pairs, figures),
        "Each hyperparameter": _format_parameters(run, figures, names),
        "All at once": _format_coordinates(run, figures, names),
        "Pruning": _format_pruning(spec, run, figures),
        "Workers": figures.add("workers", charts.draw_workers(run), "Workers' time", busy),
        "What went wrong": _format_failures(run),
        "Load it yourself": _format_code(run),
        "The spec": f"<pre>{escape(dump_spec(spec))}</pre>",
    }
    return "\n".join(_format_section(title, body) for title, body in sections.items())


def _format_progress(run: RunTables, figures: _Figures) -> str:
    by_epochs = charts.draw_incumbent(run, over="spent")
    by_time = charts.draw_incumbent(run, over="at_seconds")
    return (
        "<div class=two>"
        + figures.add("spent", by_epochs, "Best so far, by epochs")
        + figures.add("seconds", by_time, "Best so far, by time")
        + "</div>"
    )


def _format_pair(run: RunTables, figures: _Figures, names: Sequence[str], *, prefix: str) -> str:
    return _format_selectors(prefix, names, chosen=_select_active(run, names)) + figures.add(
        "pair",
        {"table": charts.tabulate_trials(run)},
        "Trials in the plane of two hyperparameters, each on its own scale",
        f"golden is good; circles are coarse trials, diamonds fine ones, the star is the "
        f"best trial, the frames are the boxes of the zooms{_describe_sample(charts.POINTS, run)}",
    )


def _format_importance(
    single: list[Importance], pairs: list[Interaction], figures: _Figures
) -> str:
    if not single:
        return f"<p>Too few trials to say (it needs {MIN_TRIALS} with different results).</p>"
    chart = charts.draw_importance(single)
    together = escape("; ".join(format_interactions(pairs)))
    return (
        figures.add("importance", chart, "Importance in three colours", IN_THREE_COLOURS)
        + f"<p>What two explain only together: {together}</p>"
    )


def _format_parameters(run: RunTables, figures: _Figures, names: Sequence[str]) -> str:
    small = "".join(
        figures.add(f"parameter-{i}", charts.draw_parameter(run, name))
        for i, name in enumerate(names)
    )
    return (
        f"<p class=note>{escape(str(run.objective))} of each trial that has a value; {CUT}"
        f"{_describe_sample(charts.SMALL, run)}; {_format_legend(run)}</p>"
        f"<div class=many>{small}</div>"
    )


def _format_coordinates(run: RunTables, figures: _Figures, names: Sequence[str]) -> str:
    figure = figures.add(
        "coordinates",
        charts.draw_parallel_coordinates(run, names[:AXES]),
        "Each line is a trial; golden is good",
        f"the {min(AXES, len(names))} most important of {len(names)} hyperparameters; "
        f"a value beyond the end of the metric's axis is drawn at its end",
    )
    return f"<div class=wide>{figure}</div>"


def _format_answer(run: RunTables, summary: dict[str, Any]) -> str:
    top = summary["best"]
    fates = ", ".join(
        f"{summary[name]} {name}"
        for name in ("completed", "paused", "pruned", "diverged", "failed", "running", "stopped")
        if summary[name]
    )
    counts = (
        f"<p>{_format_count(summary['trials'], 'trial')} ({escape(fates)}), "
        f"{_format_count(summary['epochs'], 'epoch')} in "
        f"{escape(format_duration(summary['seconds']))}; {escape(run.status)}.</p>"
    )
    if top is None:
        return f"<p class=big>No model yet.</p>{counts}"
    rows = run.session.rows

    def read_interval(split: str, name: str) -> Sequence[float] | None:
        """A run that has not ended has only intervals that follow from the metric's value."""
        interval: Sequence[float] | None = top["intervals"].get(split, {}).get(name)
        if interval is None and rows.get(split) and name in top[split]:
            return estimate_interval(name, top[split][name], rows[split])
        return interval

    def format_metric(split: str, name: str) -> str:
        value = top[split].get(name)
        if value is None:
            return ""
        return escape(format_with_interval(value, read_interval(split, name)))

    metrics = "".join(
        f"<tr><th>{escape(name)}</th><td>{format_metric('validation', name)}</td>"
        f"<td>{format_metric('test', name)}</td></tr>"
        for name in top["validation"]
    )
    decisive = run.objective.metric
    value = float(rank_epochs(run).iloc[0][decisive])
    tested = next((v for n, v in top["test"].items() if f"validation_{n}" == decisive), None)
    test = "" if tested is None else f", test <b>{escape(format_number(tested))}</b>"
    values = "".join(map(_format_placed_value, locate_best_values(run)))
    return (
        f"<p class=big>{escape(str(run.objective))} "
        f"<b>{escape(format_number(value))}</b>{test}</p>"
        f"<p>Trial {top['trial']}, epoch {top['epoch']}, from the {escape(str(top['stage']))} "
        f"stage. It was chosen because its validation result is the best of "
        f"{summary['epochs']:,}, so that result is optimistic; the test rows were used for no "
        f"decision. In brackets: 95 % intervals.</p>"
        f"<table><tr><th></th><th>validation</th><th>test</th></tr>{metrics}</table>"
        f"<table class=config>{values}</table>{counts}"
    )


def _format_placed_value(p: PlacedValue) -> str:
    warning = f" <b>on the {p.border} border</b>" if p.border else ""
    return (
        f"<tr><th>{escape(p.name)}</th><td>{escape(format_number(p.value))}</td>"
        f'<td><span class=range><i style="left:{100 * p.unit:.1f}%"></i></span></td>'
        f"<td>{escape(p.domain)}{warning}</td></tr>"
    )


def _select_active(run: RunTables, names: Sequence[str]) -> list[str]:
    """Select the hyperparameters that most trials have; a plane of others would be nearly empty."""
    active = run.trials.reindex(columns=[f"unit_{n}" for n in names]).notna().mean()
    most = [n for n in names if active[f"unit_{n}"] > 0.5]
    return most if len(most) > 1 else list(names)


def _format_selectors(prefix: str, names: Sequence[str], chosen: Sequence[str]) -> str:
    def options(which: Sequence[str]) -> str:
        return "".join(
            f'<option value="{escape(n)}"{" selected" if n in which else ""}>{escape(n)}</option>'
            for n in names
        )

    x, y = options(chosen[:1]), options(chosen[1:2])
    return (
        f'<p class=pick><label>horizontal axis <select id="{prefix}pair-x">{x}</select></label> '
        f'<label>vertical axis <select id="{prefix}pair-y">{y}</select></label></p>'
    )


def _format_pruning(spec: Spec, run: RunTables, figures: _Figures) -> str:
    saved = count_saved_epochs(run, spec.max_epochs)
    whole = len(run.trials) * spec.max_epochs
    other = whole - len(run.epochs) - saved
    text = (
        f"<p>Training every trial to the end takes {whole:,} epochs. It took {len(run.epochs):,}; "
        f"pruning saved {saved:,} ({saved / whole:.0%})"
        + (f", and trials that went bad or were stopped left {other:,}" if other else "")
        + ".</p>"
        if whole
        else ""
    )
    chart = charts.draw_rungs(run)
    return text + figures.add("rungs", chart, "Trials at each rung, and what became of them")


def _describe_sample(most: int, run: RunTables) -> str:
    """Describe what a chart of at most `most` trials shows if there are more."""
    sample = f"; {most:,} trials: half of them the best, half a sample of the rest"
    return sample if len(run.trials) > most else ""


def _format_legend(run: RunTables) -> str:
    """Write the colours of the statuses that occur."""
    statuses = [fate for fate in charts.FATES if (run.trials["status"] == fate).any()]
    return ", ".join(
        f'<span class=fate style="background:{charts.FATES[fate]}"></span> {fate.lower()}'
        for fate in statuses
    )


def _format_count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _format_failures(run: RunTables) -> str:
    failures = group_failures(run)
    if failures.empty:
        return "<p>Nothing.</p>"
    rows = "".join(
        f"<tr><td>{escape(r['kind'])}</td><td>{r['trials']}</td><td>{r['example']}</td>"
        f"<td>{escape(str(r['reason']))}</td></tr>"
        for _, r in failures.head(SHOWN_FAILURES).iterrows()
    )
    more = (
        f"<p>and {len(failures) - SHOWN_FAILURES} more kinds</p>"
        if len(failures) > SHOWN_FAILURES
        else ""
    )
    head = "<tr><th></th><th>trials</th><th>for example</th><th>why</th></tr>"
    return f"<table>{head}{rows}</table>{more}"


def _format_code(run: RunTables) -> str:
    folder = str(run.folder.resolve())
    lines = (
        "import caviar, pandas, duckdb, polars",
        "",
        f"caviar.load({folder!r}).trials",
        f"pandas.read_parquet({folder + '/epochs'!r})",
        f"duckdb.read_parquet({folder + '/trials/*.parquet'!r})",
        f"polars.read_parquet({folder + '/events/*.parquet'!r})",
    )
    return "<pre>" + escape("\n".join(lines)) + "</pre>"


# ---------------------------------------------------------------------- several runs


def _format_comparison(
    comparison: RunComparison, runs: Sequence[tuple[Spec, RunTables]], content: dict[str, Any]
) -> str:
    rows = "".join(
        f"<tr><td>{escape(row['run'])}</td><td>{escape(row['status'])}</td>"
        f"<td>{_format_cell(row['best'])}</td><td>{_format_cell(row['test'])}</td>"
        f"<td>{row['trials']}</td><td>{row['epochs']:,}</td>"
        f"<td>{escape(format_duration(row['seconds']))}</td><td>{_mark(difference)}</td></tr>"
        for (_, row), difference in zip(
            comparison.table.iterrows(), comparison.differences, strict=True
        )
    )
    head = (
        f"<tr><th>run</th><th></th><th>{escape(comparison.metric)}</th><th>test</th><th>trials</th>"
        f"<th>epochs</th><th>time</th><th>differs in</th></tr>"
    )
    tests = "".join(
        f"<p>Same {p.seeds} seeds: {escape(p.first)} and its repeats are better than "
        f"{escape(p.second)} and its repeats by {p.gain:+.4g} ± {p.error:.2g} "
        f"(paired t-test, p = {p.chance:.2g}).</p>"
        for p in comparison.paired
    )
    content["over"] = charts.draw_runs(runs)
    content["over-time"] = charts.draw_runs(runs, over="at_seconds")
    figures = "".join(
        f'<figure><figcaption>{title}</figcaption><div class=chart id="{name}"></div></figure>'
        for name, title in (
            ("over", "Best so far, by epochs"),
            ("over-time", "Best so far, by time"),
        )
    )
    return _format_section(
        "Side by side",
        f"<table>{head}{rows}</table>{tests}<div class=two>{figures}</div>"
        f"<p class=note>Runs that differ in their seed alone are one line, their mean, in a band "
        f"from the worst to the best of them; it ends with the shortest of them.</p>"
        f"<h3>Their best configurations</h3>{_format_configs([run for _, run in runs])}",
    )


def _format_configs(runs: Sequence[RunTables]) -> str:
    """Write the best configuration of each run as a column; values that differ are marked."""
    configs = [{p.name: format_number(p.value) for p in locate_best_values(run)} for run in runs]
    head = "".join(f"<th>{escape(run.folder.name)}</th>" for run in runs)
    rows = ""
    for name in dict.fromkeys(name for config in configs for name in config):
        values = [config.get(name, "") for config in configs]
        mark = _mark if len(set(values)) > 1 else escape
        cells = "".join(f"<td>{mark(value)}</td>" for value in values)
        rows += f"<tr><th>{escape(name)}</th>{cells}</tr>"
    return f"<table><tr><th></th>{head}</tr>{rows}</table>"


def _mark(difference: str) -> str:
    return f"<mark>{escape(difference)}</mark>" if difference else ""


def _format_cell(value: float) -> str:
    return "" if pd.isna(value) else escape(format_number(float(value)))


# ---------------------------------------------------------------------- the document


def _format_section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _fold(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def _format_document(title: str, body: str, content: dict[str, Any]) -> str:
    from plotly.offline import get_plotlyjs

    assets = files("pipelines.see")
    data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{assets.joinpath('page.css').read_text()}</style>"
        f"</head><body><main><h1>{escape(title)}</h1>{body}</main>"
        f"<script>{get_plotlyjs()}</script>"
        f'<script id=drawn type="application/json">{data}</script>'
        f"<script>{assets.joinpath('page.js').read_text()}</script></body></html>"
    )
