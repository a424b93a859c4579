"""The workers of a session, and the signals that end it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from orchestrator.runtime.pool import EPOCH_TIMEOUT, InlinePool, Pool
from orchestrator.runtime.session import Session
from orchestrator.runtime.trainer import Job

__all__ = ["ExecutionOptions", "Workers", "stopped_by_signals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionOptions:
    """Where a session's trials are trained; may differ from session to session."""

    pool: str = "ray"  #: ray | inline
    workers: int | None = None  #: one for each processor of the cluster, unless given
    address: str | None = None  #: of a Ray cluster; None = one of our own, on this machine
    epoch_timeout: float = EPOCH_TIMEOUT  #: seconds until a trial's first report
    mirror: str | None = None  #: a second place for the run's folder: a folder or a URI


class Workers:
    """Brings up the workers; Ray starts in a thread of its own while the data is read.

    That thread stays until the end: Linux kills a child when the thread that forked it ends
    (PR_SET_PDEATHSIG, which Ray sets on its processes), not only when its process does.
    """

    def __init__(self, crew: ExecutionOptions) -> None:
        self._crew = crew
        self._failed: Exception | None = None
        self._joined = False
        self._connected = threading.Event()
        self._again: SimpleQueue[bool] = SimpleQueue()  # start Ray once more, or leave
        if crew.pool == "ray":
            threading.Thread(target=self._stay_connected, daemon=True).start()

    def _stay_connected(self) -> None:
        _prepare_environment(joining=self._crew.address is not None)
        self._connect()
        while self._again.get():
            self._disconnect()
            self._connect()

    def _connect(self) -> None:
        from orchestrator.runtime.ray.cluster import connect  # half a second, and not needed inline

        try:
            connect(self._crew.address, cpus=self._crew.workers)
            self._joined = True
        except Exception as e:
            self._failed = e  # raised again where it is waited for
        self._connected.set()

    def _disconnect(self) -> None:
        from orchestrator.runtime.ray.cluster import disconnect

        disconnect()
        self._joined = False

    def revive(self) -> None:
        """Start a Ray of our own again, whose processes have died.

        Raises:
            InputError: If it cannot be started.
        """
        self._connected.clear()
        self._again.put(True)
        self.wait()

    def wait(self) -> None:
        """Until Ray is there.

        Raises:
            InputError: If nobody answers at the address.
        """
        if self._crew.pool == "ray":
            self._connected.wait()
        if self._failed is not None:
            raise self._failed

    def pool(self, job: Job) -> Pool:
        """The pool the user asked for."""
        if self._crew.pool == "inline":
            return InlinePool(job)
        self.wait()
        from orchestrator.runtime.ray.pool import RayPool

        return RayPool(
            job,
            workers=self._crew.workers,
            epoch_timeout=self._crew.epoch_timeout,
            revive=None if self._crew.address else self.revive,
        )

    def close(self) -> None:
        """Leave the cluster, and end it if it was ours."""
        if self._crew.pool == "ray":
            self._connected.wait()
            if self._joined:
                self._disconnect()
        self._again.put(False)


def _prepare_environment(*, joining: bool) -> None:
    """What Ray reads from the environment when it is imported; what the user has set stays."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning of 2.60
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if not joining:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        for figures in ("RAY_enable_metrics_collection", "RAY_task_events_report_interval_ms"):
            os.environ.setdefault(figures, "0")  # for Ray's dashboard, which does not run
    if joining and (Path.home() / ".ray" / "auth_token").exists():
        # `ray start` turns token authentication on where it finds this file; a driver that is
        # given an address does not, and then waits in vain
        os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextlib.contextmanager
def stopped_by_signals(session: Session) -> Iterator[None]:
    """Ctrl-C or SIGTERM once: stop cleanly, keep everything. Ctrl-C twice: at once."""

    def stop(number: int, _: object) -> None:
        if session.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        session.stopping = f"stopped by {signal.Signals(number).name}"

    mine = threading.current_thread() is threading.main_thread()  # others get no signals
    numbers = (signal.SIGINT, signal.SIGTERM) if mine else ()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
