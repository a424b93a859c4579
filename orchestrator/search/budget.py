"""The budget of a run: time, trials and epochs. The limit that is reached first ends the run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TypeVar

from orchestrator.errors import RunError

__all__ = ["DEFAULT_SECONDS", "Budget", "Cycle", "extend_budget", "remaining"]

DEFAULT_SECONDS = 60.0  #: search time of a run that has no budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of a whole run over all its sessions, or limits to add to it; None is no limit."""

    seconds: float | None = None  #: seconds that the run may take, without breaks between sessions
    trials: int | None = None  #: number of trials that may be started, without audits
    epochs: int | None = None  #: number of epochs that all trials together may train

    def limits(self) -> dict[str, float]:
        """Limits that are set, by name."""
        return {name: limit for name, limit in asdict(self).items() if limit is not None}

    @property
    def unlimited(self) -> bool:
        """Whether no limit is set."""
        return self == Budget()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """Use of a run at the moment when its present budget was set.

    A search goes from coarse to fine once in each cycle, so shares of the budget count from here.
    """

    seconds: float = 0.0  #: seconds used when the cycle began
    trials: int = 0  #: number of trials started when the cycle began
    epochs: int = 0  #: number of epochs reported when the cycle began
    zooms: int = 0  #: number of zooms made when the cycle began

    def share_of_trials(self, started: int, budget: Budget) -> float:
        """Share of the cycle's trials that are started; 0 without a limit of trials."""
        return _share(started, self.trials, budget.trials)

    def share_of_work(self, *, epochs: int, seconds: float, budget: Budget) -> float:
        """Share of the cycle's epochs or of its time that is used; the larger of the two."""
        return max(
            _share(epochs, self.epochs, budget.epochs),
            _share(seconds, self.seconds, budget.seconds),
        )


def extend_budget(total: Budget, added: Budget, used: Budget, *, used_up: bool) -> Budget:
    """Compute the budget of a run's next session.

    If nothing is added, the rest of the old budget holds, or `DEFAULT_SECONDS` if there was none. A
    new kind of limit starts counting now. A kind that is not set in `added` is dropped.

    Args:
        total: Limits of the run so far, over all its sessions.
        added: Limits to add to it.
        used: Use of the run so far; every field is a number.
        used_up: Whether nothing is left to do under the old budget.

    Raises:
        RunError: If nothing is added to a budget that is used up.
    """
    if added.unlimited:
        if total.unlimited:
            return Budget(seconds=(used.seconds or 0.0) + DEFAULT_SECONDS)
        if used_up:
            raise RunError(
                'the run has used up its budget; add to it, for example with `time="60s"`'
            )
        return total
    return Budget(
        seconds=_extend(total.seconds, added.seconds, used.seconds or 0.0),
        trials=_extend(total.trials, added.trials, used.trials or 0),
        epochs=_extend(total.epochs, added.epochs, used.epochs or 0),
    )


Number = TypeVar("Number", int, float)


def _extend(total: Number | None, added: Number | None, used: Number) -> Number | None:
    if added is None:
        return None
    return added + (used if total is None else total)


def _share(used: float, before: float, limit: float | None) -> float:
    return (used - before) / (limit - before) if limit is not None and limit > before else 0.0


def remaining(limit: float | None, used: float) -> float:
    """Remaining part of a limit; infinite without a limit."""
    return math.inf if limit is None else limit - used
