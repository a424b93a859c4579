"""What a run may use: time, trials, epochs; whichever ends first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.errors import RunError
from orchestrator.search.search import Search

__all__ = ["DEFAULT_SECONDS", "Added", "Budget", "budget_of"]

DEFAULT_SECONDS = 60.0  #: of search, where no budget is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a run may use in all, over all its sessions; the limit that is reached first ends it."""

    seconds: float = math.inf
    trials: float = math.inf
    epochs: float = math.inf

    def limits(self) -> dict[str, float]:
        """Those that there are, by name."""
        named = {"seconds": self.seconds, "trials": self.trials, "epochs": self.epochs}
        return {name: limit for name, limit in named.items() if limit < math.inf}


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What a session adds; nothing means: what is left."""

    seconds: float | None = None
    trials: int | None = None
    epochs: int | None = None


def budget_of(search: Search, at_seconds: float, added: Added) -> Budget:
    """The budget of a session: what was typed, added to what the run had.

    Without a word, what is left of the old one. A kind that was not limited before counts from
    what has been used; one that is not named now is no longer limited.

    Raises:
        RunError: If the run's budget is used up and nothing is added.
    """
    old = search.budget
    if added == Added():
        if old.budget_seconds is old.budget_trials is old.budget_epochs is None:
            return Budget(seconds=at_seconds + DEFAULT_SECONDS)
        if _used_up(search, at_seconds):
            raise RunError("the run has used up its budget; add to it, for example with --time 60s")
        return _budget(old.budget_seconds, old.budget_trials, old.budget_epochs)
    return _budget(
        _sum(added.seconds, old.budget_seconds, at_seconds),
        _sum(added.trials, old.budget_trials, search.begun),
        _sum(added.epochs, old.budget_epochs, search.epochs),
    )


def _used_up(search: Search, at_seconds: float) -> bool:
    b = search.budget
    return (
        (b.budget_seconds is not None and at_seconds >= b.budget_seconds)
        or (b.budget_epochs is not None and search.epochs >= b.budget_epochs)
        or (b.budget_trials is not None and search.settled())
    )


def _sum(more: float | None, old: float | None, used: float) -> float | None:
    return None if more is None else more + (used if old is None else old)


def _budget(seconds: float | None, trials: float | None, epochs: float | None) -> Budget:
    limits = {"seconds": seconds, "trials": trials, "epochs": epochs}
    return Budget(**{name: limit for name, limit in limits.items() if limit is not None})
