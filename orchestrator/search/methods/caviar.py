"""Method caviar: a Gaussian process proposes trials, and rungs share the epochs."""

from __future__ import annotations

from orchestrator.search.draws import Draw, draw_by_model, draw_coarse
from orchestrator.search.methods.base import Method, Setup
from orchestrator.search.objective import Score
from orchestrator.search.pruning.base import Pruner
from orchestrator.search.pruning.shares import Shares
from orchestrator.search.samplers import Sampler, make_sampler
from orchestrator.search.surrogate.advisor import Advisor
from orchestrator.search.trial import Trial
from orchestrator.search.zoom import Zoom

__all__ = ["CaviarMethod"]


class CaviarMethod(Method):
    """Sobol points near the start point first; then a Gaussian process proposes the trials.

    The model (surrogate/advisor.py) learns from every assignment that ends. It proposes the point
    that is expected to improve most, and ranks the paused trials for promotion (pruning/shares.py).
    """

    default_sampler = "sobol"
    default_pruning = "shares"
    default_zooms = 2

    def __init__(self, setup: Setup) -> None:
        self._advisor = Advisor(setup.space, seed=setup.seed, max_epochs=setup.max_epochs)
        super().__init__(setup)

    def make_sampler(self) -> Sampler:
        """Build the spec's sampler; until the model is asked, points lean to the start point."""
        spec = self.setup.spec
        return make_sampler(
            spec.sampler,
            self.setup.space,
            seed=self.setup.seed,
            grid_levels=spec.grid_levels,
            start_points=self._advisor.initial_trials,
        )

    def make_pruner(self) -> Pruner:
        """Build the rungs that share the epochs, unless the spec names another rule."""
        if self.setup.spec.pruning != "shares":
            return super().make_pruner()
        return Shares(rungs=self.setup.spec.rungs, advisor=self._advisor)

    def start(self, trial: Trial) -> None:
        """Add the trial's point to the model; the model counts all trials, so audits too."""
        self._advisor.add_trial(trial.point)

    def assign(self, trial: Trial, progress: float) -> None:
        """Note in the model that the trial is being trained."""
        super().assign(trial, progress)
        self._advisor.mark_running(trial.id)

    def retry(self, trial: Trial) -> None:
        """Note in the model that the trial is being trained again."""
        self._advisor.mark_running(trial.id)

    def suspend(self, trial: Trial) -> None:
        """Note in the model that the trial is not being trained."""
        self._advisor.mark_idle(trial.id)

    def learn(self, trial: Trial, score: Score, *, bad: bool) -> None:
        """Add the result to the model too."""
        super().learn(trial, score, bad=bad)
        self._advisor.mark_idle(trial.id)
        self._advisor.add_result(trial.id, trial.stop_epoch, score)

    def propose(self, trial: int, *, coarse_draws: int, zoom: Zoom | None) -> Draw | None:
        """Return the model's proposal if it has enough results, else that of a plain method.

        If every candidate of the model breaks a constraint, the sampler proposes the point.
        """
        if not self._advisor.ready:
            return super().propose(trial, coarse_draws=coarse_draws, zoom=zoom)
        proposal = self._advisor.propose(trial)
        if proposal is None:
            return draw_coarse(self._sampler, coarse_draws)
        return draw_by_model(zoom, *proposal)
