"""Method finalists: the best configurations of another run, trained again on fresh seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from statistics import fmean

from orchestrator.search.methods.base import Method
from orchestrator.search.trial import Incumbent, Trial
from orchestrator.space.domains import Config, Value

__all__ = ["FinalistsMethod"]


class FinalistsMethod(Method):
    """Ships the best model of the configuration that has the best mean over its seeds.

    The best of many noisy results looks better than it is. A mean over seeds that no decision has
    used has no such bias.
    """

    default_sampler = "none"
    default_pruning = "none"

    def choose_model(
        self, trials: Collection[Trial], incumbent: Incumbent | None
    ) -> Incumbent | None:
        """Choose the best result of the configuration whose best losses have the best mean.

        A trial without a result counts as inf, so its configuration comes last. Ties go to the
        better single result, then to the earlier result.
        """
        if incumbent is None:
            return None
        losses: defaultdict[tuple[tuple[str, Value], ...], list[float]] = defaultdict(list)
        for trial in trials:
            losses[_key(trial.config)].append(trial.best[0])
        means = {key: _mean(values) for key, values in losses.items()}
        best = min(
            (trial for trial in trials if trial.best_epoch),
            key=lambda t: (means[_key(t.config)], t.best, t.best_order),
        )
        return Incumbent(score=best.best, trial=best.id, epoch=best.best_epoch)


def _key(config: Config) -> tuple[tuple[str, Value], ...]:
    return tuple(config.items())


def _mean(losses: list[float]) -> float:
    return math.inf if math.inf in losses else fmean(losses)
