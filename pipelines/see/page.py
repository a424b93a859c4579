"""`caviar report`: a run as one HTML page that opens offline; with several runs, side by side.

The figures are made in charts.py, drawn by page.js. Whatever comes from a user, a column's name or
a failure's message, is text: escaped in HTML, and in JSON never able to end its script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from orchestrator.store.files import atomic_write, reporting_write_errors
from pipelines.data.intervals import estimate_interval
from pipelines.runs.spec import Spec, dump_spec
from pipelines.see import charts
from pipelines.see.compare import Comparison, compare_runs
from pipelines.see.formatting import format_duration, format_number, format_with_interval
from pipelines.see.importance import compute_importance, format_interactions
from pipelines.see.placement import locate_best_values
from pipelines.see.ranking import rank_epochs
from pipelines.see.run import RunTables, load_run
from pipelines.see.run_spec import read_run_spec
from pipelines.see.summary import summarize_run
from pipelines.see.views import count_saved_epochs, group_failures

__all__ = ["page", "write_page"]

SHOWN_FAILURES = 12
AXES = 10  #: of the parallel coordinates
IN_THREE_COLOURS = (
    "the share of the differences between trials that each explains alone (functional ANOVA over "
    "random forests; the bars hold 80 % of resamples). Red: tune first, it explains at least half "
    "as much as the first; yellow: then, at least a fifth; green: leave it"
)
CUT = "what is far off is cut (double click: all)"


def page(folders: Sequence[Path]) -> str:
    """The page of one run, or of several beside each other.

    Raises:
        RunError: If there is no run in a folder, or several that cannot be compared.
    """
    runs = [(read_run_spec(folder), load_run(folder)) for folder in folders]
    drawn: dict[str, Any] = {}
    parts = []
    if len(runs) > 1:
        parts.append(_beside(compare_runs(runs), runs, drawn))
    for i, (spec, run) in enumerate(runs):
        body = _run(spec, run, drawn, prefix=f"r{i}-")
        shown = body if len(runs) == 1 else _folded(str(run.folder), body)
        parts.append(shown)
    title = str(folders[0]) if len(runs) == 1 else f"{len(runs)} runs"
    return _document(title, "\n".join(parts), drawn)


def write_page(folders: Sequence[Path], out: Path) -> None:
    """Write it, whole or not at all."""
    text = page(folders)
    with reporting_write_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as file:
            file.write(text.encode())


# ---------------------------------------------------------------------- one run


def _run(spec: Spec, run: RunTables, drawn: dict[str, Any], *, prefix: str) -> str:
    found = summarize_run(run)
    alone, pairs = compute_importance(spec, run)
    names = [i.name for i in alone] or [d.name for d in run.space.dimensions]

    def chart(name: str, content: Any, title: str, note: str = "") -> str:
        if not content.get("data", True):
            return f"<p>{escape(title)}: nothing yet.</p>"
        drawn[prefix + name] = content
        told = f"<p class=note>{escape(note)}</p>" if note else ""
        named = f"<figcaption>{escape(title)}</figcaption>" if title else ""
        return f'<figure>{named}{told}<div class=chart id="{prefix}{name}"></div></figure>'

    small = "".join(
        chart(f"against-{i}", charts.against(run, name), "") for i, name in enumerate(names)
    )
    sections = [
        _section("The answer", _answer(run, found)),
        _section(
            "Best so far",
            "<div class=two>"
            + chart("spent", charts.best_so_far(run, over="spent"), "Best so far, by epochs")
            + chart("seconds", charts.best_so_far(run, over="at_seconds"), "Best so far, by time")
            + "</div>",
        ),
        _section(
            "Learning curves",
            chart("curves", charts.curves(run), f"{run.objective} after each epoch", CUT),
        ),
        _section(
            "From coarse to fine",
            _selectors(prefix, names, chosen=_widely_active(run, names))
            + chart(
                "pair",
                {"table": charts.table_of_trials(run)},
                "Trials in the plane of two hyperparameters, each on its own scale",
                f"golden is good; circles are coarse draws, diamonds fine ones, the star is the "
                f"best trial, the frames are the zooms' boxes{_only(charts.POINTS, run)}",
            ),
        ),
        _section(
            "What matters",
            chart("importance", charts.bars_of_importance(alone), "Importance in three colours",
                  IN_THREE_COLOURS)
            + "<p>What two explain only together: "
            + escape("; ".join(format_interactions(pairs))) + "</p>"
            if alone
            else "<p>Too few trials to say (it needs 20 with different results).</p>",
        ),
        _section(
            "Each hyperparameter",
            f"<p class=note>{escape(str(run.objective))} of each trial that has a value; {CUT}"
            f"{_only(charts.SMALL, run)}; {_legend(run)}</p><div class=many>{small}</div>",
        ),
        _section(
            "All at once",
            "<div class=wide>"
            + chart("coordinates", charts.coordinates(run, names[:AXES]),
                    "Each line a trial, golden is good",
                    f"the {min(AXES, len(names))} most important of {len(names)} hyperparameters; "
                    f"what is worse than the axis of the metric stands at its end")
            + "</div>",
        ),
        _section("Pruning", _pruning(spec, run, chart)),
        _section("Workers", chart("workers", charts.workers(run), "Workers' time",
                                  f"{found['utilisation']:.0%} of it was training; gaps are idle")),
        _section("What went wrong", _failures(run)),
        _section("Load it yourself", _code(run)),
        _section("The spec", f"<pre>{escape(dump_spec(spec))}</pre>"),
    ]  # fmt: skip
    return "\n".join(sections)


def _answer(run: RunTables, found: dict[str, Any]) -> str:
    top = found["best"]
    fates = ", ".join(
        f"{found[name]} {name}"
        for name in ("completed", "paused", "pruned", "diverged", "failed", "running", "stopped")
        if found[name]
    )
    told = (
        f"<p>{_counted(found['trials'], 'trial')} ({escape(fates)}), "
        f"{_counted(found['epochs'], 'epoch')} in "
        f"{escape(format_duration(found['seconds']))}; {escape(run.status)}.</p>"
    )
    if top is None:
        return f"<p class=big>No model yet.</p>{told}"
    rows = run.session.rows

    def known(split: str, name: str) -> Sequence[float] | None:
        """Before its end a run has no intervals but those that follow from the metric's value."""
        found: Sequence[float] | None = top["intervals"].get(split, {}).get(name)
        if found is None and rows.get(split) and name in top[split]:
            return estimate_interval(name, top[split][name], rows[split])
        return found

    def cell(split: str, name: str) -> str:
        value = top[split].get(name)
        return "" if value is None else format_with_interval(value, known(split, name))

    figures = "".join(
        f"<tr><th>{escape(name)}</th><td>{cell('validation', name)}</td>"
        f"<td>{cell('test', name)}</td></tr>"
        for name in top["validation"]
    )
    decisive = run.objective.metric
    value = float(rank_epochs(run).iloc[0][decisive])
    tested = next((v for n, v in top["test"].items() if f"validation_{n}" == decisive), None)
    test = "" if tested is None else f", test <b>{escape(format_number(tested))}</b>"
    return (
        f"<p class=big>{escape(str(run.objective))} "
        f"<b>{escape(format_number(value))}</b>{test}</p>"
        f"<p>Trial {top['trial']}, epoch {top['epoch']}, from the {escape(str(top['stage']))} "
        f"stage. It was chosen by its validation figure, the best of {found['epochs']:,}, so that "
        f"one is optimistic; the test rows have chosen nothing. In brackets: 95 % intervals.</p>"
        f"<table><tr><th></th><th>validation</th><th>test</th></tr>{figures}</table>"
        f"<table class=config>{''.join(map(_placed, locate_best_values(run)))}</table>{told}"
    )


def _placed(p: Any) -> str:
    warning = f" <b>on the {p.border} border</b>" if p.border else ""
    return (
        f"<tr><th>{escape(p.name)}</th><td>{escape(format_number(p.value))}</td>"
        f'<td><span class=range><i style="left:{100 * p.unit:.1f}%"></i></span></td>'
        f"<td>{escape(p.domain)}{warning}</td></tr>"
    )


def _widely_active(run: RunTables, names: Sequence[str]) -> list[str]:
    """Those that most trials have, in their order: a plane of two others would be nearly empty."""
    known = run.trials.reindex(columns=[f"unit_{n}" for n in names]).notna().mean()
    most = [n for n in names if known[f"unit_{n}"] > 0.5]
    return most if len(most) > 1 else list(names)


def _selectors(prefix: str, names: Sequence[str], chosen: Sequence[str]) -> str:
    def options(which: Sequence[str]) -> str:
        return "".join(
            f'<option value="{escape(n)}"{" selected" if n in which else ""}>{escape(n)}</option>'
            for n in names
        )

    x, y = options(chosen[:1]), options(chosen[1:2])
    return (
        f'<p class=pick><label>across <select id="{prefix}pair-x">{x}</select></label> '
        f'<label>up <select id="{prefix}pair-y">{y}</select></label></p>'
    )


def _pruning(spec: Spec, run: RunTables, chart: Any) -> str:
    saved = count_saved_epochs(run, spec.max_epochs)
    whole = len(run.trials) * spec.max_epochs
    other = whole - len(run.epochs) - saved
    told = (
        f"<p>Training every trial to the end takes {whole:,} epochs. It took {len(run.epochs):,}; "
        f"pruning saved {saved:,} ({saved / whole:.0%})"
        + (f", and {other:,} were left by trials that went bad or were stopped" if other else "")
        + ".</p>"
        if whole
        else ""
    )
    drawn: str = chart("rungs", charts.rungs(run), "How many reached each rung, and what became")
    return told + drawn


def _only(most: int, run: RunTables) -> str:
    """What a chart of at most so many trials leaves out."""
    return f"; the best half of {most:,} and a sample" if len(run.trials) > most else ""


def _legend(run: RunTables) -> str:
    """The colours of the fates there are."""
    there = [fate for fate in charts.FATES if (run.trials["status"] == fate).any()]
    return ", ".join(
        f'<span class=fate style="background:{charts.FATES[fate]}"></span> {fate.lower()}'
        for fate in there
    )


def _counted(number: int, of_what: str) -> str:
    return f"{number:,} {of_what}{'' if number == 1 else 's'}"


def _failures(run: RunTables) -> str:
    found = group_failures(run)
    if found.empty:
        return "<p>Nothing.</p>"
    rows = "".join(
        f"<tr><td>{escape(r['kind'])}</td><td>{r['trials']}</td><td>{r['example']}</td>"
        f"<td>{escape(str(r['reason']))}</td></tr>"
        for _, r in found.head(SHOWN_FAILURES).iterrows()
    )
    more = (
        f"<p>and {len(found) - SHOWN_FAILURES} more kinds</p>"
        if len(found) > SHOWN_FAILURES
        else ""
    )
    head = "<tr><th></th><th>trials</th><th>for example</th><th>why</th></tr>"
    return f"<table>{head}{rows}</table>{more}"


def _code(run: RunTables) -> str:
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


def _beside(
    found: Comparison, runs: Sequence[tuple[Spec, RunTables]], drawn: dict[str, Any]
) -> str:
    rows = "".join(
        f"<tr><td>{escape(row['run'])}</td><td>{escape(row['status'])}</td>"
        f"<td>{_cell(row['best'])}</td><td>{_cell(row['test'])}</td>"
        f"<td>{row['trials']}</td><td>{row['epochs']:,}</td>"
        f"<td>{escape(format_duration(row['seconds']))}</td><td>{_marked(told)}</td></tr>"
        for (_, row), told in zip(found.table.iterrows(), found.differences, strict=True)
    )
    head = (
        f"<tr><th>run</th><th></th><th>{escape(found.metric)}</th><th>test</th><th>trials</th>"
        f"<th>epochs</th><th>time</th><th>differs in</th></tr>"
    )
    tests = "".join(
        f"<p>Same {p.seeds} seeds: {escape(p.first)} and its like against {escape(p.second)} and "
        f"its like: {p.gain:+.4g} ± {p.error:.2g} (paired t-test, p = {p.chance:.2g}).</p>"
        for p in found.paired
    )
    drawn["over"] = charts.over_each_other(runs)
    drawn["over-time"] = charts.over_each_other(runs, over="at_seconds")
    figures = "".join(
        f'<figure><figcaption>{title}</figcaption><div class=chart id="{name}"></div></figure>'
        for name, title in (
            ("over", "Best so far, by epochs"),
            ("over-time", "Best so far, by time"),
        )
    )
    return _section(
        "Side by side",
        f"<table>{head}{rows}</table>{tests}<div class=two>{figures}</div>"
        f"<p class=note>Runs that differ in their seed alone are one line, their mean, in a band "
        f"from the worst to the best of them, until the first of them ends.</p>"
        f"<h3>Their best configurations</h3>{_configs([run for _, run in runs])}",
    )


def _configs(runs: Sequence[RunTables]) -> str:
    """The best configuration of each run in a column; what differs is marked."""
    known = [{p.name: format_number(p.value) for p in locate_best_values(run)} for run in runs]
    head = "".join(f"<th>{escape(run.folder.name)}</th>" for run in runs)
    rows = ""
    for name in dict.fromkeys(name for config in known for name in config):
        values = [config.get(name, "") for config in known]
        mark = _marked if len(set(values)) > 1 else escape
        cells = "".join(f"<td>{mark(value)}</td>" for value in values)
        rows += f"<tr><th>{escape(name)}</th>{cells}</tr>"
    return f"<table><tr><th></th>{head}</tr>{rows}</table>"


def _marked(difference: str) -> str:
    return f"<mark>{escape(difference)}</mark>" if difference else ""


def _cell(value: float) -> str:
    return "" if pd.isna(value) else escape(format_number(float(value)))


# ---------------------------------------------------------------------- the document


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def _document(title: str, body: str, drawn: dict[str, Any]) -> str:
    from plotly.offline import get_plotlyjs

    own = files("pipelines.see")
    data = json.dumps(drawn, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{own.joinpath('page.css').read_text()}</style>"
        f"</head><body><main><h1>{escape(title)}</h1>{body}</main>"
        f"<script>{get_plotlyjs()}</script>"
        f'<script id=drawn type="application/json">{data}</script>'
        f"<script>{own.joinpath('page.js').read_text()}</script></body></html>"
    )
