"""The search: a pure state machine that decides what is trained next.

Reports and failures go in, events come out. Nothing in here, or in what it imports, knows Ray, a
clock, a file or a global random number (a test computes the list). The package's docstring says how
the parts play together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Iterable

import numpy as np

from orchestrator.errors import InvalidEntry
from orchestrator.search.budget import Budget, Cycle
from orchestrator.search.draws import Draw
from orchestrator.search.events import (
    Assigning,
    AssignmentEnded,
    Event,
    Kind,
    ModelTested,
    SessionEnded,
    SessionStarted,
    TrialCompleted,
    TrialDiverged,
    TrialEvent,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialPruned,
    TrialRetried,
    TrialStarted,
    TrialStopped,
    ZoomedIn,
)
from orchestrator.search.fine_stage import FineStage
from orchestrator.search.messages import Assignment, Entry, Failure, Observation, Report
from orchestrator.search.methods import Setup, make_method
from orchestrator.search.objective import WORST
from orchestrator.search.pruning.base import Promotion, Verdict
from orchestrator.search.random_streams import derive_trial_seed
from orchestrator.search.spec import SearchSpec
from orchestrator.search.trial import (
    AUDIT,
    LEFT_BEHIND,
    TRANSITIONS,
    Incumbent,
    Status,
    Trial,
)
from orchestrator.search.validation import find_broken_invariants, find_problem
from orchestrator.search.zoom import Zoom
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["Search"]

#: Share of the budget after which no trial is started; paused ones are promoted instead.
LAST_CALL = 0.9

_ENDED = {cls.kind: cls for cls in (TrialPaused, TrialPruned, TrialCompleted, TrialDiverged)}


class Search:
    """Decides what is trained next. Smaller scores are better throughout.

    Args:
        space: The hyperparameters.
        spec: How the space is searched; `spec.method` names the search method.
        seed: All random numbers follow from it.
        max_epochs: No trial is trained longer.
    """

    def __init__(self, space: Space, spec: SearchSpec, *, seed: int, max_epochs: int) -> None:
        self.space, self.spec, self.seed, self.max_epochs = space, spec, seed, max_epochs
        self.method = make_method(Setup(space=space, spec=spec, seed=seed, max_epochs=max_epochs))
        self.fine_stage = FineStage(space, spec)
        self.trials: dict[int, Trial] = {}
        self.incumbent: Incumbent | None = None
        self.budget = Budget()  #: of the run in all, as the last session's start says
        self.epochs = 0  #: reported epochs of all trials
        self.audit_epochs = 0  #: reported epochs of audits, a part of `epochs`
        self.counts: dict[Status, int] = dict.fromkeys(Status, 0)  #: trials by status, no audits
        self._initial_configs = [
            space.check(config, source="initial_configs") for config in spec.initial_configs
        ]
        self._draws: Counter[str] = Counter()  # trials by the stage that they come from
        self._audited: set[int] = set()  # trials that were trained again, to the end
        self._interrupted: dict[int, None] = {}  # trials that a session's end stopped, in order
        self._cycle = Cycle()
        self._at_seconds = 0.0
        self._turns = 0  # assignments handed out so far

    # ------------------------------------------------------------------ deciding

    def suggest(self) -> list[Event]:
        """Decide what to train next.

        Returns:
            The events; the last one is an `Assigning` if there is something to train now.
        """
        return self._apply_all(self._suggest())

    def observe(self, report: Report, at_seconds: float) -> list[Event] | None:
        """Take a report in and decide what becomes of its trial.

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
        return self._apply_all([_end_assignment(trial, self._judge(trial))])

    def fail(self, failure: Failure) -> list[Event] | None:
        """An assignment ended without its last report: hand it out again, or fail the trial.

        Returns:
            The events, or None for a failure of an attempt that was given up before.
        """
        trial = self.trials.get(failure.trial)
        if trial is None or trial.status is not Status.RUNNING or failure.attempt != trial.attempt:
            return None
        lost = failure.kind == "lost"
        if lost and trial.retries < self.spec.retries:
            tries = f"try {trial.retries + 2} of {self.spec.retries + 1}"
            return self._apply_all([_retry(trial, f"{failure.message}; {tries}")])
        times = f", {trial.retries + 1} times" if lost else ""
        failed = TrialFailed(
            trial=trial.id,
            attempt=trial.attempt,
            epoch=trial.epoch,
            reason=failure.message + times,
            traceback=failure.traceback or None,
        )
        return self._apply_all([failed])

    def stop(self, reason: str) -> list[Event]:
        """The session ends: stop all running trials, to go on with in the next session."""
        running = (t for t in self.trials.values() if t.status is Status.RUNNING)
        return self._apply_all(
            TrialStopped(trial=t.id, epoch=t.epoch, reason=reason)
            for t in sorted(running, key=lambda t: t.turn)
        )

    def evict(self, among: Container[int], reason: str) -> list[Event]:
        """Give up the least promising waiting trial among those whose checkpoints take up room."""
        trial = self.method.choose_eviction(among)
        if trial is None:
            return []
        epoch = self.trials[trial].epoch
        return self._apply_all([TrialPruned(trial=trial, epoch=epoch, reason=reason)])

    # ------------------------------------------------------------------ asking

    def accepts(self, report: Report) -> bool:
        """Whether a report is the next one of an attempt under way; any other changes nothing."""
        trial = self.trials.get(report.trial)
        return (
            trial is not None
            and trial.status is Status.RUNNING
            and report.attempt == trial.attempt
            and report.epoch == trial.epoch + 1
        )

    def assignment(self, event: Assigning) -> Assignment:
        """What a worker is to do after a trial was started, promoted or retried."""
        trial = self.trials[event.trial]
        return Assignment(
            trial=trial.id,
            config=trial.config,
            seed=trial.seed,
            start_epoch=trial.epoch,
            stop_epoch=trial.stop_epoch,
            attempt=trial.attempt,
            explode_above=self.spec.explode_above,
            beat=self.incumbent.score if self.incumbent else WORST,
            slowest_seconds=trial.slowest_seconds,
            alone=trial.retries > 0,
        )

    def progress(self) -> float:
        """Share of what was last added to the budget that is used; the largest of its limits."""
        return max(self._cycle.share_of_trials(self.started, self.budget), self._used())

    @property
    def started(self) -> int:
        """Number of trials started so far, audits left out."""
        return len(self.trials) - self._draws[AUDIT]

    @property
    def zoom(self) -> Zoom | None:
        """The present box; None in the coarse stage."""
        return self.fine_stage.zoom

    def choose_model(self) -> Incumbent | None:
        """The result whose model is shipped."""
        return self.method.choose_model(self.trials.values(), self.incumbent)

    def settled(self) -> bool:
        """Whether all trials of the budget have been started and none would be trained on."""
        return (
            self._all_started()
            and not self._interrupted
            and all(t.status is not Status.RUNNING for t in self.trials.values())
            and self.method.choose_promotion(last_call=False) is None
            and self._promote_to_the_end() is None
            and self._choose_audit() is None
        )

    def validate(self) -> None:
        """Check all that must hold between two decisions; costs O(trials).

        Raises:
            AssertionError: What does not hold; that is a bug of ours.
        """
        broken = find_broken_invariants(self)
        assert not broken, "; ".join(broken)

    # ------------------------------------------------------------------ the only mutator

    def apply(self, entry: Entry, *, seq: int | None = None) -> None:
        """Change the state by what happened. No other method changes anything.

        Args:
            entry: The next entry of the run's log.
            seq: Its number in the log, for the message.

        Raises:
            InvalidEntry: If the entry does not follow from those before it; nothing is changed.
        """
        if problem := find_problem(self, entry):
            number = entry.report.trial if isinstance(entry, Observation) else None
            number = entry.trial if isinstance(entry, TrialEvent) else number
            trial = self.trials.get(number) if number is not None else None
            story = trial.story if trial else ""
            raise InvalidEntry(problem, trial=number, story=story, seq=seq)
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
            self.audit_epochs += 1
            return
        if report.score < (self.incumbent.score if self.incumbent else WORST):
            self.incumbent = Incumbent(score=report.score, trial=trial.id, epoch=report.epoch)
        if report.last:
            bad = bool(report.cause)
            self.method.learn(trial, WORST if bad else report.score, bad=bad)

    def _apply_session(self, event: SessionStarted) -> None:
        """A budget that was added is searched from coarse to fine again."""
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
            point=self._point(event),
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
            self._audited.update(trial.parents)
        else:
            self.counts[TRANSITIONS[None, event.kind]] += 1
        self._take_turn(trial)

    def _point(self, event: TrialStarted) -> Point:
        if event.unit is None:  # a log that was written by hand
            return self.space.point(event.config)
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
        """Give the trial the status that the event leads to."""
        target = TRANSITIONS[trial.status, event.kind]
        if not trial.is_audit:
            self.counts[trial.status] -= 1
            self.counts[target] += 1
        trial.status = target
        trial.event_kinds.append(event.kind)

    def _take_turn(self, trial: Trial) -> None:
        """The trial's assignment, up to stop_epoch, is under way."""
        self._turns += 1
        trial.turn = self._turns
        if not trial.is_audit:
            self.method.assign(trial, self.progress())

    def _ignore(self, event: Event) -> None:
        """The event says something to people; no decision depends on it."""

    _APPLY: dict[type[Entry], Callable[..., None]] = {  # noqa: RUF012 # never written to
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
        ModelTested: _ignore,
    }

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
            yield _retry(trial, "goes on where the last session stopped")
            return
        if not self.spec.audit or self._used() < 1:
            turns = self._turns
            yield from self._search()
            if self._turns > turns:
                return
        left = self._choose_audit()
        if left is not None:
            yield self._audit(left)

    def _search(self) -> Iterable[Event]:
        promotion = self.method.choose_promotion(last_call=self._used() >= LAST_CALL)
        if promotion is not None:
            yield self._promote(promotion)
            return
        if not self._all_started():
            zoom = self._propose_zoom()
            if zoom is not None:
                yield zoom
            start = self._start()
            if start is not None:
                yield start
                return
        promotion = self._promote_to_the_end()
        if promotion is not None:
            yield self._promote(promotion)

    def _used(self) -> float:
        """Share used of the epochs or the time, without the part that is kept for audits."""
        work = self._cycle.share_of_work(
            epochs=self.epochs, seconds=self._at_seconds, budget=self.budget
        )
        return work / (1 - self.spec.audit)

    def _all_started(self) -> bool:
        return self.budget.trials is not None and self.started >= self.budget.trials

    def _promote_to_the_end(self) -> Promotion | None:
        """Where no new trials are to come: the best trains all its epochs, if none has yet."""
        if self.counts[Status.COMPLETED] or self.counts[Status.RUNNING]:
            return None
        return self.method.choose_promotion(last_call=True)

    def _propose_zoom(self) -> ZoomedIn | None:
        return self.fine_stage.propose_zoom(
            self.trials.values(),
            progress=self.progress(),
            cycle=self._cycle,
            exhausted=self.method.is_exhausted(self._draws["coarse"]),
        )

    def _start(self) -> TrialStarted | None:
        """A new trial: an initial configuration while there are some, then the method's."""
        number = self._draws["given"]
        if number < len(self._initial_configs):
            return self._start_initial(number)
        draw = self.method.propose(
            len(self.trials), coarse_draws=self._draws["coarse"], zoom=self.fine_stage.zoom
        )
        return None if draw is None else self._start_drawn(draw)

    def _start_initial(self, number: int) -> TrialStarted:
        trial, seeds = len(self.trials), self.spec.initial_seeds
        config = self._initial_configs[number]
        return TrialStarted(
            trial=trial,
            stage="given",
            config=config,
            unit=self._unit(self.space.point(config)),
            seed=seeds[number] if number < len(seeds) else derive_trial_seed(self.seed, trial),
            stop_epoch=self.method.choose_first_stop(trial),
            reason="given in the spec",
        )

    def _start_drawn(self, draw: Draw) -> TrialStarted:
        trial, config = len(self.trials), self.space.config(draw.point)
        return TrialStarted(
            trial=trial,
            stage=draw.stage,
            config=config,
            unit=self._unit(self.space.point(config)),
            seed=derive_trial_seed(self.seed, trial),
            zoom=draw.zoom.number if draw.zoom else None,
            box=draw.zoom.box if draw.zoom else None,
            parents=draw.zoom.parents if draw.zoom else None,
            stop_epoch=self.method.choose_first_stop(trial),
            forecast=draw.forecast,
            reason=draw.reason,
        )

    def _unit(self, point: Point) -> dict[str, float]:
        """A point's coordinates by dimension; what is not active is left out."""
        pairs = zip(self.space.dimensions, point.tolist(), strict=True)
        return {d.name: u for d, u in pairs if not math.isnan(u)}

    def _choose_audit(self) -> Trial | None:
        """The next trial to audit: one that pruning left behind, by lot, while the share lasts."""
        share = self.spec.audit / (1 - self.spec.audit)
        planned = (self._draws[AUDIT] + 1) * self.max_epochs
        if planned > share * (self.epochs - self.audit_epochs):
            return None
        left = (
            t for t in self.trials.values() if t.status in LEFT_BEHIND and t.id not in self._audited
        )
        return min(left, key=lambda t: t.seed, default=None)  # the seeds are random numbers

    def _audit(self, left: Trial) -> TrialStarted:
        """Train a trial once more, to the end; with its own seed, so its first epochs repeat."""
        return TrialStarted(
            trial=len(self.trials),
            stage=AUDIT,
            parents=(left.id,),
            config=left.config,
            unit=self._unit(left.point),
            seed=left.seed,
            stop_epoch=self.max_epochs,
            reason=f"to see what would have become of trial {left.id}, which was left behind "
            f"after epoch {left.epoch}",
        )

    def _promote(self, promotion: Promotion) -> TrialPromoted:
        trial = self.trials[promotion.trial]
        return TrialPromoted(
            trial=trial.id,
            attempt=trial.attempt + 1,
            start_epoch=promotion.start_epoch,
            stop_epoch=promotion.stop_epoch,
            value=trial.score[0],
            comparison=promotion.comparison,
            forecast=promotion.forecast,
            reason=promotion.reason,
        )

    def _judge(self, trial: Trial) -> Verdict:
        if trial.cause:
            return Verdict(kind=Kind.DIVERGE, reason=f"epoch {trial.epoch}: {trial.cause}")
        if trial.is_audit:
            return Verdict(kind=Kind.COMPLETE, reason="an audit, trained all its epochs")
        return self.method.judge(trial)


def _end_assignment(trial: Trial, verdict: Verdict) -> AssignmentEnded:
    return _ENDED[verdict.kind](
        trial=trial.id,
        attempt=trial.attempt,
        epoch=trial.epoch,
        value=None if trial.cause else trial.score[0],
        comparison=verdict.comparison,
        reason=verdict.reason,
    )


def _retry(trial: Trial, reason: str) -> TrialRetried:
    return TrialRetried(
        trial=trial.id,
        attempt=trial.attempt + 1,
        start_epoch=trial.epoch,
        stop_epoch=trial.stop_epoch,
        reason=reason,
    )
