"""The contract of a trainer, and how a trainer is loaded.

A trainer is any class of the shape of `Trainer`: the batch-norm network that Caviar brings along,
or a class of the user's. The contract stands here, beside the code that calls it, so that neither
the orchestrator nor the trainers import each other.

A complete trainer, which a spec names as `trainer: my_package.my_module:Decay`:

    class Decay:
        metrics = {"validation_loss": (float, "min")}

        def __init__(self, config, *, seed, data, max_epochs):
            self.rate, self.loss = config["rate"], 1.0

        def epoch(self):
            self.loss *= 1 - self.rate
            return {"validation_loss": self.loss}

        def state(self):
            return {"loss": self.loss}

        def load(self, state):
            self.loss = float(state["loss"])

        def adjust(self, changes):
            self.rate = changes.get("rate", self.rate)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from orchestrator.errors import SpecError
from orchestrator.quote import shorten
from orchestrator.runtime.trainer_code import TrainerCode, import_module
from orchestrator.search.messages import State
from orchestrator.search.objective import Objective
from orchestrator.space.domains import Config, Value

__all__ = ["Job", "Trainer", "choose_objective", "load_trainer"]

MAX_REASON = 300  #: characters that a message quotes of an error that a user's module raised


class Trainer(Protocol):
    """Trains one model, one epoch at a time.

    A worker makes a trainer, calls `load` at most once and before the first epoch, then calls
    `epoch` for each epoch of its assignment. It never tells a trainer to stop: it drops the object
    after the last epoch, or while a trial is paused, and another worker may go on from `state`.

    Two promises make runs repeatable and failures harmless:

    * The same config, seed and data give the same numbers, bit for bit. Draw random numbers from a
      generator made of `seed`, never from a global one.
    * `load(state)` goes on exactly where `state()` was called: weights, optimizer moments, running
      statistics, the random generator, and the number of epochs trained.

    An exception in any method fails the trial and leaves the run going.
    """

    #: The metrics that `epoch` returns: name -> (type, goal). The type is float or int, the goal
    #: "max", "min" or "none". The first metric with a goal ranks the trials, the second breaks
    #: ties. A name that begins with validation_ says that it was measured on the validation split.
    #: A metric `train_loss` is watched: a trial ends when it exceeds the spec's `explode_above`.
    metrics: ClassVar[Mapping[str, tuple[type, str]]]

    def __init__(self, config: Config, *, seed: int, data: Any, max_epochs: int) -> None:
        """Make a model that is not trained yet.

        Args:
            config: One value for each hyperparameter of the space, by name.
            seed: Seed of this trial's random numbers; the same in each attempt of the trial.
            data: The run's data. All trials of a worker share it: never write to it.
            max_epochs: The longest that any trial is trained. Learning-rate schedules span it; a
                trial that is pruned ends earlier.
        """

    def epoch(self) -> Mapping[str, float]:
        """Train for one more epoch, and return every declared metric and no other.

        A value that is not finite is allowed: it ends the trial as diverged.
        """

    def state(self) -> State:
        """Return all that `load` needs to go on from here.

        A state is a flat mapping of names to NumPy arrays of numbers, numbers, strings or bytes.
        Its arrays must not change when training goes on, so copy what `epoch` updates in place.
        """

    def load(self, state: State) -> None:
        """Take over a state that `state` returned, possibly in another process.

        Its arrays may be read-only: copy what `epoch` updates in place.
        """

    def adjust(self, changes: Mapping[str, Value]) -> None:
        """Change hyperparameters, by name, in the middle of training.

        A person may ask for it; a search never does.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the trials of a run have in common; every worker is made with it."""

    trainer: str  #: import path of the trainer's class, package.module:Class
    data: Any  #: data that each trainer gets; shared between trainers, so never written to
    max_epochs: int  #: the longest that any trial is trained
    objective: Objective  #: turns an epoch's metrics into the score that trials are compared by
    code: TrainerCode | None = None  #: the code of a user's trainer; None = a built-in trainer

    def make(self, config: Config, seed: int) -> Trainer:
        """Make the trainer of one trial."""
        trainer = load_trainer(self.trainer, self.code)
        return trainer(config, seed=seed, data=self.data, max_epochs=self.max_epochs)


def load_trainer(path: str, code: TrainerCode | None = None) -> type[Trainer]:
    """Import the trainer's class, and check that it declares its metrics.

    Args:
        path: Import path, package.module:Class.
        code: The code that `find_trainer_code` has read of it; None = import it by its name.

    Raises:
        SpecError: If it cannot be imported, or declares no metrics.
    """
    module, _, name = path.partition(":")
    try:
        trainer = getattr(import_module(module, code), name)
    except (ImportError, AttributeError, TypeError, ValueError) as e:
        reason = shorten(str(e), MAX_REASON)
        raise SpecError(f"trainer needs package.module:Class, got {path!r}: {reason}") from e
    except (Exception, SystemExit) as e:  # raised by the user's module
        reason = f"{type(e).__name__}: {shorten(str(e), MAX_REASON)}"
        raise SpecError(f"trainer {path}: cannot be imported: {reason}") from e
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
    """Choose the metric that ranks the trials, and the one that breaks its ties.

    Args:
        trainer: The class that declares the metrics.
        metric: The name of the metric that ranks, with or without validation_; None = the first
            that has a goal.

    Raises:
        SpecError: If the trainer has no such metric, or none with a goal.
    """
    goals = {name: goal for name, (_, goal) in trainer.metrics.items() if goal != "none"}
    asked = metric and next((m for m in (f"validation_{metric}", metric) if m in goals), "")
    if not goals or asked == "":
        names = [m.removeprefix("validation_") for m in goals]
        raise SpecError(
            f"`metric` needs one that {trainer.__name__} measures and that has a goal: "
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
