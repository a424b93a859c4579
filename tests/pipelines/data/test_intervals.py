"""Intervals against a normal mean's, and against the coverage they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_runs import searched

from pipelines.data.intervals import bootstrap_intervals, wilson_interval
from pipelines.see.run import load_run
from pipelines.see.summary import describe_best


def test_that_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(1).standard_normal(2_000)
    (ends,) = bootstrap_intervals(
        lambda out, y: {"mean": float(out.mean())}, values, values
    ).values()
    reach = 1.96 * values.std() / np.sqrt(len(values))
    assert ends == pytest.approx([values.mean() - reach, values.mean() + reach], abs=0.2 * reach)


@pytest.mark.parametrize(("share", "rows"), [(0.5, 40), (0.97, 270), (0.999, 1_000)])
def test_a_shares_interval_holds_the_truth_nineteen_times_of_twenty(
    share: float, rows: int
) -> None:
    seen = np.random.default_rng(0).binomial(rows, share, size=2_000) / rows
    ends = {s: wilson_interval(s, rows) for s in np.unique(seen)}
    held = np.mean([ends[s][0] <= share <= ends[s][1] for s in seen])
    assert 0.92 < held <= 0.99


@pytest.mark.parametrize("data", ["wine", "diabetes"])
def test_every_figure_of_the_best_model_has_one_on_both_splits(data: str, tmp_path: Path) -> None:
    top = describe_best(load_run(searched(tmp_path / "run", data, trials=3)))
    assert top is not None
    for split in ("validation", "test"):
        for name, value in top[split].items():
            low, high = top["intervals"][split][name]
            assert low <= value <= high and low < high
