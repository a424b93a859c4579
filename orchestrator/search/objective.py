"""The objective: the metric that decides, as scores of which smaller ones are better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["WORST", "Objective", "Score"]

#: (loss, tie-breaker); smaller is better; a value that is not finite counts as +inf.
Score = tuple[float, float]
WORST: Score = (math.inf, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The metric that decides, and the one that breaks ties; only here the sign is flipped."""

    metric: str  #: name of the metric, as the trainer reports it: validation_accuracy
    maximize: bool
    tie_metric: str | None = None
    tie_maximize: bool = False

    def score(self, metrics: Mapping[str, float]) -> Score:
        """Score of the metrics: (loss, tie-breaker); a value that is not finite counts as +inf."""
        loss = _loss(metrics[self.metric], maximize=self.maximize)
        if self.tie_metric is None or loss == math.inf:
            return loss, loss if loss == math.inf else 0.0
        return loss, _loss(metrics[self.tie_metric], maximize=self.tie_maximize)

    def value(self, loss: float) -> float:
        """Value of the metric for a loss, as a user reads it."""
        return -loss if self.maximize else loss

    def __str__(self) -> str:
        return self.metric.replace("_", " ", 1)


def _loss(value: float, *, maximize: bool) -> float:
    if not math.isfinite(value):
        return math.inf
    return -value if maximize else value
