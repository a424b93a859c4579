"""The state of a search, and `apply`, the only method that changes it.

`Search` adds the decisions (search.py); they change nothing except by applying events. Nothing in
here, or in what it imports, uses Ray, a clock, a file or a global random number (a test computes
the list). The package's docstring explains how the parts work together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np

from orchestrator.errors import InvalidEntry
from orchestrator.search.audits import Audits
from orchestrator.search.budget import Budget, Cycle
from orchestrator.search.events import (
    AssignmentEnded,
    Event,
    SessionEnded,
    SessionStarted,
    TrialCompleted,
    TrialDiverged,
    TrialEvent,
    TrialFailed,
    TrialMessage,
    TrialNote,
    TrialPaused,
    TrialPromoted,
    TrialPruned,
    TrialRetried,
    TrialStarted,
    TrialStopped,
    ZoomedIn,
)
from orchestrator.search.fine_stage import FineStage
from orchestrator.search.messages import Entry, Observation, Report
from orchestrator.search.methods import Setup, make_method
from orchestrator.search.objective import WORST
from orchestrator.search.spec import SearchSpec
from orchestrator.search.trial import TRANSITIONS, Incumbent, Status, Trial
from orchestrator.search.validation import find_broken_invariants, find_problem
from orchestrator.search.zoom import Zoom
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["SearchState"]


class SearchState:
    """The state of a search, which follows from the applied entries. Smaller scores are better.

    Args:
        space: The hyperparameters.
        spec: How the space is searched; `spec.method` names the search method.
        seed: Seed that all random numbers follow from.
        max_epochs: Maximum number of epochs of a trial.
    """

    def __init__(self, space: Space, spec: SearchSpec, *, seed: int, max_epochs: int) -> None:
        self.space, self.spec, self.seed, self.max_epochs = space, spec, seed, max_epochs
        self.method = make_method(Setup(space=space, spec=spec, seed=seed, max_epochs=max_epochs))
        self.fine_stage = FineStage(space, spec)
        self.audits = Audits(share=spec.audit, max_epochs=max_epochs)
        self.trials: dict[int, Trial] = {}
        self.incumbent: Incumbent | None = None
        self.budget = Budget()  #: limits of the whole run, from the start of the last session
        self.epochs = 0  #: reported epochs of all trials, audits included
        self.counts: dict[Status, int] = dict.fromkeys(Status, 0)  #: trials by status, no audits
        self._draws: Counter[str] = Counter()  # number of trials by the stage they come from
        self._interrupted: dict[int, None] = {}  # trials that a session's end stopped, in order
        self._cycle = Cycle()
        self._at_seconds = 0.0
        self._turns = 0  # number of assignments handed out so far

    # ------------------------------------------------------------------ queries

    @property
    def started(self) -> int:
        """Number of trials started so far, without audits."""
        return len(self.trials) - self.audits.count

    @property
    def zoom(self) -> Zoom | None:
        """The present box; None in the coarse stage."""
        return self.fine_stage.zoom

    def accepts(self, message: Report | TrialMessage) -> bool:
        """Whether a report is the next one of the present attempt, or a message comes before it.

        Any other changes nothing.
        """
        trial = self.trials.get(message.trial)
        return (
            trial is not None
            and trial.status is Status.RUNNING
            and message.attempt == trial.attempt
            and message.epoch == trial.epoch + isinstance(message, Report)
        )

    def progress(self) -> float:
        """Share of the present cycle's budget that is used; the largest share of its limits."""
        return max(
            self._cycle.share_of_trials(self.started, self.budget), self._share_of_search_work()
        )

    def choose_model(self) -> Incumbent | None:
        """Choose the result whose model is shipped."""
        return self.method.choose_model(self.trials.values(), self.incumbent)

    def validate(self) -> None:
        """Check all that must hold between two decisions; costs O(trials).

        Raises:
            AssertionError: If an invariant does not hold, which is a bug of ours.
        """
        broken = find_broken_invariants(self)
        assert not broken, "; ".join(broken)

    def _share_of_search_work(self) -> float:
        """Share used of the epochs or of the time, without the part reserved for audits."""
        work = self._cycle.share_of_work(
            epochs=self.epochs, seconds=self._at_seconds, budget=self.budget
        )
        return work / (1 - self.spec.audit)

    # ------------------------------------------------------------------ the only mutator

    def apply(self, entry: Entry, *, seq: int | None = None) -> None:
        """Change the state by the next entry of the log. No other method changes the state.

        Args:
            entry: The next entry of the run's log.
            seq: Number of the entry in the log, for the error message.

        Raises:
            InvalidEntry: If the entry does not follow from those before it; nothing is changed.
        """
        if problem := find_problem(self, entry):
            trial_id = entry.report.trial if isinstance(entry, Observation) else None
            trial_id = entry.trial if isinstance(entry, TrialEvent) else trial_id
            trial = self.trials.get(trial_id) if trial_id is not None else None
            story = trial.story if trial else ""
            raise InvalidEntry(problem, trial=trial_id, story=story, seq=seq)
        if isinstance(entry, TrialMessage):
            self.trials[entry.trial].received.append(entry)
        elif not isinstance(entry, TrialNote):  # a note is for readers; nothing follows from it
            self._APPLY[type(entry)](self, entry)

    def _apply_report(self, entry: Observation) -> None:
        report, self._at_seconds = entry.report, entry.at_seconds
        trial = self.trials[report.trial]
        self.epochs += 1
        trial.epoch, trial.score, trial.cause = report.epoch, report.score, report.cause
        trial.slowest_seconds = max(trial.slowest_seconds, report.seconds)
        if report.score < trial.best:
            trial.best, trial.best_epoch, trial.best_order = report.score, report.epoch, self.epochs
        if not report.cause:
            self.fine_stage.note_report(trial)
        if trial.is_audit:
            self.audits.note_epoch()
            return
        if report.score < (self.incumbent.score if self.incumbent else WORST):
            self.incumbent = Incumbent(score=report.score, trial=trial.id, epoch=report.epoch)
        if report.last:
            bad = bool(report.cause)
            self.method.learn(trial, WORST if bad else report.score, bad=bad)

    def _apply_session(self, event: SessionStarted) -> None:
        """Begin a new cycle if the budget was changed; it is searched from coarse to fine again."""
        old, self.budget = self.budget, event.budget
        if old != event.budget:
            self._cycle = Cycle(
                seconds=self._at_seconds,
                trials=self.started,
                epochs=self.epochs,
                zooms=self.fine_stage.zooms,
            )
            self.fine_stage.restart()

    def _apply_zoom(self, event: ZoomedIn) -> None:
        self.fine_stage.use_box(event)

    def _apply_start(self, event: TrialStarted) -> None:
        trial = self.trials[event.trial] = Trial(
            id=event.trial,
            config=event.config,
            point=self._make_point(event),
            seed=event.seed,
            stage=event.stage,
            zoom=event.zoom,
            parents=event.parents or (),
            stop_epoch=event.stop_epoch,
            event_kinds=[event.kind],
        )
        self._draws[event.stage] += 1
        self.method.start(trial)
        if trial.is_audit:
            self.audits.add(trial)
        else:
            self.counts[TRANSITIONS[None, event.kind]] += 1
        self._take_turn(trial)

    def _make_point(self, event: TrialStarted) -> Point:
        if event.unit is None:  # in a log that was written by hand
            return self.space.to_point(event.config)
        return np.array([event.unit.get(d.name, math.nan) for d in self.space.dimensions])

    def _apply_promotion(self, event: TrialPromoted) -> None:
        trial = self.trials[event.trial]
        self.method.release(trial)
        self._move(trial, event)
        trial.start_epoch, trial.stop_epoch = trial.epoch, event.stop_epoch
        trial.attempt, trial.retries = event.attempt, 0
        self._take_turn(trial)

    def _apply_retry(self, event: TrialRetried) -> None:
        trial = self.trials[event.trial]
        self._interrupted.pop(trial.id, None)
        trial.retries += trial.status is Status.RUNNING
        self._move(trial, event)
        trial.attempt = event.attempt
        if not trial.is_audit:
            self.method.retry(trial)

    def _apply_stop(self, event: TrialStopped) -> None:
        trial = self.trials[event.trial]
        self._move(trial, event)
        self._interrupted[trial.id] = None
        self.method.suspend(trial)

    def _apply_failure(self, event: TrialFailed) -> None:
        trial = self.trials[event.trial]
        self._move(trial, event)
        if not trial.is_audit:
            self.method.learn(trial, WORST, bad=True)

    def _apply_end(self, event: AssignmentEnded) -> None:
        self._move(self.trials[event.trial], event)

    def _apply_pruning(self, event: TrialPruned) -> None:
        self.method.release(self.trials[event.trial])
        self._move(self.trials[event.trial], event)

    def _move(self, trial: Trial, event: TrialEvent) -> None:
        """Set the status that the event leads to."""
        target = TRANSITIONS[trial.status, event.kind]
        if not trial.is_audit:
            self.counts[trial.status] -= 1
            self.counts[target] += 1
        trial.status = target
        trial.event_kinds.append(event.kind)

    def _take_turn(self, trial: Trial) -> None:
        """Note that the trial's present assignment was handed out."""
        self._turns += 1
        trial.turn = self._turns
        if not trial.is_audit:
            self.method.assign(trial, self.progress())

    def _ignore(self, event: Event) -> None:
        """Do nothing: the event informs readers of the log; no decision depends on it."""

    _APPLY: dict[type[Entry], Callable[..., None]] = {  # noqa: RUF012 # is never changed
        Observation: _apply_report,
        SessionStarted: _apply_session,
        SessionEnded: _ignore,
        ZoomedIn: _apply_zoom,
        TrialStarted: _apply_start,
        TrialPromoted: _apply_promotion,
        TrialRetried: _apply_retry,
        TrialPaused: _apply_end,
        TrialCompleted: _apply_end,
        TrialDiverged: _apply_end,
        TrialPruned: _apply_pruning,
        TrialFailed: _apply_failure,
        TrialStopped: _apply_stop,
    }
