"""Which metric decides, and scores: smaller is better, whatever the metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["WORST", "Objective", "Score"]

Score = tuple[float, float]  #: (loss, tie-breaker); smaller is better; not finite counts as +inf
WORST: Score = (math.inf, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Which metric decides, and which one breaks its ties; the sign is flipped here, once."""

    metric: str  #: as the trainer names it: validation_accuracy
    maximize: bool
    tie_metric: str | None = None
    tie_maximize: bool = False

    def score(self, metrics: Mapping[str, float]) -> Score:
        """(loss, tie-breaker), smaller is better; a value that is not finite counts as +inf."""
        loss = _loss(metrics[self.metric], maximize=self.maximize)
        if self.tie_metric is None or loss == math.inf:
            return loss, loss if loss == math.inf else 0.0
        return loss, _loss(metrics[self.tie_metric], maximize=self.tie_maximize)

    def value(self, loss: float) -> float:
        """The metric as a user reads it, back from the loss."""
        return -loss if self.maximize else loss

    def __str__(self) -> str:
        return self.metric.replace("_", " ", 1)


def _loss(value: float, *, maximize: bool) -> float:
    if not math.isfinite(value):
        return math.inf
    return -value if maximize else value
