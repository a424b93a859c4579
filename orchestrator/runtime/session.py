"""The loop of a session: the clock's owner, which carries values between search, pool and log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    TrialMessage,
    TrialRetried,
)
from orchestrator.search.messages import Entry, Failure, Observation, Report, State
from orchestrator.search.search import Search
from orchestrator.search.trial import ENDED, Incumbent, Status
from orchestrator.store.checkpoints import CheckpointStore
from orchestrator.store.log import Log

__all__ = ["Session", "SessionResult", "Watcher"]

WAIT_SECONDS = 0.1  #: longest wait for a message before the clock and the stop flag are looked at
MAX_FAILURES_AT_START = 8  #: the run is given up when its first so many trials all have failed

logger = logging.getLogger("caviar.runtime.session")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """How a session ended."""

    status: str  #: finished | interrupted | failed
    reason: str
    seconds: float  #: duration of this session
    busy_seconds: float  #: time inside epochs, summed over all workers
    worker_seconds: float  #: time that workers were up, summed over all workers
    dropped: int  #: reports of attempts that had been given up

    @property
    def utilisation(self) -> float:
        """Share of the workers' time that was training."""
        return self.busy_seconds / self.worker_seconds if self.worker_seconds else 0.0


class Watcher(Protocol):
    """Follows a session and shows it, for example in the terminal."""

    def handle_entry(self, entry: Entry, at_seconds: float) -> None:
        """Handle a row that was added to the log."""

    def tick(self, session: Session) -> None:
        """Called about ten times a second."""

    def note(self, text: str) -> None:
        """Tell a person something; may be called from any thread."""

    def close(self) -> None:
        """The session is over, however it ended."""


class Session:
    """One driver's work on a run, from the first assignment to the last row.

    Args:
        search: Decides; the run's log has been applied to it.
        pool: Trains.
        log: Takes every entry down.
        checkpoints: Keeps the states of trials that may go on.
        budget: What the run may use in all, as `start` says.
        start: The session's first event.
        at_seconds: The run's clock when the session begins.
        expected_epochs: Epochs that a budget of trials will need, pruning included, or inf.
        watcher: Follows the session.
        save_best: Writes the model of a new incumbent.
        require_lock: Called before each flush; raises RunError if another process may write.
        closing_events: Called after the last assignment; the events it returns are logged before
            the session's end.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        *,
        search: Search,
        pool: Pool,
        log: Log,
        checkpoints: CheckpointStore,
        budget: Budget,
        start: SessionStarted,
        at_seconds: float,
        expected_epochs: float,
        watcher: Watcher,
        save_best: Callable[[Incumbent, State], None],
        require_lock: Callable[[], None],
        closing_events: Callable[[], Sequence[Event]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.search, self.pool, self.log, self.checkpoints = search, pool, log, checkpoints
        self.budget, self.start, self.watcher = budget, start, watcher
        self.expected_epochs = expected_epochs
        self.busy_seconds = self.worker_seconds = 0.0
        self.dropped = 0
        self.stopping = ""  #: reason to stop, set by a signal handler
        self._save_best, self._closing_events, self._clock = save_best, closing_events, clock
        self._require_lock = require_lock
        self._unsaved_best: tuple[Incumbent, State] | None = None
        self._started = self._ticked = clock()
        self._offset = at_seconds
        self._first_failure = ""
        self._unwritable = False

    def now(self) -> float:
        """Seconds since the run began; breaks between sessions do not count."""
        return self._offset + self._clock() - self._started

    def remaining_seconds(self) -> float:
        """Seconds until the deadline; infinite without one."""
        return remaining(self.budget.seconds, self.now())

    def run(self) -> SessionResult:
        """Train until the budget is used up, nothing is left to do, or a signal says stop."""
        logger.info("session starts: %s", self.start.reason)
        self.search.apply(self.start)
        self._record([self.start])
        self._record(self.search.stop("the last session was killed"))
        self._flush()  # from now on, readers of the folder see that the session runs
        self._ticked = self._clock()
        status, reason = "failed", "an error of the program"
        try:
            status, reason = self._train()
        finally:
            self.watcher.close()
            self._close(status, reason)
        logger.info("session ends: %s, %s", status, reason)
        return SessionResult(
            status=status,
            reason=reason,
            seconds=self.now() - self._offset,
            busy_seconds=self.busy_seconds,
            worker_seconds=self.worker_seconds,
            dropped=self.dropped,
        )

    def _train(self) -> tuple[str, str]:
        """The loop; returns the session's status and the reason of its end."""
        while True:
            if self.stopping:
                return "interrupted", self.stopping
            if exhausted := self._describe_exhausted_budget():
                self._handle(self.pool.drain())
                return "finished", exhausted
            self._assign()
            if not self.pool.busy() and self.pool.free():  # neither busy nor free: all starting
                return self._status_without_work()
            left = max(self.remaining_seconds(), 0.0)
            self._handle(self.pool.poll(min(WAIT_SECONDS, left), left=left))
            self._tick()
            failures = self.search.counts[Status.FAILED]
            if failures >= MAX_FAILURES_AT_START and self._all_failed():
                return "failed", f"every trial failed: {self._first_failure}"
            if self.log.due():
                self._flush()

    def _status_without_work(self) -> tuple[str, str]:
        if self._all_failed():
            return "failed", f"every trial failed: {self._first_failure}"
        if self.search.incumbent is None:
            return "failed", "no trial had a result: all diverged or failed"
        return "finished", "all trials have ended"

    def _describe_exhausted_budget(self) -> str:
        """Which limit of the budget is used up, in words; empty if none is."""
        if self.remaining_seconds() <= 0:
            return f"the time is up ({self.budget.seconds:g} s)"
        if self._epochs_used_up():
            return f"the epochs are used up ({self.budget.epochs:g})"
        return ""

    def _epochs_used_up(self) -> bool:
        return remaining(self.budget.epochs, self.search.epochs) <= 0

    # ------------------------------------------------------------------ handing out

    def _assign(self) -> None:
        """Give every free worker something to do."""
        while self.pool.free() > 0:
            events = self.search.suggest()
            self._record(events)
            if not events or not isinstance(events[-1], Assigning):
                return
            self._hand_out(events[-1])

    def _hand_out(self, event: Assigning) -> None:
        """Give an assignment to the pool, with the trial's last checkpoint there is."""
        assignment = self.search.make_assignment(event)
        self.pool.submit(assignment, self.checkpoints.get(assignment.trial))

    def deliver(self, message: TrialMessage) -> bool:
        """Send a message to the worker of its trial, which sends it back when it is carried out.

        Returns:
            False if no worker trains that attempt now; the message is dropped then. A message can
            still be lost, with its worker or because the assignment ends first.
        """
        return self.pool.deliver(message)

    # ------------------------------------------------------------------ taking in

    def _handle(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if isinstance(message, Report):
                self._handle_report(message)
            elif isinstance(message, Failure):
                self._handle_failure(message)
            elif self.search.accepts(message):
                self._apply_and_record([message])
            else:
                self.dropped += 1

    def _handle_report(self, report: Report) -> None:
        if self._epochs_used_up():
            return  # one epoch more than the budget: it counts as still in flight
        if not self.search.accepts(report):
            self.dropped += 1
            return
        state = report.state
        if state is not None:
            report = replace(report, state=None)
        if state is not None and report.last:  # the store has it before PAUSED is logged
            self.checkpoints.put(report.trial, Checkpoint(epoch=report.epoch, state=state))
        at_seconds = self.now()
        events = self.search.observe(report, at_seconds)
        assert events is not None  # the search accepts the report
        self.busy_seconds += report.seconds
        self._record([Observation(report=report, at_seconds=at_seconds), *events])
        best = self.search.incumbent
        if state is not None and best and (best.trial, best.epoch) == (report.trial, report.epoch):
            self._unsaved_best = best, state
        self._evict()

    def _evict(self) -> None:
        """Give up trials until the checkpoints fit into their budget."""
        while self.checkpoints.over_budget():
            events = self.search.evict(
                self.checkpoints, "the states of trials that wait need more than their budget"
            )
            if not events:
                return
            self._record(events)

    def _handle_failure(self, failure: Failure) -> None:
        self._first_failure = self._first_failure or failure.message
        events = self.search.fail(failure)
        if events is None:
            self.dropped += 1
            return
        logger.info("trial %d, attempt %d: %s", failure.trial, failure.attempt, events[-1].reason)
        self._record(events)
        if isinstance(events[-1], TrialRetried):
            self._hand_out(events[-1])

    # ------------------------------------------------------------------ writing down

    def _record(self, entries: Sequence[Entry]) -> None:
        """Log what was applied, and let go of checkpoints that no trial needs any more."""
        at_seconds = self.now()
        for entry in entries:
            self.log.append(entry, at_seconds)
        for entry in entries:
            self.watcher.handle_entry(entry, at_seconds)
            if isinstance(entry, TrialEvent) and self._has_ended(entry.trial):
                self.checkpoints.drop(entry.trial)

    def _has_ended(self, trial: int) -> bool:
        return self.search.trials[trial].status in ENDED

    def _tick(self) -> None:
        now = self._clock()
        self.worker_seconds += self.pool.workers * (now - self._ticked)
        self._ticked = now
        self.watcher.tick(self)

    def _all_failed(self) -> bool:
        return 0 < self.search.started == self.search.counts[Status.FAILED]

    def _flush(self, *, final: bool = False) -> None:
        """Write checkpoints and the best model, then the rows that speak of them.

        Raises:
            RunError: If the disk is full, or gone; what was on it stays whole. Also if the run's
                lock was lost.
        """
        begin = self._clock()
        self._require_lock()
        with self._writing():
            self.checkpoints.flush()
            if self._unsaved_best is not None:
                self._save_best(*self._unsaved_best)
                self._unsaved_best = None
            self.log.flush(final=final)
        logger.debug(
            "flush took %.3f s, %d epochs in all", self._clock() - begin, self.search.epochs
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn an OSError inside the block into a RunError, and write nothing more after it."""
        try:
            yield
        except OSError as e:
            self._unwritable = True
            logger.warning("the run's folder cannot be written: %s", e)
            raise RunError(
                f"the run's folder cannot be written: {e.strerror}; make room there, then "
                f"`caviar resume` goes on from what is on the disk"
            ) from e

    def _close(self, status: str, reason: str) -> None:
        self._tick()
        self._record(self.search.stop(reason))
        self.pool.close()
        if self._unwritable:
            return
        if status == "finished":
            self.checkpoints.trim()
        self._flush()
        with self._writing():
            closing = self._closing_events()
        self._apply_and_record(closing)
        details = EndDetails(dropped_reports=self.dropped, worker_seconds=self.worker_seconds)
        # The last entry: a run without it was killed, and the next session closes it.
        self._apply_and_record([SessionEnded(status=status, reason=reason, details=details)])
        self._flush(final=True)

    def _apply_and_record(self, events: Sequence[Event]) -> None:
        for event in events:
            self.search.apply(event)
        self._record(events)
