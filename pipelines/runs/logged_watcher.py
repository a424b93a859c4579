"""Python's log of a session: each entry and note, in addition to the watcher that a person sees."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from orchestrator.runtime.session import Session, Watcher
from orchestrator.search.events import Event, Kind, TrialEvent
from orchestrator.search.messages import Observation

__all__ = ["LoggedWatcher"]

logger = logging.getLogger("caviar.runs.logged_watcher")
#: Events of level info; the session itself logs its start, its end and failures.
_NOTABLE = {Kind.ZOOM, Kind.DIVERGE, Kind.TEST}


class LoggedWatcher:
    """Writes each entry and note of a session to the logger, and passes them to another watcher.

    This is the one way from a session, and from the thread of its mirror, to what a person sees. A
    watcher that raises an error, because its terminal is closed or its disk is full, is not called
    again; training goes on.
    """

    def __init__(self, watcher: Watcher | None) -> None:
        self._watcher = watcher

    def log_notes(self, notes: tuple[str, ...]) -> None:
        """Log what a person should know about the data and the spec."""
        for note in notes:
            logger.warning("%s", note)

    def handle_entry(self, entry: Event | Observation, at_seconds: float) -> None:
        """Log an event (info, or debug for a trial's ordinary moves) or a report (debug)."""
        if logger.isEnabledFor(logging.INFO):
            _log_entry(entry, at_seconds)
        self._show(lambda watcher: watcher.handle_entry(entry, at_seconds))

    def tick(self, session: Session) -> None:
        """Pass the tick to the other watcher."""
        self._show(lambda watcher: watcher.tick(session))

    def note(self, text: str) -> None:
        """Log a warning, also from another thread."""
        logger.warning("%s", text)
        self._show(lambda watcher: watcher.note(text))

    def close(self) -> None:
        """Close the other watcher."""
        self._show(lambda watcher: watcher.close())

    def _show(self, call: Callable[[Watcher], None]) -> None:
        """Call the other watcher, if there is one that works."""
        watcher = self._watcher
        if watcher is None:
            return
        try:
            call(watcher)
        except (Exception, SystemExit) as e:  # rich leaves by SystemExit when a pipe closes
            self._watcher = None
            logger.warning("the progress is no longer shown: %s: %s", type(e).__name__, e)
            with contextlib.suppress(Exception, SystemExit):
                watcher.close()


def _log_entry(entry: Event | Observation, at_seconds: float) -> None:
    if isinstance(entry, Observation):
        r = entry.report
        logger.debug(
            "%.3f s: worker %s: trial %s, epoch %s in %.3f s",
            at_seconds, r.worker, r.trial, r.epoch, r.seconds,
        )  # fmt: skip
        return
    level = logging.INFO if entry.kind in _NOTABLE else logging.DEBUG
    subject = f"trial {entry.trial}: " if isinstance(entry, TrialEvent) else ""
    logger.log(level, "%.3f s: %s%s: %s", at_seconds, subject, entry.kind.value, entry.reason)
