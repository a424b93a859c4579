"""A search method: what it is told, what it is asked, and the answers of the plainest one."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import ClassVar

from orchestrator.errors import SpecError
from orchestrator.search.draws import Draw, draw_coarse, draw_fine
from orchestrator.search.history import History
from orchestrator.search.objective import Score
from orchestrator.search.pruning import PRUNERS
from orchestrator.search.pruning.base import Promotion, Pruner, Verdict
from orchestrator.search.samplers import Sampler, make_sampler
from orchestrator.search.spec import SearchSpec
from orchestrator.search.trial import Incumbent, Trial
from orchestrator.search.zoom import Zoom
from orchestrator.space.space import Space

__all__ = ["Method", "Setup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a method is built from."""

    space: Space
    spec: SearchSpec
    seed: int
    max_epochs: int


class Method:
    """A search method as a value: the search asks, and applies what the method answers.

    The methods of the first group say what has happened. `Search.apply` alone calls them, in the
    order of the log, so a method is rebuilt from the log: its state must follow from these calls,
    and random numbers from (seed, trial) alone. The methods of the second group are decisions; they
    change nothing.

    The defaults here are those of a plain method: configurations come from the spec's sampler or
    from the present box, and the spec's pruning rule decides who goes on. A new method is a
    subclass in a file of its own, and one row in `METHODS`; docs/search.md shows a whole one.

    Args:
        setup: The space, the spec's `search` section, the seed and max_epochs.
    """

    #: Parts that the method takes where the spec names none.
    default_sampler: ClassVar[str] = "random"
    default_pruning: ClassVar[str] = "none"
    default_zooms: ClassVar[int] = 0

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._history = History(setup.space)
        self._sampler = self.make_sampler()
        self._pruner = self.make_pruner()

    def make_sampler(self) -> Sampler:
        """The sampler that the spec names."""
        spec = self.setup.spec
        return make_sampler(
            spec.sampler, self.setup.space, seed=self.setup.seed, grid_levels=spec.grid_levels
        )

    def make_pruner(self) -> Pruner:
        """The pruning rule that the spec names.

        Raises:
            SpecError: If there is no such rule, or it needs the model of another method.
        """
        spec = self.setup.spec
        if spec.pruning not in PRUNERS:
            raise SpecError(
                f"search.pruning needs one of {' | '.join([*PRUNERS, 'shares'])} "
                f"(shares with method: caviar alone), got {spec.pruning!r}"
            )
        return PRUNERS[spec.pruning](spec)

    # ------------------------------------------------------------------ what happened

    def start(self, trial: Trial) -> None:
        """A trial has been started; audits are among them."""

    def assign(self, trial: Trial, progress: float) -> None:
        """An assignment was handed out when `progress` of the budget was used."""
        self._pruner.spend(trial.start_epoch, trial.stop_epoch, progress)

    def retry(self, trial: Trial) -> None:
        """The trial's present assignment was handed out again."""

    def suspend(self, trial: Trial) -> None:
        """The session ended in the middle of the trial's assignment."""

    def learn(self, trial: Trial, score: Score, *, bad: bool) -> None:
        """The trial's assignment has ended with this score; WORST if the trial went bad."""
        self._pruner.enter(trial.id, trial.stop_epoch, score)
        if trial.start_epoch == 0 or bad:
            self._history.add(trial.point, bad=bad)

    def release(self, trial: Trial) -> None:
        """The trial no longer waits: it was promoted, or given up."""
        self._pruner.leave(trial.id, trial.epoch)

    # ------------------------------------------------------------------ decisions

    def propose(self, trial: int, *, coarse_draws: int, zoom: Zoom | None) -> Draw | None:
        """The configuration of a new trial, or None if there is nothing left to try.

        Args:
            trial: The new trial's id.
            coarse_draws: Number of trials that the coarse stage has drawn so far.
            zoom: The present box; None in the coarse stage.
        """
        fine = None
        if zoom is not None:
            fine = draw_fine(
                self.setup.space, zoom, seed=self.setup.seed, trial=trial, history=self._history
            )
        return fine or draw_coarse(self._sampler, coarse_draws)

    def exhausted(self, coarse_draws: int) -> bool:
        """Whether the coarse stage has no point after so many draws, as a grid at its end."""
        return self._sampler.point(coarse_draws) is None

    def first_stop(self, trial: int) -> int:
        """The epoch at which a new trial's first assignment ends."""
        return self._pruner.first_stop(trial)

    def judge(self, trial: Trial) -> Verdict:
        """What becomes of a trial whose assignment has ended: PAUSE, PRUNE or COMPLETE."""
        return self._pruner.verdict(trial.id, trial.epoch, trial.score)

    def promote(self, *, last_call: bool) -> Promotion | None:
        """The paused trial that goes on now; None if a new one is to be started.

        On the last call no new trials are to come.
        """
        return self._pruner.promotion(last_call=last_call)

    def leave_behind(self, among: Container[int]) -> int | None:
        """The waiting trial among these that is given up first where room is short."""
        return self._pruner.least_promising(among)

    def waiting(self) -> set[int]:
        """All trials that may still be promoted; `Search.validate` compares them with its own."""
        return self._pruner.waiting()

    def choose_model(
        self, trials: Collection[Trial], incumbent: Incumbent | None
    ) -> Incumbent | None:
        """The result whose model is shipped: the incumbent, unless the method knows better."""
        return incumbent
