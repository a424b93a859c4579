"""Audits: trials that pruning left behind are trained to the end, to measure what pruning misses.

`audit` in the spec is the share of the epochs that audits get. The search never learns from them.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.search.trial import LEFT_BEHIND, Trial

__all__ = ["Audits"]


class Audits:
    """The audits so far; only `add` and `note_epoch` change them, which `Search.apply` calls.

    Args:
        share: Share of all epochs that audits may take; 0 for no audits.
        max_epochs: The epochs that one audit takes.
    """

    def __init__(self, *, share: float, max_epochs: int) -> None:
        self.share, self._max_epochs = share, max_epochs
        self.count = 0  #: number of audits started
        self.epochs = 0  #: reported epochs of all audits
        self._audited: set[int] = set()  # ids of the trials that were audited

    def add(self, audit: Trial) -> None:
        """Note that an audit was started."""
        self.count += 1
        self._audited.update(audit.parents)

    def note_epoch(self) -> None:
        """Note that an audit has reported an epoch."""
        self.epochs += 1

    def choose_trial(self, trials: Iterable[Trial], *, epochs: int) -> Trial | None:
        """Choose at random the next trial to audit; None if the share is used or none is left.

        Args:
            trials: All trials so far.
            epochs: Reported epochs of all trials, audits included.
        """
        planned = (self.count + 1) * self._max_epochs
        if planned > self.share / (1 - self.share) * (epochs - self.epochs):
            return None
        candidates = (t for t in trials if t.status in LEFT_BEHIND and t.id not in self._audited)
        return min(candidates, key=lambda t: t.seed, default=None)  # the seeds are random numbers
