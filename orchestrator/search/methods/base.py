"""The interface of a search method, with the answers of a plain one as defaults."""

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
    """Arguments that every method is built from."""

    space: Space
    spec: SearchSpec
    seed: int
    max_epochs: int


class Method:
    """A search method: the search asks it for decisions and applies them.

    The calls of the first group report what has happened. Only `Search.apply` makes them, in the
    order of the log, so a method is rebuilt from the log: its state must follow from these calls
    alone, and its random numbers from (seed, trial). The calls of the second group ask for
    decisions; they change nothing.

    The defaults are those of a plain method: configurations come from the spec's sampler or from
    the present box, and the spec's pruning rule decides which trials go on. A new method is a
    subclass in a file of its own and one row in `METHODS`; docs/search.md shows a complete one.

    Args:
        setup: The space, the spec's `search` section, the seed and max_epochs.
    """

    #: Parts of the method if the spec does not name others.
    default_sampler: ClassVar[str] = "random"
    default_pruning: ClassVar[str] = "none"
    default_zooms: ClassVar[int] = 0

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._history = History(setup.space)
        self._sampler = self.make_sampler()
        self._pruner = self.make_pruner()

    def make_sampler(self) -> Sampler:
        """Build the sampler that the spec names."""
        spec = self.setup.spec
        return make_sampler(
            spec.sampler, self.setup.space, seed=self.setup.seed, grid_levels=spec.grid_levels
        )

    def make_pruner(self) -> Pruner:
        """Build the pruning rule that the spec names.

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

    @property
    def pruning_summary(self) -> str:
        """What the pruning rule does at a rung, in a clause."""
        return self._pruner.summary

    # ------------------------------------------------------------------ what happened

    def start(self, trial: Trial) -> None:
        """Note that a trial was started; it may be an audit."""

    def assign(self, trial: Trial, progress: float) -> None:
        """Note that an assignment was handed out when this share of the budget was used."""
        self._pruner.count_epochs(trial.start_epoch, trial.stop_epoch, progress)

    def retry(self, trial: Trial) -> None:
        """Note that the trial's present assignment was handed out again."""

    def suspend(self, trial: Trial) -> None:
        """Note that the session ended during the trial's assignment."""

    def learn(self, trial: Trial, score: Score, *, bad: bool) -> None:
        """Learn the score at the end of the trial's assignment; WORST if the trial went bad."""
        self._pruner.add_score(trial.id, trial.stop_epoch, score)
        if trial.start_epoch == 0 or bad:
            self._history.add(trial.point, bad=bad)

    def release(self, trial: Trial) -> None:
        """Note that the trial no longer waits: it was promoted, or given up."""
        self._pruner.remove_waiting(trial.id, trial.epoch)

    # ------------------------------------------------------------------ decisions

    def propose(self, trial: int, *, coarse_draws: int, zoom: Zoom | None) -> Draw | None:
        """Propose the configuration of a new trial; None if nothing is left to try.

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

    def is_exhausted(self, coarse_draws: int) -> bool:
        """Whether the coarse stage has no point left after this many draws, like a full grid."""
        return self._sampler.draw_point(coarse_draws) is None

    def choose_first_stop(self, trial: int) -> int:
        """Choose the epoch at which a new trial's first assignment ends."""
        return self._pruner.choose_first_stop(trial)

    def judge(self, trial: Trial) -> Verdict:
        """Decide on a trial at the end of its assignment: PAUSE, PRUNE or COMPLETE."""
        return self._pruner.judge(trial.id, trial.epoch, trial.score)

    def choose_promotion(self, *, last_call: bool) -> Promotion | None:
        """Choose the paused trial that goes on now; None if a new one is to be started.

        On the last call, no new trials will be started.
        """
        return self._pruner.choose_promotion(last_call=last_call)

    def choose_eviction(self, among: Container[int]) -> int | None:
        """Choose the waiting trial among these that is given up first if space is short."""
        return self._pruner.choose_eviction(among)

    def find_waiting(self) -> set[int]:
        """Return all trials that may be promoted; `Search.validate` compares them with its own."""
        return self._pruner.find_waiting()

    def choose_model(
        self, trials: Collection[Trial], incumbent: Incumbent | None
    ) -> Incumbent | None:
        """Choose the result whose model is shipped; the default is the incumbent."""
        return incumbent
