"""How sure a model's figures are: where 95 % of them would fall on other rows of the same kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from orchestrator.search.events import Interval

__all__ = ["bootstrap_intervals", "wilson_interval"]

SURE = 0.95
RESAMPLES = 200

Figures = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """Of a share of right answers among so many rows (Wilson 1927); it holds near 1 too."""
    found = binomtest(round(share * rows), rows).proportion_ci(SURE, method="wilson")
    return float(found.low), float(found.high)


def bootstrap_intervals(
    figures: Figures, outputs: np.ndarray, y: np.ndarray
) -> dict[str, Interval]:
    """Of each figure, by drawing the rows again (the percentile bootstrap, Efron 1979).

    Args:
        figures: Of a model's outputs and the targets.
        outputs: Of the network, shape (N, …).
        y: Targets, shape (N,).
    """
    rows = np.random.default_rng(0).integers(len(y), size=(RESAMPLES, len(y)))
    drawn = pd.DataFrame([figures(outputs[i], y[i]) for i in rows])
    ends = np.quantile(drawn, [(1 - SURE) / 2, (1 + SURE) / 2], axis=0)
    found = {
        str(name): (float(own[0]), float(own[1])) for name, own in zip(drawn, ends.T, strict=True)
    }
    if "accuracy" in found:
        found["accuracy"] = wilson_interval(figures(outputs, y)["accuracy"], len(y))
    return found
