"""The search: a pure state machine that decides what is trained next.

Reports and failures go in, events come out. Nothing in here, or in what it imports, uses Ray, a
clock, a file or a global random number (a test computes the list). The package's docstring explains
how the parts work together; the state and `apply` stand in state.py.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from orchestrator.search import decisions
from orchestrator.search.events import Assigning, Event, Kind, TrialStarted, ZoomedIn
from orchestrator.search.messages import Assignment, Failure, Observation, Report
from orchestrator.search.objective import WORST
from orchestrator.search.pruning.base import Promotion, Verdict
from orchestrator.search.random_streams import derive_trial_seed
from orchestrator.search.spec import SearchSpec
from orchestrator.search.state import SearchState
from orchestrator.search.trial import Status, Trial
from orchestrator.space.space import Space

__all__ = ["Search"]

#: Share of the budget after which no trial is started; paused ones are promoted instead.
LAST_CALL = 0.9


class Search(SearchState):
    """Decides what is trained next. Smaller scores are better throughout.

    Args:
        space: The hyperparameters.
        spec: How the space is searched; `spec.method` names the search method.
        seed: Seed that all random numbers follow from.
        max_epochs: Maximum number of epochs of a trial.
    """

    def __init__(self, space: Space, spec: SearchSpec, *, seed: int, max_epochs: int) -> None:
        super().__init__(space, spec, seed=seed, max_epochs=max_epochs)
        self._initial_configs = [
            space.check_config(config, source="initial_configs") for config in spec.initial_configs
        ]

    # ------------------------------------------------------------------ decisions for the driver

    def suggest(self) -> list[Event]:
        """Decide what to train next.

        Returns:
            The events; the last one is an `Assigning` if there is something to train now.
        """
        return self._apply_all(self._suggest())

    def observe(self, report: Report, at_seconds: float) -> list[Event] | None:
        """Apply a report, and decide on its trial if it ends the assignment.

        Returns:
            The events, or None for a report that changes nothing: a report of an earlier attempt,
            or of an epoch that was reported before.
        """
        if not self.accepts(report):
            return None
        self.apply(Observation(report=report, at_seconds=at_seconds))
        if not report.last:
            return []
        trial = self.trials[report.trial]
        return self._apply_all([decisions.end_assignment(trial, self._judge(trial))])

    def fail(self, failure: Failure) -> list[Event] | None:
        """Decide on an assignment that ended without its last report: retry it, or fail the trial.

        Returns:
            The events, or None for a failure of an attempt that was abandoned before.
        """
        trial = self.trials.get(failure.trial)
        if trial is None or trial.status is not Status.RUNNING or failure.attempt != trial.attempt:
            return None
        retries = self.spec.retries
        if failure.kind == "lost" and trial.retries < retries:
            return self._apply_all([decisions.retry_lost(trial, failure, retries=retries)])
        return self._apply_all([decisions.fail_trial(trial, failure)])

    def stop(self, reason: str) -> list[Event]:
        """Stop all running trials at the end of a session; the next session goes on with them."""
        running = (t for t in self.trials.values() if t.status is Status.RUNNING)
        return self._apply_all(
            decisions.stop_trial(t, reason) for t in sorted(running, key=lambda t: t.turn)
        )

    def end_reported_assignments(self) -> list[Event]:
        """Decide on trials whose last report is applied and whose decision is not.

        A log ends in this way where it was cut between a report and its decision.
        """
        over = (t for t in self.trials.values() if t.status is Status.RUNNING and t.assignment_over)
        return self._apply_all(
            decisions.end_assignment(t, self._judge(t)) for t in sorted(over, key=lambda t: t.turn)
        )

    def evict(self, among: Container[int], reason: str) -> list[Event]:
        """Give up the least promising waiting trial among those whose checkpoints take up space."""
        trial = self.method.choose_eviction(among)
        if trial is None:
            return []
        return self._apply_all([decisions.prune(self.trials[trial], reason)])

    def make_assignment(self, event: Assigning) -> Assignment:
        """Make the assignment of a trial that was just started, promoted or retried."""
        trial = self.trials[event.trial]
        return Assignment(
            trial=trial.id,
            config=trial.config,
            seed=trial.seed,
            start_epoch=trial.epoch,
            stop_epoch=trial.stop_epoch,
            attempt=trial.attempt,
            explode_above=self.spec.explode_above,
            best_score=self.incumbent.score if self.incumbent else WORST,
            slowest_seconds=trial.slowest_seconds,
            isolate=trial.retries > 0,
            received=tuple(trial.received),
        )

    def is_settled(self) -> bool:
        """Whether all trials of the budget have been started and none would be trained on."""
        return (
            self._all_started()
            and not self._interrupted
            and all(t.status is not Status.RUNNING for t in self.trials.values())
            and self.method.choose_promotion(last_call=False) is None
            and self._choose_last_promotion() is None
            and self._choose_audit() is None
        )

    # ------------------------------------------------------------------ how it decides

    def _apply_all(self, events: Iterable[Event]) -> list[Event]:
        """Apply events one by one as they are decided, and return them."""
        applied = []
        for event in events:
            self.apply(event)
            applied.append(event)
        return applied

    def _suggest(self) -> Iterable[Event]:
        if self._interrupted:
            trial = self.trials[next(iter(self._interrupted))]
            yield decisions.retry(trial, "goes on where the last session stopped")
            return
        if not self.spec.audit or self._share_of_search_work() < 1:
            turns = self._turns
            yield from self._suggest_search()
            if self._turns > turns:
                return
        audited = self._choose_audit()
        if audited is not None:
            yield decisions.start_audit(
                self.space, audited, trial=len(self.trials), stop_epoch=self.max_epochs
            )

    def _suggest_search(self) -> Iterable[Event]:
        """Promote a trial, or start one, as the method decides; zoom in first if that is due."""
        promotion = self.method.choose_promotion(
            last_call=self._share_of_search_work() >= LAST_CALL
        )
        if promotion is None and not self._all_started():
            zoom = self._propose_zoom()
            if zoom is not None:
                yield zoom
            start = self._start()
            if start is not None:
                yield start
                return
        promotion = promotion or self._choose_last_promotion()
        if promotion is not None:
            yield decisions.promote(self.trials[promotion.trial], promotion)

    def _all_started(self) -> bool:
        return self.budget.trials is not None and self.started >= self.budget.trials

    def _choose_last_promotion(self) -> Promotion | None:
        """Choose the best trial to train to the end, if none was and no trial can be started."""
        if self.counts[Status.COMPLETED] or self.counts[Status.RUNNING]:
            return None
        return self.method.choose_promotion(last_call=True)

    def _choose_audit(self) -> Trial | None:
        return self.audits.choose_trial(self.trials.values(), epochs=self.epochs)

    def _propose_zoom(self) -> ZoomedIn | None:
        return self.fine_stage.propose_zoom(
            self.trials.values(),
            progress=self.progress(),
            cycle=self._cycle,
            exhausted=self.method.is_exhausted(self._draws["coarse"]),
        )

    def _start(self) -> TrialStarted | None:
        """Start a trial: first the initial configurations, then what the method proposes."""
        trial, number, seeds = len(self.trials), self._draws["given"], self.spec.initial_seeds
        if number < len(self._initial_configs):
            return decisions.start_initial(
                self.space,
                self._initial_configs[number],
                trial=trial,
                seed=seeds[number] if number < len(seeds) else derive_trial_seed(self.seed, trial),
                stop_epoch=self.method.choose_first_stop(trial),
            )
        draw = self.method.propose(trial, coarse_draws=self._draws["coarse"], zoom=self.zoom)
        if draw is None:
            return None
        return decisions.start_draw(
            self.space,
            draw,
            trial=trial,
            seed=derive_trial_seed(self.seed, trial),
            stop_epoch=self.method.choose_first_stop(trial),
        )

    def _judge(self, trial: Trial) -> Verdict:
        if trial.cause:
            return Verdict(kind=Kind.DIVERGE, reason=f"epoch {trial.epoch}: {trial.cause}")
        if trial.is_audit:
            return Verdict(kind=Kind.COMPLETE, reason="an audit, trained all its epochs")
        return self.method.judge(trial)
