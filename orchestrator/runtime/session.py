"""The loop of a session: it owns the clock, and carries values between search, pool and log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from orchestrator.errors import RunError
from orchestrator.runtime.pool import Pool
from orchestrator.runtime.worker import Checkpoint, Message
from orchestrator.search.budget import Budget, remaining
from orchestrator.search.events import (
    Assigning,
    EndDetails,
    Event,
    SessionEnded,
    SessionStarted,
    TrialEvent,
    TrialRetried,
)
from orchestrator.search.messages import Entry, Failure, Observation, Report, State
from orchestrator.search.search import Search
from orchestrator.search.trial import ENDED, Incumbent, Status
from orchestrator.store.checkpoints import CheckpointStore
from orchestrator.store.log import Log

__all__ = ["Session", "SessionResult", "Watcher"]

WAIT_SECONDS = 0.1  #: for a message, before the clock and the stop flag are looked at again
MAX_FAILURES_AT_START = 8  #: trials that may fail at the start, before the run is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """How a session ended."""

    status: str  #: finished | interrupted | failed
    reason: str
    seconds: float  #: of this session
    busy_seconds: float  #: inside epochs, over all workers
    worker_seconds: float  #: workers x seconds, as workers came and went
    dropped: int  #: reports of attempts that had been given up

    @property
    def utilisation(self) -> float:
        """The share of the workers' time that was training."""
        return self.busy_seconds / self.worker_seconds if self.worker_seconds else 0.0


class Watcher(Protocol):
    """Whoever looks on: the terminal."""

    def happened(self, entry: Event | Observation, at_seconds: float) -> None:
        """One more row of the log."""

    def tick(self, session: Session) -> None:
        """Called about ten times a second."""

    def note(self, text: str) -> None:
        """Something that a person should know, from any thread."""

    def close(self) -> None:
        """The session is over, however it ended."""


class Session:
    """One driver's work on a run, from the first assignment to the last row."""

    def __init__(
        self,
        *,
        search: Search,
        pool: Pool,
        log: Log,
        states: CheckpointStore,
        budget: Budget,
        session_event: SessionStarted,
        at_seconds: float,
        expected_epochs: float,
        watcher: Watcher,
        save_best: Callable[[Incumbent, State], None],
        closing_events: Callable[[], Sequence[Event]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.search, self.pool, self.log, self.states = search, pool, log, states
        self.budget, self.session_event, self.watcher = budget, session_event, watcher
        self.expected_epochs = expected_epochs  #: of the whole run, pruning reckoned in
        self.busy_seconds = self.worker_seconds = 0.0
        self.dropped = 0
        self.stopping = ""  #: a reason to stop, set by a signal handler
        self._save_best, self._closing_events, self._clock = save_best, closing_events, clock
        self._best: tuple[Incumbent, State] | None = None
        self._begun = self._ticked = clock()
        self._offset = at_seconds
        self._epochs_before = search.epochs
        self._first_failure = ""
        self._unwritable = False

    def now(self) -> float:
        """Seconds since the run began; breaks between sessions do not count."""
        return self._offset + self._clock() - self._begun

    def remaining_seconds(self) -> float:
        """Until the deadline; infinite without one."""
        return remaining(self.budget.seconds, self.now())

    def seconds_left(self) -> float | None:
        """Until the budget is used up, as far as one can tell; None before the first epoch.

        A budget of epochs, or what a budget of trials is expected to need with its pruning
        (`expected_epochs`), is divided by the pace so far.
        """
        pace = (self.search.epochs - self._epochs_before) / max(self.now() - self._offset, 1e-9)
        epochs = min(remaining(self.budget.epochs, 0), self.expected_epochs)
        if epochs < math.inf and pace > 0:
            by_pace = max(epochs - self.search.epochs, 0) / pace
            return max(min(by_pace, self.remaining_seconds()), 0.0)
        return max(self.remaining_seconds(), 0.0) if self.budget.seconds is not None else None

    def run(self) -> SessionResult:
        """Train until the budget is used up, nothing is left to do, or someone says stop."""
        self._happened([self.session_event], apply=True)
        self._happened(self.search.stop("the last session ended without a word"))
        self._flush()  # whoever looks from outside sees that the session has begun
        self._ticked = self._clock()
        status, reason = "failed", "an error of the program"
        try:
            status, reason = self._loop()
        finally:
            self.watcher.close()
            self._close(status, reason)
        return SessionResult(
            status=status,
            reason=reason,
            seconds=self.now() - self._offset,
            busy_seconds=self.busy_seconds,
            worker_seconds=self.worker_seconds,
            dropped=self.dropped,
        )

    def _loop(self) -> tuple[str, str]:
        while True:
            if self.stopping:
                return "interrupted", self.stopping
            if ended := self._used_up():
                self._take(self.pool.drain())
                return "finished", ended
            self._assign()
            if not self.pool.busy() and self.pool.free():  # none busy, none free: all starting
                if self._all_failed():
                    return "failed", f"every trial failed: {self._first_failure}"
                if self.search.incumbent is None:
                    return "failed", "no trial had a result: all diverged or failed"
                return "finished", "all trials have ended"
            left = max(self.remaining_seconds(), 0.0)
            self._take(self.pool.poll(min(WAIT_SECONDS, left), left=left))
            self._tick()
            if self.search.counts[Status.FAILED] >= MAX_FAILURES_AT_START and self._all_failed():
                return "failed", f"every trial failed: {self._first_failure}"
            if self.log.due():
                self._flush()

    def _used_up(self) -> str:
        """Which budget is used up, in words, or nothing."""
        if self.remaining_seconds() <= 0:
            return f"the time is up ({self.budget.seconds:g} s)"
        if remaining(self.budget.epochs, self.search.epochs) <= 0:
            return f"the epochs are used up ({self.budget.epochs:g})"
        return ""

    def _assign(self) -> None:
        """Give every free worker something to do."""
        while self.pool.free() > 0:
            events = self.search.suggest()
            self._happened(events)
            if not events or not isinstance(events[-1], Assigning):
                return
            self._hand_out(events[-1])

    def _hand_out(self, event: Assigning) -> None:
        """To a worker: what a START, PROMOTE or RETRY asks for, with the last state there is."""
        assignment = self.search.assignment(event)
        self.pool.submit(assignment, self.states.get(assignment.trial))

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Report):
                self._report(message)
            else:
                self._failure(message)

    def _report(self, report: Report) -> None:
        if remaining(self.budget.epochs, self.search.epochs) <= 0:
            return  # one more than the budget: as if it were still in flight
        if not self.search.accepts(report):
            self.dropped += 1
            return
        state, report = report.state, replace(report, state=None)
        if state is not None and report.last:  # held before PAUSED is logged
            self.states.put(report.trial, Checkpoint(epoch=report.epoch, state=state))
        at_seconds = self.now()
        events = self.search.observe(report, at_seconds)
        assert events is not None  # it was accepted
        self.busy_seconds += report.seconds
        self._happened([Observation(report=report, at_seconds=at_seconds)])
        self._happened(events)
        best = self.search.incumbent
        if state is not None and best and (best.trial, best.epoch) == (report.trial, report.epoch):
            self._best = best, state
        while self.states.over_budget():
            evicted = self.search.evict(
                self.states, "the states of trials that wait need more than their budget"
            )
            if not evicted:
                break
            self._happened(evicted)

    def _failure(self, failure: Failure) -> None:
        self._first_failure = self._first_failure or failure.message
        events = self.search.fail(failure)
        if events is None:
            self.dropped += 1
            return
        self._happened(events)
        if isinstance(events[-1], TrialRetried):
            self._hand_out(events[-1])

    def _happened(self, entries: Sequence[Entry], *, apply: bool = False) -> None:
        """Log what the search has decided, and let go of states that nobody will ask for."""
        for entry in entries:
            if apply:
                self.search.apply(entry)
            at_seconds = self.now()
            self.log.append(entry, at_seconds)
            self.watcher.happened(entry, at_seconds)
            if isinstance(entry, TrialEvent):
                status = self.search.trials[entry.trial].status
                if status in ENDED:
                    self.states.drop(entry.trial)

    def _tick(self) -> None:
        now = self._clock()
        self.worker_seconds += self.pool.workers * (now - self._ticked)
        self._ticked = now
        self.watcher.tick(self)

    def _all_failed(self) -> bool:
        return 0 < self.search.started == self.search.counts[Status.FAILED]

    def _flush(self, *, final: bool = False) -> None:
        """States and the best model before the rows that speak of them.

        Raises:
            RunError: If the disk is full, or gone; what was on it stays whole.
        """
        try:
            self.states.flush()
            if self._best is not None:
                self._save_best(*self._best)
                self._best = None
            self.log.flush(final=final)
        except OSError as e:
            self._unwritable = True
            raise RunError(
                f"the run's folder cannot be written: {e.strerror}; make room there, then "
                f"`caviar resume` goes on from what is on the disk"
            ) from e

    def _close(self, status: str, reason: str) -> None:
        self._tick()
        self._happened(self.search.stop(reason))
        self.pool.close()
        if self._unwritable:
            return
        if status == "finished":
            self.states.trim()
        self._flush()
        details = EndDetails(dropped_reports=self.dropped, worker_seconds=self.worker_seconds)
        ended = SessionEnded(status=status, reason=reason, details=details)
        self._happened([ended], apply=True)
        try:
            self._happened(self._closing_events(), apply=True)
        finally:
            self._flush(final=True)
