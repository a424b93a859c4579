"""Intervals of a model's metrics: where 95 % of them would fall on other rows of the same kind.

A metric names its method (`trainers.training.metrics.Metric.interval`); the methods are here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import binomtest

from trainers.training.evaluation import Evaluation
from trainers.training.metrics import Metric, find_metric

__all__ = [
    "Interval",
    "bootstrap_interval",
    "compute_intervals",
    "estimate_interval",
    "wilson_interval",
]

#: Share of the values that an interval holds.
COVERAGE = 0.95
#: Number of times that the bootstrap draws the rows again.
RESAMPLES = 200

#: Low and high end.
Interval = tuple[float, float]


def wilson_interval(share: float, rows: int) -> Interval:
    """Compute the Wilson interval of a proportion; accurate also near 0 and 1 (Wilson 1927)."""
    interval = binomtest(round(share * rows), rows).proportion_ci(COVERAGE, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(compute: Callable[[Evaluation], float], evaluation: Evaluation) -> Interval:
    """Compute a metric's interval by drawing the rows again (percentile bootstrap, Efron 1979)."""
    n = len(evaluation.targets)
    draws = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    values = [
        compute(replace(evaluation, outputs=evaluation.outputs[i], targets=evaluation.targets[i]))
        for i in draws
    ]
    low, high = np.quantile(values, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


#: Methods that need a metric's value and the number of rows alone.
_METHODS_BY_VALUE: Mapping[str, Callable[[float, int], Interval]] = {"wilson": wilson_interval}
#: Methods that need a metric's formula and the outputs.
_METHODS_BY_OUTPUTS: Mapping[
    str, Callable[[Callable[[Evaluation], float], Evaluation], Interval]
] = {"bootstrap": bootstrap_interval}


def compute_intervals(metrics: Sequence[Metric], evaluation: Evaluation) -> dict[str, Interval]:
    """Compute the low and the high end of each metric's interval, by the metric's name."""
    return {metric.name: _compute_interval(metric, evaluation) for metric in metrics}


def _compute_interval(metric: Metric, evaluation: Evaluation) -> Interval:
    if metric.interval in _METHODS_BY_VALUE:
        value, rows = metric.compute(evaluation), len(evaluation.targets)
        return _METHODS_BY_VALUE[metric.interval](value, rows)
    return _METHODS_BY_OUTPUTS[metric.interval](metric.compute, evaluation)


def estimate_interval(name: str, value: float, rows: int) -> Interval | None:
    """Compute the interval of a metric's value without the model's outputs.

    None where that is not possible: the metric is not in the registry, or its method needs outputs.
    """
    metric = find_metric(name)
    if metric is None or metric.interval not in _METHODS_BY_VALUE:
        return None
    return _METHODS_BY_VALUE[metric.interval](value, rows)
