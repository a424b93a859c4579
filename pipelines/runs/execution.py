"""The workers of a session, and the signals that end it."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from queue import SimpleQueue

from orchestrator.errors import SpecError
from orchestrator.quote import quote
from orchestrator.runtime.pool import EPOCH_TIMEOUT, STOP_SIGNALS, InlinePool, Pool
from orchestrator.runtime.session import Session
from orchestrator.runtime.trainer import Job
from orchestrator.runtime.worker import StoppedAtOnce
from orchestrator.search.budget import Budget
from pipelines.see.formatting import parse_duration

__all__ = [
    "ExecutionOptions",
    "Workers",
    "disturbed_by_ctrl_c_only",
    "ignore_repeated_signals",
    "make_budget",
    "parse_seconds",
    "require_at_least",
    "stopped_by_signals",
    "unwound_by_signals",
]


MAX_COUNT = 10**12  #: largest budget of trials or epochs; sums of several fit into 64 bits
MAX_WORKERS = 10_000  #: workers of one run, as many as benchmarks/dispatch.py simulates
CLOSE_SECONDS = 15.0  #: for Ray to end its start, at the end; it takes 5-6 s on a quiet machine


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionOptions:
    """Where a session's trials are trained; may differ from session to session.

    Raises:
        SpecError: If two of them exclude each other; the message names Python's arguments.
    """

    pool: str = "ray"  #: ray | inline
    workers: int | None = None  #: number of workers; None = one for each processor of the cluster
    address: str | None = None  #: a Ray cluster to join; None = start one on this machine
    epoch_timeout: float | None = None  #: seconds until a trial's first report; None = the pool's
    mirror: str | None = None  #: a folder or a URI that receives a copy of the run's folder

    def __post_init__(self) -> None:
        if self.pool not in ("ray", "inline"):
            raise SpecError(f'`pool` needs "ray" or "inline", got {quote(self.pool)}')
        for name in ("address", "mirror"):
            if not isinstance(getattr(self, name), str | PathLike | None):
                raise SpecError(f"`{name}` needs a text, got {quote(getattr(self, name))}")
        require_at_least(1, workers=self.workers)
        if self.pool != "inline":
            return
        if self.epoch_timeout is not None:
            raise SpecError('`epoch_timeout` needs workers that can be killed; take `pool="ray"`')
        if self.workers not in (None, 1):
            raise SpecError(
                f'`pool="inline"` has one worker, this process; got `workers={self.workers}`'
            )
        if self.address is not None:
            raise SpecError(
                '`pool="inline"` has no cluster; leave `address` out, or take `pool="ray"`'
            )


def make_budget(time: str | float | None, trials: int | None, epochs: int | None) -> Budget:
    """What a session may use, as a user writes it: "60s" or seconds, trials, epochs of all trials.

    Raises:
        SpecError: If a value cannot be read, or is too small; the message names its argument.
    """
    require_at_least(1, trials=trials, epochs=epochs)
    return Budget(seconds=parse_seconds(time, "time"), trials=trials, epochs=epochs)


def parse_seconds(value: str | float | None, argument: str) -> float | None:
    """The seconds of "60s", "10m" or "2h", or of a number of seconds; None stays None.

    Raises:
        SpecError: If it is none of these, or not above 0; the message names the argument.
    """
    return None if value is None else parse_duration(str(value), f"`{argument}`")


def require_at_least(least: int, **arguments: object) -> None:
    """Refuse what is no whole number, or is too small or too large; None is allowed.

    Raises:
        SpecError: Naming the argument and its value.
    """
    for name, value in arguments.items():
        if value is None:
            continue
        if type(value) is not int:
            raise SpecError(f"`{name}` needs a whole number, got {quote(value)}")
        most = MAX_WORKERS if name == "workers" else MAX_COUNT
        if value < least:
            raise SpecError(f"`{name}` needs at least {least}, got {quote(value)}")
        if value > most:
            raise SpecError(f"`{name}` needs at most {most:,}, got {quote(value)}")


class Workers:
    """Brings up the workers; Ray starts in a separate thread while the data is read.

    That thread stays until the end: Linux kills a child when the thread that forked it ends
    (PR_SET_PDEATHSIG, which Ray sets on its processes), not only when its process does.
    """

    def __init__(self, options: ExecutionOptions) -> None:
        self._options = options
        self._failed: Exception | None = None
        self._joined = False
        self._connected = threading.Event()
        self._again: SimpleQueue[bool] = SimpleQueue()  # start Ray once more, or leave
        if options.pool == "ray":
            threading.Thread(target=self._stay_connected, daemon=True).start()

    def _stay_connected(self) -> None:
        _prepare_environment(joining=self._options.address is not None)
        self._connect()
        while self._again.get():
            self._disconnect()
            self._connect()

    def _connect(self) -> None:
        from orchestrator.runtime.ray.cluster import connect  # half a second, and not needed inline

        try:
            connect(self._options.address, cpus=self._options.workers)
            self._joined = True
        except Exception as e:
            self._failed = e  # raised again where it is waited for
        self._connected.set()

    def _disconnect(self) -> None:
        from orchestrator.runtime.ray.cluster import disconnect

        disconnect()
        self._joined = False

    def revive(self) -> None:
        """Start the local Ray again after its processes have died.

        Raises:
            InputError: If it cannot be started.
        """
        self._connected.clear()
        self._again.put(True)
        self.wait()

    def wait(self) -> None:
        """Wait until Ray is there.

        Raises:
            InputError: If no cluster answers at the address.
        """
        if self._options.pool == "ray":
            self._connected.wait()
        if self._failed is not None:
            raise self._failed

    def pool(self, job: Job) -> Pool:
        """Make the pool that the options name."""
        if self._options.pool == "inline":
            return InlinePool(job)
        self.wait()
        from orchestrator.runtime.ray.pool import RayPool

        return RayPool(
            job,
            workers=self._options.workers,
            epoch_timeout=self._options.epoch_timeout or EPOCH_TIMEOUT,
            revive=None if self._options.address else self.revive,
        )

    def close(self) -> None:
        """Leave the cluster; a local one that was started here ends."""
        if self._options.pool == "ray":
            # A signal that has killed Ray's processes while they start makes it wait in vain. Those
            # that are left end with this process.
            self._connected.wait(CLOSE_SECONDS)
            if self._joined:
                self._disconnect()
        self._again.put(False)


def _prepare_environment(*, joining: bool) -> None:
    """Set what Ray reads from the environment when it is imported; the user's settings stay."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning of 2.60
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # under `uv run`, Ray would copy the working directory to the workers, which import from it
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    if not joining:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        for setting in ("RAY_enable_metrics_collection", "RAY_task_events_report_interval_ms"):
            os.environ.setdefault(setting, "0")  # for Ray's dashboard, which does not run
    token = Path(os.path.expanduser("~/.ray/auth_token"))  # noqa: PTH111 # Path's needs a home
    if joining and token.exists():
        # `ray start` turns token authentication on where it finds this file; a driver that is
        # given an address does not, and then waits in vain
        os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextlib.contextmanager
def stopped_by_signals(session: Session) -> Iterator[None]:
    """Stop the session cleanly at the first signal that ends a program; Ctrl-C again: at once."""

    def stop(number: int, _: object) -> None:
        if session.stopping and number == signal.SIGINT:
            raise StoppedAtOnce
        session.stopping = f"stopped by {signal.Signals(number).name}"

    with _handling_signals(stop):
        yield


@contextlib.contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Leave the block at a signal that ends a program, as at Ctrl-C, so that clean-up follows."""

    def leave(number: int, _: object) -> None:
        raise StoppedAtOnce

    with _handling_signals(leave):
        yield


@contextlib.contextmanager
def disturbed_by_ctrl_c_only() -> Iterator[None]:
    """Let clean-up end: a terminal that is closed sends SIGHUP twice, itself and by its shell."""

    def leave(number: int, _: object) -> None:
        if number == signal.SIGINT:
            raise StoppedAtOnce

    with _handling_signals(leave):
        yield


def ignore_repeated_signals() -> None:
    """Let the process print its last lines and exit with its own code after a session.

    The second SIGHUP of a closed terminal comes up to some tenths of a second after the first one.
    Python's end restores the default action of signals that have a handler, but not of ignored
    ones; they are ignored only then, because other processes would inherit it.
    """
    if threading.current_thread() is threading.main_thread():
        for number in set(STOP_SIGNALS) - {signal.SIGINT}:
            signal.signal(number, lambda *_: None)
            atexit.register(signal.signal, number, signal.SIG_IGN)


@contextlib.contextmanager
def _handling_signals(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handle the signals that end a session.

    A signal that is ignored stays so: `nohup` and the background of some shells ask for it.
    """
    is_main = threading.current_thread() is threading.main_thread()  # others get no signals
    before = {
        number: old
        for number in STOP_SIGNALS
        if is_main and (old := signal.getsignal(number)) is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
