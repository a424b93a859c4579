"""What the orchestrator asks of a trainer: any class of this shape, ours or a user's own.

It stands here, with those who call it, and not with our own trainers, so that neither side imports
the other.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from orchestrator.errors import SpecError
from orchestrator.search.messages import State
from orchestrator.search.objective import Objective
from orchestrator.space.domains import Config, Value

__all__ = ["Job", "Trainer", "choose_objective", "load_trainer"]


class Trainer(Protocol):
    """Trains one model, an epoch at a time; asked for one more, never told to stop.

    The same config, seed and data give the same numbers, bit for bit, and `load(state)` takes up
    exactly where `state()` was asked: weights, moments, running statistics, random numbers.
    """

    #: name -> (float or int, "max" | "min" | "none"); the first that has a goal decides, the second
    #: breaks ties. Names that begin with validation_ say what was measured on that split.
    metrics: ClassVar[Mapping[str, tuple[type, str]]]

    def __init__(self, config: Config, *, seed: int, data: Any, max_epochs: int) -> None:
        """A fresh model. `max_epochs` is the horizon of schedules, not a promise to get there."""

    def epoch(self) -> Mapping[str, float]:
        """Train one more epoch; all declared metrics, and no others."""

    def state(self) -> State:
        """All that `load` needs: a flat mapping to arrays, numbers, strings and bytes."""

    def load(self, state: State) -> None:
        """Go on from that state."""

    def adjust(self, changes: Mapping[str, Value]) -> None:
        """Change hyperparameters in the middle of training; for a person, a search never does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every worker of a run is made with."""

    trainer: str  #: import path, package.module:Class
    data: Any  #: handed to each trainer; shared between workers, so never written to
    max_epochs: int
    objective: Objective
    paths: tuple[str, ...] = ()  #: where modules of the user's own are found

    def make(self, config: Config, seed: int) -> Trainer:
        """A trainer for one trial."""
        trainer = load_trainer(self.trainer, self.paths)
        return trainer(config, seed=seed, data=self.data, max_epochs=self.max_epochs)


def load_trainer(path: str, paths: tuple[str, ...] = ()) -> type[Trainer]:
    """The class at an import path.

    Raises:
        SpecError: If there is no such module or class, or it declares no metrics.
    """
    module_name, _, name = path.partition(":")
    sys.path.extend(p for p in paths if p not in sys.path)
    try:
        trainer = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, TypeError, ValueError) as e:
        raise SpecError(f"trainer needs package.module:Class, got {path!r}: {e}") from e
    if not isinstance(getattr(trainer, "metrics", None), Mapping):
        raise SpecError(
            f"trainer {path} needs `metrics`, for example "
            f'{{"validation_loss": (float, "min")}}, as an attribute of the class'
        )
    for metric, declared in trainer.metrics.items():
        if declared not in [(k, g) for k in (float, int) for g in ("max", "min", "none")]:
            raise SpecError(
                f'trainer {path}: metric {metric!r} needs (float or int, "max" | "min" | "none"), '
                f"got {declared!r}"
            )
    checked: type[Trainer] = trainer
    return checked


def choose_objective(trainer: type[Trainer], metric: str | None) -> Objective:
    """The metric that decides, and the one that breaks its ties.

    Raises:
        SpecError: If the trainer has no such metric, or none with a goal.
    """
    goals = {name: goal for name, (_, goal) in trainer.metrics.items() if goal != "none"}
    asked = metric and next((m for m in (f"validation_{metric}", metric) if m in goals), "")
    if not goals or asked == "":
        names = [m.removeprefix("validation_") for m in goals]
        raise SpecError(
            f"--metric needs one that {trainer.__name__} measures and that has a goal: "
            f"{' | '.join(names) or 'it has none'}; got {metric!r}"
        )
    first = asked or next(iter(goals))
    tie = next((m for m in goals if m != first), None)
    return Objective(
        metric=first,
        maximize=goals[first] == "max",
        tie_metric=tie,
        tie_maximize=tie is not None and goals[tie] == "max",
    )
