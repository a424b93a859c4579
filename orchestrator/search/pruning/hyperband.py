"""Hyperband: brackets of successive halving, from many short trials to a few long ones.

Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18,
arXiv:1603.06560, Algorithm 1: bracket s = s_max … 0 begins ceil((s_max + 1) eta^s / (s + 1)) trials
with max_epochs / eta^s epochs each, and then all brackets come again. Each bracket promotes
asynchronously, as in Li et al. 2020 (arXiv:1810.05934, section 3): no trial waits for a bracket to
fill. Rungs are integers, computed by multiplying by eta, not by dividing max_epochs.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from orchestrator.search.objective import Score
from orchestrator.search.pruning.asha import Asha
from orchestrator.search.pruning.base import Promotion, Verdict

__all__ = ["Hyperband"]


class Hyperband:
    """A `Pruner` of several brackets; a trial's bracket follows from its id alone."""

    def __init__(self, *, rungs: Sequence[int], eta: int) -> None:
        self.summary = f"about 1/{eta} is promoted at each"
        top = len(rungs) - 1
        #: number of trials that each bracket begins; the bracket with the shortest trials is first
        self.sizes = tuple(-(-(top + 1) * eta**s // (s + 1)) for s in range(top, -1, -1))
        self._brackets = [Asha(rungs=rungs[i:], eta=eta) for i in range(len(rungs))]

    def find_bracket(self, trial: int) -> int:
        """Return the index of a trial's bracket; 0 is the one with the shortest trials."""
        position = trial % sum(self.sizes)
        bracket = 0
        while position >= self.sizes[bracket]:
            position -= self.sizes[bracket]
            bracket += 1
        return bracket

    def choose_first_stop(self, trial: int) -> int:
        """Choose the first rung of the trial's bracket."""
        return self._bracket_of(trial).choose_first_stop(trial)

    def count_epochs(self, start_epoch: int, stop_epoch: int, progress: float) -> None:
        """Do nothing: Hyperband does not depend on the epochs handed out."""

    def add_score(self, trial: int, epoch: int, score: Score) -> None:
        """Add a trial to the rung of its bracket."""
        self._bracket_of(trial).add_score(trial, epoch, score)

    def remove_waiting(self, trial: int, epoch: int) -> None:
        """Remove a trial from those that wait in the rung of its bracket."""
        self._bracket_of(trial).remove_waiting(trial, epoch)

    def judge(self, trial: int, epoch: int, score: Score) -> Verdict:
        """Decide COMPLETE in the last rung, PAUSE in any other."""
        return self._bracket_of(trial).judge(trial, epoch, score)

    def choose_promotion(self, *, last_call: bool) -> Promotion | None:
        """Choose the promotion of the first bracket that has one."""
        for is_last in (False, True) if last_call else (False,):
            for bracket in self._brackets:
                if (promotion := bracket.choose_promotion(last_call=is_last)) is not None:
                    return promotion
        return None

    def choose_eviction(self, among: Container[int]) -> int | None:
        """Choose the least promising of these trials in the first bracket where one waits."""
        worst = (b.choose_eviction(among) for b in self._brackets)
        return next((trial for trial in worst if trial is not None), None)

    def find_waiting(self) -> set[int]:
        """Return all trials of all brackets that may still be promoted."""
        return set().union(*(bracket.find_waiting() for bracket in self._brackets))

    def _bracket_of(self, trial: int) -> Asha:
        return self._brackets[self.find_bracket(trial)]
