"""The search: a pure state machine that decides what is trained next.

No Ray, no clock, no files, no global random numbers. Reports and failures go in, events come out,
and `apply` is the only method that changes anything. So resuming a run is applying its log, and
replaying one is deciding again and comparing.

The three parts it puts together stand in files of their own: the coarse stage (coarse.py), pruning
(pruning.py) and the fine stage (fine.py).
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.errors import SpecError
from orchestrator.search.draws import Draw, draw_coarse
from orchestrator.search.events import Event, Kind
from orchestrator.search.messages import Assignment, Failure, Observation, Report
from orchestrator.search.methods.hyperband import Hyperband
from orchestrator.search.methods.pruning import Asha, Median, NoPruning, Promotion, Pruner, Verdict
from orchestrator.search.methods.shares import Shares
from orchestrator.search.objective import WORST, Score
from orchestrator.search.random_streams import derive_trial_seed
from orchestrator.search.samplers import make_sampler
from orchestrator.search.spec import PRUNINGS, SearchSpec
from orchestrator.search.surrogate.advisor import Advisor, Forecast
from orchestrator.search.trial import AUDIT, LEFT_BEHIND, TRANSITIONS, Incumbent, Status, Trial
from orchestrator.search.zoom import ELITES, History, Zoom, draw_by_model, draw_fine, zoom_in
from orchestrator.space.domains import Point
from orchestrator.space.space import Space

__all__ = ["Search"]

LAST_CALL = 0.9  #: of the budget: from here on, who waits is trained on rather than new ones begun


class Search:
    """Decides; see the module's docstring. Smaller scores are better throughout."""

    def __init__(
        self,
        space: Space,
        spec: SearchSpec,
        *,
        seed: int,
        max_epochs: int,
    ) -> None:
        self.space = space
        self.spec = spec
        self.seed = seed
        self.max_epochs = max_epochs
        self.trials: dict[int, Trial] = {}
        self.incumbent: Incumbent | None = None
        self.epochs = 0  #: reported, over all trials
        self.audit_epochs = 0  #: those of audits among them
        self.zoom: Zoom | None = None
        self.counts: dict[Status, int] = dict.fromkeys(Status, 0)  #: audits left out
        self._given = [space.check(c, source="given") for c in spec.initial_configs]
        self._advisor = (
            Advisor(space, seed=seed, max_epochs=max_epochs) if spec.method == "caviar" else None
        )
        self._sampler = make_sampler(
            spec.sampler,
            space,
            seed=seed,
            grid_levels=spec.grid_levels,
            start_points=self._advisor.beginning if self._advisor else 0,
        )
        self._pruner = _make_pruner(spec, self._advisor)
        self._history = History(space)
        self._drawn = {"given": 0, "coarse": 0, "fine": 0, AUDIT: 0}
        self._audited: set[int] = set()  # trials that were trained again, to the end
        self._interrupted: dict[int, None] = {}  # in order
        self._budget = Event(kind=Kind.SESSION)
        self._cycle = _Cycle()
        self._zooms = 0
        self._zoom_answered = False  # whether the present box has had a result
        self._at_seconds = 0.0
        self._turns = 0

    # ------------------------------------------------------------------ deciding

    def suggest(self) -> list[Event]:
        """What to train next: the last event names it; nothing if nothing is to be trained now."""
        return self._decided(self._suggest())

    def observe(self, report: Report, at_seconds: float) -> list[Event] | None:
        """Take a report in and decide what becomes of its trial.

        Returns:
            The events, or None for a report that changes nothing: of an earlier attempt, or of an
            epoch already known.
        """
        if not self.accepts(report):
            return None
        self.apply(Observation(report=report, at_seconds=at_seconds))
        return self._decided(self._ended(self.trials[report.trial])) if report.last else []

    def fail(self, failure: Failure) -> list[Event] | None:
        """An assignment ended without its last report: again elsewhere, or failed."""
        trial = self.trials.get(failure.trial)
        if trial is None or trial.status is not Status.RUNNING or failure.attempt != trial.attempt:
            return None
        if failure.kind == "lost" and trial.retries < self.spec.retries:
            told = f"{failure.message}; try {trial.retries + 2} of {self.spec.retries + 1}"
            return self._decided([self._retry(trial, told)])
        times = f", {trial.retries + 1} times" if failure.kind == "lost" else ""
        return self._decided(
            [
                Event(
                    kind=Kind.FAIL,
                    trial=trial.id,
                    attempt=trial.attempt,
                    epoch=trial.epoch,
                    reason=failure.message + times,
                    details=failure.traceback or None,
                )
            ]
        )

    def stop(self, reason: str) -> list[Event]:
        """The session ends: whatever runs is stopped, to go on in the next one."""
        running = sorted(
            (t for t in self.trials.values() if t.status is Status.RUNNING), key=lambda t: t.turn
        )
        return self._decided(
            Event(kind=Kind.STOP, trial=t.id, epoch=t.epoch, reason=reason) for t in running
        )

    def evict(self, among: Container[int], reason: str) -> list[Event]:
        """Give up the least promising trial that waits, of those whose state takes up room."""
        trial = self._pruner.least_promising(among)
        if trial is None:
            return []
        epoch = self.trials[trial].epoch
        return self._decided([Event(kind=Kind.PRUNE, trial=trial, epoch=epoch, reason=reason)])

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

    def assignment(self, event: Event) -> Assignment:
        """What a worker is to do after a START, PROMOTE or RETRY."""
        assert event.trial is not None
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
        )

    def progress(self) -> float:
        """The share that is used up of what was last added to the budget.

        Of several budgets, the one that ends first counts.
        """
        begun = _share(self.begun, self._cycle.trials, self._budget.budget_trials)
        return max(begun, self._used())

    @property
    def begun(self) -> int:
        """How many trials have begun, audits left out."""
        return len(self.trials) - self._drawn[AUDIT]

    def leader(self) -> int | None:
        """The trial to bet on: the model's, where there is one, else the incumbent's."""
        if self._advisor and self._advisor.ready:
            return self._advisor.leader()
        return self.incumbent.trial if self.incumbent else None

    def settled(self) -> bool:
        """Whether all trials of the budget have begun and none would be trained on."""
        return (
            self._all_started()
            and not self._interrupted
            and all(t.status is not Status.RUNNING for t in self.trials.values())
            and self._pruner.promotion(last_call=False) is None
            and self._to_the_end() is None
            and self._left_behind() is None
        )

    @property
    def budget(self) -> Event:
        """The session event whose budget holds."""
        return self._budget

    # ------------------------------------------------------------------ the only mutator

    def apply(self, entry: Event | Observation) -> None:
        """Change the state by what happened. Nothing else does."""
        if isinstance(entry, Observation):
            self._apply_report(entry.report)
            self._at_seconds = entry.at_seconds
            return
        match entry.kind:
            case Kind.SESSION:
                self._apply_session(entry)
            case Kind.ZOOM:
                assert entry.zoom is not None and entry.box is not None
                self.zoom = Zoom(
                    number=entry.zoom, box=entry.box, parents=tuple(entry.parents or ())
                )
                self._zooms, self._zoom_answered = entry.zoom, False
            case Kind.START:
                self._apply_start(entry)
            case Kind.END | Kind.TEST:
                pass
            case _:
                self._apply_move(entry)

    def _apply_session(self, event: Event) -> None:
        """A budget that was added is searched from coarse to fine again."""
        old, self._budget = self._budget, event
        if _limits(old) != _limits(event):
            self._cycle = _Cycle(
                trials=self.begun,
                epochs=self.epochs,
                at_seconds=self._at_seconds,
                zooms=self._zooms,
            )
            self.zoom = None

    def _apply_report(self, report: Report) -> None:
        trial = self.trials[report.trial]
        self.epochs += 1
        trial.epoch, trial.score, trial.cause = report.epoch, report.score, report.cause
        trial.slowest_seconds = max(trial.slowest_seconds, report.seconds)
        if self.zoom is not None and trial.zoom == self.zoom.number and not report.cause:
            self._zoom_answered = True
        if report.score < trial.best:
            trial.best, trial.best_epoch = report.score, report.epoch
        if trial.is_audit:
            self.audit_epochs += 1
            return
        if report.score < (self.incumbent.score if self.incumbent else WORST):
            self.incumbent = Incumbent(score=report.score, trial=trial.id, epoch=report.epoch)
        if report.last:
            bad = bool(report.cause)
            self._enter(trial, WORST if bad else report.score)
            if trial.start_epoch == 0 or bad:
                self._history.add(trial.point, bad=bad)

    def _apply_start(self, event: Event) -> None:
        assert event.trial is not None and event.config is not None
        assert event.stop_epoch is not None and event.seed is not None
        stage = event.stage or "given"
        trial = self.trials[event.trial] = Trial(
            id=event.trial,
            config=event.config,
            point=self._point(event),
            seed=event.seed,
            stage=stage,
            zoom=event.zoom,
            parents=tuple(event.parents or ()),
            stop_epoch=event.stop_epoch,
        )
        self._drawn[stage] += 1
        if self._advisor:  # by number: audits too
            self._advisor.start(trial.point)
        self._hand_out(trial)
        if trial.is_audit:
            self._audited.update(trial.parents)
        else:
            self.counts[TRANSITIONS[None, event.kind]] += 1

    def _point(self, event: Event) -> Point:
        if event.unit is None:  # written by hand
            return self.space.point(event.config or {})
        return np.array([event.unit.get(d.name, math.nan) for d in self.space.dimensions])

    def _apply_move(self, event: Event) -> None:
        assert event.trial is not None
        trial = self.trials[event.trial]
        target = TRANSITIONS.get((trial.status, event.kind))
        assert target is not None, f"trial {trial.id} is {trial.status}, got {event.kind}"
        if not trial.is_audit:
            self.counts[trial.status] -= 1
            self.counts[target] += 1
        was, trial.status = trial.status, target
        match event.kind:
            case Kind.PROMOTE:
                assert event.stop_epoch is not None
                self._pruner.leave(trial.id, trial.epoch)
                trial.start_epoch, trial.stop_epoch = trial.epoch, event.stop_epoch
                trial.attempt, trial.retries = trial.attempt + 1, 0
                self._hand_out(trial)
            case Kind.RETRY:
                self._interrupted.pop(trial.id, None)
                trial.attempt += 1
                trial.retries += was is Status.RUNNING
                if self._advisor and not trial.is_audit:
                    self._advisor.run(trial.id)
            case Kind.STOP:
                self._interrupted[trial.id] = None
                if self._advisor:
                    self._advisor.rest(trial.id)
            case Kind.FAIL if not trial.is_audit:
                self._enter(trial, WORST)
                self._history.add(trial.point, bad=True)
            case Kind.PRUNE:
                self._pruner.leave(trial.id, trial.epoch)
            case _:
                pass

    def _hand_out(self, trial: Trial) -> None:
        """Its assignment, up to stop_epoch, is under way."""
        self._turns += 1
        trial.turn = self._turns
        if trial.is_audit:
            return
        self._pruner.spend(trial.start_epoch, trial.stop_epoch, self.progress())
        if self._advisor:
            self._advisor.run(trial.id)

    def _enter(self, trial: Trial, score: Score) -> None:
        """Its assignment is over: the score goes to the rung, and to the model."""
        self._pruner.enter(trial.id, trial.stop_epoch, score)
        if self._advisor:
            self._advisor.rest(trial.id)
            self._advisor.enter(trial.id, trial.stop_epoch, score)

    # ------------------------------------------------------------------ how it decides

    def _decided(self, events: Iterable[Event]) -> list[Event]:
        """Apply the events one by one as they are decided, and hand them out."""
        decided = []
        for event in events:
            self.apply(event)
            decided.append(event)
        return decided

    def _suggest(self) -> Iterable[Event]:
        if self._interrupted:
            trial = self.trials[next(iter(self._interrupted))]
            yield self._retry(trial, "goes on where the last session stopped")
            return
        if not self.spec.audit or self._used() < 1:
            begun = self._turns
            yield from self._searched()
            if self._turns > begun:
                return
        left = self._left_behind()
        if left is not None:
            yield self._audit(left)

    def _searched(self) -> Iterable[Event]:
        promotion = self._pruner.promotion(last_call=self._used() >= LAST_CALL)
        if promotion is not None:
            yield self._promote(promotion)
            return
        if not self._all_started():
            zoomed = self._zoom_due()
            if zoomed is not None:
                yield zoomed
            draw = self._draw()
            if draw is not None:
                yield self._start(draw)
                return
        promotion = self._to_the_end()
        if promotion is not None:
            yield self._promote(promotion)

    def _used(self) -> float:
        """The share used of the time or the epochs, without what is kept for audits.

        Towards its end, from LAST_CALL on, who waits goes before new trials.
        """
        b, c = self._budget, self._cycle
        used = max(
            _share(self.epochs, c.epochs, b.budget_epochs),
            _share(self._at_seconds, c.at_seconds, b.budget_seconds),
        )
        return used / (1 - self.spec.audit)

    def _left_behind(self) -> Trial | None:
        """Whom to audit next: one that pruning left behind, by lot, while the share lasts."""
        share = self.spec.audit / (1 - self.spec.audit)
        planned = (self._drawn[AUDIT] + 1) * self.max_epochs
        if planned > share * (self.epochs - self.audit_epochs):
            return None
        left = (
            t for t in self.trials.values() if t.status in LEFT_BEHIND and t.id not in self._audited
        )
        return min(left, key=lambda t: t.seed, default=None)  # the seeds are random numbers

    def _to_the_end(self) -> Promotion | None:
        """Where no new trials are to come: the best trains all its epochs, if none has yet."""
        if self.counts[Status.COMPLETED] or self.counts[Status.RUNNING]:
            return None
        return self._pruner.promotion(last_call=True)

    def _all_started(self) -> bool:
        most = self._budget.budget_trials
        return most is not None and self.begun >= most

    def _zoom_due(self) -> Event | None:
        """A new box, when its share of the budget begins and there is something to go by."""
        done = self._zooms - self._cycle.zooms
        if done >= self.spec.zooms:
            return None
        due = self.spec.coarse_share + done * (1 - self.spec.coarse_share) / self.spec.zooms
        grid_done = self._sampler.point(self._drawn["coarse"]) is None
        if self.progress() < due and not (grid_done and self.zoom is None):
            return None
        if self.zoom is not None and not self._zoom_answered:
            return None  # a box is not narrowed again before anything has come back from it
        rank_epochs = sorted(
            (t for t in self.trials.values() if t.best[0] < math.inf and not t.is_audit),
            key=lambda t: (t.best, t.id),
        )
        elites = rank_epochs[: min(ELITES, len(rank_epochs) // 4)]
        if not elites:
            return None
        zoom = zoom_in(
            self.space,
            points=[t.point for t in elites],
            trials=[t.id for t in elites],
            number=self._zooms + 1,
            previous=self.zoom.box if self.zoom else {},
        )
        return Event(
            kind=Kind.ZOOM,
            stage="fine",
            zoom=zoom.number,
            parents=zoom.parents,
            box=zoom.box,
            reason=f"zoom {zoom.number}: the best {len(elites)} of {len(rank_epochs)} trials, "
            f"{self.progress():.0%} of the budget used",
        )

    def _draw(self) -> Draw | None:
        if self._drawn["given"] < len(self._given):
            config = self._given[self._drawn["given"]]
            return Draw(point=self.space.point(config), stage="given", reason="given in the spec")
        trial = len(self.trials)
        draw = None
        if self._advisor and self._advisor.ready:
            forecast = self._advisor.propose(trial)
            draw = forecast and draw_by_model(self.zoom, forecast)
        elif self.zoom is not None:
            draw = draw_fine(
                self.space, self.zoom, seed=self.seed, trial=trial, history=self._history
            )
        return draw or draw_coarse(self._sampler, self._drawn["coarse"])

    def _start(self, draw: Draw) -> Event:
        trial = len(self.trials)
        if draw.stage == "given":
            config, seed = self._given[self._drawn["given"]], self._initial_seed(trial)
        else:
            config, seed = self.space.config(draw.point), derive_trial_seed(self.seed, trial)
        event = Event(
            kind=Kind.START,
            trial=trial,
            attempt=1,
            stage=draw.stage,
            zoom=draw.zoom,
            parents=draw.parents,
            box=draw.box,
            config=config,
            unit=self._unit(self.space.point(config)),
            seed=seed,
            start_epoch=0,
            stop_epoch=self._pruner.first_stop(trial),
            reason=draw.reason,
        )
        return _expecting(event, draw.forecast)

    def _initial_seed(self, trial: int) -> int:
        seeds, draw = self.spec.initial_seeds, self._drawn["given"]
        return seeds[draw] if draw < len(seeds) else derive_trial_seed(self.seed, trial)

    def _unit(self, point: Point) -> dict[str, float]:
        """A point's coordinates by dimension; what is not active is left out."""
        pairs = zip(self.space.dimensions, point.tolist(), strict=True)
        return {d.name: u for d, u in pairs if not math.isnan(u)}

    def _audit(self, left: Trial) -> Event:
        """Train it once more, with its own seed: the same epochs, and those it was not given."""
        return Event(
            kind=Kind.START,
            trial=len(self.trials),
            attempt=1,
            stage=AUDIT,
            parents=(left.id,),
            config=left.config,
            unit=self._unit(left.point),
            seed=left.seed,
            start_epoch=0,
            stop_epoch=self.max_epochs,
            reason=f"to see what would have become of trial {left.id}, which was left behind "
            f"after epoch {left.epoch}",
        )

    def _promote(self, promotion: Promotion) -> Event:
        trial = self.trials[promotion.trial]
        event = Event(
            kind=Kind.PROMOTE,
            trial=trial.id,
            attempt=trial.attempt + 1,
            start_epoch=promotion.start_epoch,
            stop_epoch=promotion.stop_epoch,
            reason=promotion.reason,
            value=trial.score[0],
            rung=promotion.start_epoch,
            rank=promotion.rank,
            peers=promotion.peers,
            cutoff=promotion.cutoff,
        )
        return _expecting(event, promotion.forecast)

    def _retry(self, trial: Trial, reason: str) -> Event:
        return Event(
            kind=Kind.RETRY,
            trial=trial.id,
            attempt=trial.attempt + 1,
            start_epoch=trial.epoch,
            stop_epoch=trial.stop_epoch,
            reason=reason,
        )

    def _ended(self, trial: Trial) -> Iterable[Event]:
        if trial.cause:
            verdict = Verdict(kind=Kind.DIVERGE, reason=f"epoch {trial.epoch}: {trial.cause}")
        elif trial.is_audit:
            verdict = Verdict(kind=Kind.COMPLETE, reason="an audit, trained all its epochs")
        else:
            verdict = self._pruner.verdict(trial.id, trial.epoch, trial.score)
        yield Event(
            kind=verdict.kind,
            trial=trial.id,
            attempt=trial.attempt,
            epoch=trial.epoch,
            value=None if trial.cause else trial.score[0],
            reason=verdict.reason,
            rung=verdict.rung,
            rank=verdict.rank,
            peers=verdict.peers,
            cutoff=verdict.cutoff,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cycle:
    """What had been used up when the present budget began."""

    trials: int = 0
    epochs: int = 0
    at_seconds: float = 0.0
    zooms: int = 0


def _share(used: float, before: float, limit: float | None) -> float:
    return (used - before) / (limit - before) if limit is not None and limit > before else 0.0


def _expecting(event: Event, forecast: Forecast | None) -> Event:
    """The event with what the model expects, where it had a say."""
    if forecast is None:
        return event
    return replace(
        event,
        expected=forecast.expected,
        expected_low=forecast.low,
        expected_high=forecast.high,
    )


def _make_pruner(spec: SearchSpec, advisor: Advisor | None) -> Pruner:
    match spec.pruning:
        case "shares" if advisor:
            return Shares(rungs=spec.rungs, advisor=advisor)
        case "asha":
            return Asha(rungs=spec.rungs, eta=spec.eta)
        case "hyperband":
            return Hyperband(rungs=spec.rungs, eta=spec.eta)
        case "median":
            return Median(max_epochs=spec.rungs[-1])
        case "none":
            return NoPruning(max_epochs=spec.rungs[-1])
    raise SpecError(
        f"search.pruning needs one of {' | '.join(PRUNINGS)} "
        f"(shares with method: caviar alone), got {spec.pruning!r}"
    )


def _limits(session: Event) -> tuple[float | None, ...]:
    return session.budget_seconds, session.budget_trials, session.budget_epochs
