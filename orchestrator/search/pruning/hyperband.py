"""Hyperband: brackets of successive halving, from many short trials to a few long ones.

Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18,
arXiv:1603.06560, Algorithm 1: bracket s = s_max … 0 begins ceil((s_max + 1) eta^s / (s + 1)) trials
with max_epochs / eta^s epochs each, and then all brackets come again. Each bracket promotes
asynchronously, as in Li et al. 2020 (arXiv:1810.05934, section 3): no trial waits for a bracket to
fill. Rungs are whole epochs, multiplied up, not divided down.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from orchestrator.search.objective import Score
from orchestrator.search.pruning.asha import Asha
from orchestrator.search.pruning.base import Promotion, Verdict

__all__ = ["Hyperband"]


class Hyperband:
    """A `Pruner`. Which bracket a trial belongs to follows from its id alone."""

    def __init__(self, *, rungs: Sequence[int], eta: int) -> None:
        top = len(rungs) - 1
        #: number of trials that each bracket begins; the bracket of the shortest trials is first
        self.sizes = tuple(-(-(top + 1) * eta**s // (s + 1)) for s in range(top, -1, -1))
        self._brackets = [Asha(rungs=rungs[i:], eta=eta) for i in range(len(rungs))]

    def bracket(self, trial: int) -> int:
        """The place of a trial's bracket, 0 for the one with the shortest trials."""
        place = trial % sum(self.sizes)
        bracket = 0
        while place >= self.sizes[bracket]:
            place -= self.sizes[bracket]
            bracket += 1
        return bracket

    def first_stop(self, trial: int) -> int:
        """The first rung of its bracket."""
        return self._bracket_of(trial).first_stop(trial)

    def spend(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """Do nothing: Hyperband does not count what is spent."""

    def enter(self, trial: int, epoch: int, score: Score) -> None:
        """Enter a trial into the rung of its bracket."""
        self._bracket_of(trial).enter(trial, epoch, score)

    def leave(self, trial: int, epoch: int) -> None:
        """Take a trial out of those that wait in the rung of its bracket."""
        self._bracket_of(trial).leave(trial, epoch)

    def verdict(self, trial: int, epoch: int, score: Score) -> Verdict:
        """COMPLETE in the last rung, PAUSE in any other."""
        return self._bracket_of(trial).verdict(trial, epoch, score)

    def promotion(self, *, last_call: bool) -> Promotion | None:
        """The promotion of the first bracket that has one."""
        for call in (False, True) if last_call else (False,):
            for bracket in self._brackets:
                if (promotion := bracket.promotion(last_call=call)) is not None:
                    return promotion
        return None

    def least_promising(self, among: Container[int]) -> int | None:
        """The least promising trial of the first bracket in which one of them waits."""
        worst = (b.least_promising(among) for b in self._brackets)
        return next((trial for trial in worst if trial is not None), None)

    def waiting(self) -> set[int]:
        """All trials that may still be promoted, over all brackets."""
        return set().union(*(bracket.waiting() for bracket in self._brackets))

    def _bracket_of(self, trial: int) -> Asha:
        return self._brackets[self.bracket(trial)]
