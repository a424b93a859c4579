"""Draws docs/search.svg from a run's Parquet: every trial as a line up to its last epoch.

caviar search digits --trials 150 --seed 1 --pool inline --out run
python docs/search_picture.py run docs/search.svg
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 900, 360, 60, 46, 30
COLOURS = {"coarse": "#7a8ca3", "fine": "#d9822b", "given": "#4c9f70"}


def picture(folder: Path) -> str:
    """The SVG of a run."""
    run, rungs = load_run(folder), read_run_spec(folder).search.rungs
    trials, last = run.trials, rungs[-1]
    best = trials.sort_values(
        [run.objective.metric, run.objective.tie_metric or "trial"],
        ascending=[not run.objective.maximize, not run.objective.tie_maximize],
    ).iloc[0]["trial"]

    def x(trial: int) -> float:
        return LEFT + (trial + 0.5) * (WIDTH - LEFT - 20) / len(trials)

    def y(epoch: float) -> float:
        share = math.log(max(epoch, 0.7) / 0.7) / math.log(last / 0.7)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="#444">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for rung in rungs:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y(rung):.1f}" y2="{y(rung):.1f}" '
            f'stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{y(rung) + 4:.1f}" text-anchor="end">{rung}</text>'
        )
    zooms = run.events[run.events["kind"] == "zoom"]
    starts = run.events[run.events["kind"] == "start"]
    for _, zoom in zooms.iterrows():
        after = starts[starts["seq"] > zoom["seq"]]["trial"]
        if len(after):
            at = x(int(after.iloc[0])) - 0.5 * (WIDTH - LEFT - 20) / len(trials)
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
                f'stroke="#d9822b" stroke-dasharray="3 3"/>'
                f'<text x="{at + 4:.1f}" y="{TOP - 8}">zoom {int(zoom["zoom"])}</text>'
            )
    for _, t in trials.iterrows():
        colour = "#c0392b" if t["trial"] == best else COLOURS[t["stage"]]
        parts.append(
            f'<line x1="{x(t["trial"]):.1f}" x2="{x(t["trial"]):.1f}" y1="{y(0.7):.1f}" '
            f'y2="{y(t["epochs"]):.1f}" stroke="{colour}" '
            f'stroke-width="{4 if t["trial"] == best else 2.4}"/>'
        )
    legend = [*((c, s) for s, c in COLOURS.items() if (trials["stage"] == s).any())]
    legend.append(("#c0392b", "the best"))
    for i, (colour, told) in enumerate(legend):
        at = LEFT + 110 * i
        parts.append(
            f'<rect x="{at}" y="{HEIGHT - 16}" width="12" height="4" fill="{colour}"/>'
            f'<text x="{at + 18}" y="{HEIGHT - 10}">{told}</text>'
        )
    parts.append(
        f'<text x="{WIDTH - 20}" y="{HEIGHT - 10}" text-anchor="end">'
        f"trials, in the order in which they began</text>"
        f'<text x="{LEFT - 8}" y="{TOP - 12}" text-anchor="end">epochs</text></svg>'
    )
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: search_picture.py RUN FILE.svg")
    Path(sys.argv[2]).write_text(picture(Path(sys.argv[1])))
