"""Joining a Ray cluster, or starting one on this machine, and leaving it."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from orchestrator.errors import InputError
from orchestrator.quote import get_first_line
from orchestrator.runtime.ray import internals
from orchestrator.store.files import TEMPORARY_LENGTH, remove_leftovers, temporary_folder

__all__ = ["connect", "count_processors", "describe_authentication", "disconnect"]

CONNECT_SECONDS = 5.0  #: for an address to answer
#: Longest path of a local cluster's folder: its sockets have up to 66 characters more
#: (session_DATE_TIME_MICROSECONDS_PROCESS/sockets/plasma_store), and Linux allows 107 in all.
FOLDER_LENGTH = 40
REMOVE_SECONDS = 5.0  #: for the last processes of a local cluster to leave its folder

logger = logging.getLogger("caviar.runtime.ray.cluster")


def connect(address: str | None, *, cpus: int | None) -> None:
    """Join the cluster at an address, or start one on this machine.

    Args:
        address: `auto`, HOST:PORT, or None for a local cluster that ends with this process.
        cpus: The number of processors that a local cluster offers; None = all of the machine.

    Raises:
        InputError: If no cluster answers at the address, or none can be started.
    """
    if address and address != "auto":
        _check_reachable(address)
    try:
        with _silence_stderr(), internals.job_without_folders() as job_config:
            if ray.is_initialized():
                raise RuntimeError("this process has joined one already; leave it first")
            internals.confine_to_loopback(enabled=address is None)
            if address is None:
                _start(cpus, job_config)
            else:
                ray.init(
                    address=address,
                    job_config=job_config,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
        internals.silence_death_notices()
    except Exception as e:
        _local.clean_up()
        raise InputError(_describe_refusal(address, e)) from e
    logger.info("joined the Ray cluster at %s", address or "this machine")


def disconnect() -> None:
    """Leave the cluster; a local one that `connect` started ends with it."""
    ray.shutdown()
    _local.clean_up()
    logger.info("left the Ray cluster")


def _start(cpus: int | None, job_config: Any) -> None:
    """Start a cluster on this machine, and join it."""
    internals.skip_monitors()
    # Ray's processes inherit this: a terminal that is closed sends SIGHUP to them, too, and the
    # driver needs them until its session has ended. Ray does the same with SIGINT.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            job_config=job_config,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=str(_local.set_up()),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class _LocalCluster:
    """What a local cluster leaves outside of its processes: a folder, and a token in memory.

    By itself Ray leaves its sessions in a folder that all users share, with mode 0777, and writes
    its token to ~/.ray/auth_token, which every user may read. The folder of a driver that was
    killed is removed by the next one that starts a cluster.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._removing = contextlib.ExitStack()
        self._has_token = False

    def set_up(self) -> Path:
        """Make a new folder that only this user can enter, and a new token.

        Returns:
            A folder inside of it: Ray gives mode 0777 to the one that it gets.
        """
        parents = os.environ.get("RAY_TMPDIR", ""), tempfile.gettempdir(), "/tmp"  # noqa: S108 # short
        most = FOLDER_LENGTH - TEMPORARY_LENGTH - len("//s")
        parent = next(Path(p) for p in parents if 0 < len(p) <= most)
        remove_leftovers(parent)
        self._folder = self._removing.enter_context(temporary_folder(parent, mode=0o700))
        if not any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # as many as Ray's own
            self._has_token = True
            internals.forget_token()
        return self._folder / "s"

    def clean_up(self) -> None:
        """Remove the folder and the token, once the cluster's processes have ended."""
        if self._has_token:
            os.environ.pop("RAY_AUTH_TOKEN", None)
            internals.forget_token()
            self._has_token = False
        if self._folder is None:
            return
        deadline = time.monotonic() + REMOVE_SECONDS
        while self._folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(self._folder, ignore_errors=True)
            time.sleep(0.05 * self._folder.exists())
        self._removing.close()
        self._folder = None


_local = _LocalCluster()
atexit.register(_local.clean_up)  # where a signal cut the start short, `disconnect` is not called


def count_processors() -> int:
    """The number of workers that the cluster has room for: one a processor, at least 1."""
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def describe_authentication() -> str:
    """How this process proves itself to the cluster: a frequent reason for a refusal."""
    mode = os.environ.get("RAY_AUTH_MODE", "not set")
    return f"RAY_AUTH_MODE is {mode}; it has to be the cluster's"


def _describe_refusal(address: str | None, error: Exception) -> str:
    needed = f"a running Ray cluster is needed at {address}" if address else "Ray could not start"
    way_out = (
        "start one with `ray start --head`, or leave `address` out"
        if address
        else '`pool="inline"` trains in this process, without Ray'
    )
    return f"{needed}: {get_first_line(error)} ({describe_authentication()}); {way_out}"


def _check_reachable(address: str) -> None:
    """Fail at once where no process listens: Ray itself waits half a minute.

    Raises:
        InputError: If the address is malformed, or no process listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        number = int(port)
        socket.create_connection((host, number), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as e:
        raise InputError(
            f"`address` needs `auto` or HOST:PORT of a running Ray cluster, got {address!r}: {e}; "
            f"start one with `ray start --head`, or leave `address` out"
        ) from e


@contextlib.contextmanager
def _silence_stderr() -> Iterator[None]:
    """Discard what Ray's C++ side writes past sys.stderr, directly to the descriptor."""
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
