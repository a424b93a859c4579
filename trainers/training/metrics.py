"""The registry of metrics, and their formulas.

A new metric is one entry of METRICS, with a formula that gets the outputs for the whole validation
set (`Evaluation`). Everything else follows from the entry: what a trainer declares and reports, the
metrics of a saved model, their intervals, and the bounds of the intervals that are printed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainers.network.arrays import Array
from trainers.network.losses import compute_log_probabilities
from trainers.training.evaluation import Evaluation

__all__ = ["METRICS", "Metric", "compute_metrics", "declare_metrics", "find_metric", "list_metrics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of a network's outputs: name, goal, bounds, formula and interval."""

    name: str  #: name of the metric, unique over all tasks
    task: str  #: task that the metric is for, "classification" or "regression"
    goal: str  #: "max" if larger is better, "min" if smaller is
    bounds: tuple[float, float]  #: smallest and largest value that the metric can have
    interval: str  #: name of its interval's method; `pipelines.data.intervals` has the methods
    compute: Callable[[Evaluation], float]  #: formula; nan if it cannot be computed

    @property
    def validation_name(self) -> str:
        """Name under which a trainer reports the metric of the validation set."""
        return f"validation_{self.name}"


def list_metrics(task: str) -> list[Metric]:
    """List the metrics of a task; the first one decides by default, the second breaks ties."""
    return [metric for metric in METRICS if metric.task == task]


def find_metric(name: str) -> Metric | None:
    """Find a metric by its own name or by the name under which trainers report it.

    None is for a name that is not in the registry, such as that of a user's own metric.
    """
    return next((m for m in METRICS if name in (m.name, m.validation_name)), None)


def declare_metrics(task: str) -> dict[str, tuple[type, str]]:
    """Declare what a trainer reports after an epoch: type and goal by name, in order."""
    declared: dict[str, tuple[type, str]] = {"train_loss": (float, "none")}
    return declared | {m.validation_name: (float, m.goal) for m in list_metrics(task)}


def compute_metrics(task: str, evaluation: Evaluation) -> dict[str, float]:
    """Compute all metrics of a task, by the metric's own name."""
    return {metric.name: metric.compute(evaluation) for metric in list_metrics(task)}


# --- formulas -----------------------------------------------------------------------------------


def _compute_accuracy(evaluation: Evaluation) -> float:
    """Compute the share of right answers, in [0, 1]."""

    def count_right(logits: Array, y: Array) -> float:
        if not np.isfinite(logits).all():
            return math.nan  # nan has no order, and an infinite logit would look perfect
        predictions = logits[:, 0] > 0 if evaluation.classes == 2 else logits.argmax(axis=1)
        return float((predictions == y).sum())

    return evaluation.sum_over_blocks(count_right) / len(evaluation.targets)


def _compute_log_loss(evaluation: Evaluation) -> float:
    """Compute the mean of -log p(class), in nats. Nothing is clipped."""

    def sum_losses(logits: Array, y: Array) -> float:
        if not np.isfinite(logits).all():
            return math.nan  # as for the accuracy
        log_p = compute_log_probabilities(logits, evaluation.classes)
        return float(-np.take_along_axis(log_p, y[:, None], axis=1).sum())

    return evaluation.sum_over_blocks(sum_losses) / len(evaluation.targets)


def _compute_rmse(evaluation: Evaluation) -> float:
    """Compute the root mean square error, in natural units."""
    mean_square = _sum_squared_errors(evaluation) / len(evaluation.targets)
    return evaluation.target_scale * math.sqrt(mean_square)


def _compute_mae(evaluation: Evaluation) -> float:
    """Compute the mean absolute error, in natural units."""
    total = evaluation.sum_over_blocks(lambda p, y: float(np.abs(_compute_errors(p, y)).sum()))
    return evaluation.target_scale * total / len(evaluation.targets)


def _compute_r2(evaluation: Evaluation) -> float:
    """Compute R2 = 1 - SSE / SST, which has no unit.

    A constant target has no variance to explain: its R2 is 0.
    """
    squared = _sum_squared_errors(evaluation)
    wide = evaluation.targets.astype(np.float64)
    total = float(np.square(wide - wide.mean()).sum())
    # Rounding of the mean can leave a constant target a tiny total, hence the two ends. Times
    # `squared`, because a sum that is not finite must not turn into a good 0.
    return 1.0 - squared / total if wide.min() < wide.max() else 0.0 * squared


def _sum_squared_errors(evaluation: Evaluation) -> float:
    def sum_squares(predictions: Array, y: Array) -> float:
        errors = _compute_errors(predictions, y)
        return float(errors @ errors)

    return evaluation.sum_over_blocks(sum_squares)


def _compute_errors(predictions: Array, y: Array) -> Array:
    """Compute the errors (N,) of predictions (N, 1), in standardised units and float64."""
    errors: Array = predictions[:, 0].astype(np.float64) - y
    return errors


# --- registry -----------------------------------------------------------------------------------

#: All metrics. Of each task the first decides by default and the second breaks ties, so a new one
#: belongs at the end: in front it would change what the searches of today decide by.
METRICS: tuple[Metric, ...] = (
    Metric(
        name="accuracy",
        task="classification",
        goal="max",
        bounds=(0.0, 1.0),
        interval="wilson",
        compute=_compute_accuracy,
    ),
    Metric(
        name="log_loss",
        task="classification",
        goal="min",
        bounds=(0.0, math.inf),
        interval="bootstrap",
        compute=_compute_log_loss,
    ),
    Metric(
        name="rmse",
        task="regression",
        goal="min",
        bounds=(0.0, math.inf),
        interval="bootstrap",
        compute=_compute_rmse,
    ),
    Metric(
        name="mae",
        task="regression",
        goal="min",
        bounds=(0.0, math.inf),
        interval="bootstrap",
        compute=_compute_mae,
    ),
    Metric(
        name="r2",
        task="regression",
        goal="max",
        bounds=(-math.inf, 1.0),
        interval="bootstrap",
        compute=_compute_r2,
    ),
)
