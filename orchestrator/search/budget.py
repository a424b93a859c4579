"""What a run may use: time, trials and epochs. The limit that is reached first ends it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TypeVar

from orchestrator.errors import RunError

__all__ = ["DEFAULT_SECONDS", "Budget", "Cycle", "extend_budget", "remaining"]

DEFAULT_SECONDS = 60.0  #: the search time of a run for which no budget is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of a run in all, over all its sessions, or limits to be added; None is no limit."""

    seconds: float | None = None  #: of the run's own clock, without the breaks between sessions
    trials: int | None = None  #: trials that may be started, audits left out
    epochs: int | None = None  #: epochs of all trials together

    def limits(self) -> dict[str, float]:
        """The limits there are, by name."""
        return {name: limit for name, limit in asdict(self).items() if limit is not None}

    @property
    def unlimited(self) -> bool:
        """Whether there is no limit at all."""
        return self == Budget()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """What a run had used when its present budget was given.

    A search goes from coarse to fine once in each cycle, so the share used counts from here.
    """

    seconds: float = 0.0
    trials: int = 0
    epochs: int = 0
    zooms: int = 0

    def share_of_trials(self, started: int, budget: Budget) -> float:
        """Share of the cycle's trials that have been started, 0 without such a limit."""
        return _share(started, self.trials, budget.trials)

    def share_of_work(self, *, epochs: int, seconds: float, budget: Budget) -> float:
        """Share of the cycle's epochs or time that is used; the larger of the two."""
        return max(
            _share(epochs, self.epochs, budget.epochs),
            _share(seconds, self.seconds, budget.seconds),
        )


def extend_budget(total: Budget, added: Budget, used: Budget, *, used_up: bool) -> Budget:
    """The budget of a run's next session.

    With nothing added: the rest of the old budget, or `DEFAULT_SECONDS` where there was none. A
    kind of limit that the run did not have before starts counting now; a kind that is not named in
    `added` is dropped.

    Args:
        total: What the run was allowed so far, over all its sessions.
        added: What is allowed on top.
        used: What the run has used so far; every field is a number.
        used_up: Whether the old budget leaves nothing to do.

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
    """What is left of a limit; infinite without one."""
    return math.inf if limit is None else limit - used
