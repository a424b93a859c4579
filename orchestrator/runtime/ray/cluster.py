"""Joining a Ray cluster, or starting one on this machine, and leaving it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator

import ray

from orchestrator.errors import InputError
from orchestrator.runtime.ray import internals

__all__ = ["connect", "count_processors", "describe_authentication", "disconnect"]

CONNECT_SECONDS = 5.0  #: for an address to answer

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
        with _silence_stderr():
            if ray.is_initialized():
                raise RuntimeError("this process has joined one already; leave it first")
            internals.confine_to_loopback(enabled=address is None)
            if address is None:
                internals.skip_monitors()
            ray.init(
                address=address or "local",
                num_cpus=None if address else cpus,
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        internals.silence_death_notices()
    except Exception as e:
        raise InputError(_describe_refusal(address, e)) from e
    logger.info("joined the Ray cluster at %s", address or "this machine")


def disconnect() -> None:
    """Leave the cluster; a local one that `connect` started ends with it."""
    ray.shutdown()
    logger.info("left the Ray cluster")


def count_processors() -> int:
    """The number of workers that the cluster has room for: one a processor, at least 1."""
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def describe_authentication() -> str:
    """How this process proves itself to the cluster: a frequent reason for a refusal."""
    mode = os.environ.get("RAY_AUTH_MODE", "not set")
    return f"RAY_AUTH_MODE is {mode}; it has to be the cluster's"


def _describe_refusal(address: str | None, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    needed = f"a running Ray cluster is needed at {address}" if address else "Ray could not start"
    way_out = (
        "start one with `ray start --head`, or leave `address` out"
        if address
        else '`pool="inline"` trains in this process, without Ray'
    )
    return f"{needed}: {first} ({describe_authentication()}); {way_out}"


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
