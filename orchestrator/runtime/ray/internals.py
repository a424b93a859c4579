"""The only file that touches `ray._private`: what Ray has no public switch for.

Each function gives its reason. It first checks that the attribute exists in the shape that was seen
in Ray 2.60; if it does not, the function logs a warning, does without (what that costs stands in
the function), and the run goes on.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import ray

__all__ = [
    "SEEN_WITH",
    "confine_to_loopback",
    "forget_token",
    "is_node_alive",
    "job_without_folders",
    "silence_death_notices",
    "skip_monitors",
]

SEEN_WITH = "2.60"  #: the version of Ray whose internals this file was written against

logger = logging.getLogger("caviar.runtime.ray.internals")


def confine_to_loopback(*, enabled: bool) -> None:
    """Make a local Ray listen to the loopback address only, where other machines cannot connect.

    Ray has a switch for it on macOS and Windows only (ray-project/ray issue 18730), whose value it
    reads once, from the environment, when it is imported. Without the internal constant, the
    environment variable is set, for the processes that Ray starts; the driver itself may listen to
    all addresses.

    Args:
        enabled: False for a driver that joins a cluster, which other hosts must be able to reach.
    """
    constants = _find("ray._private.ray_constants")
    if isinstance(getattr(constants, "ENABLE_RAY_CLUSTER", None), bool):
        constants.ENABLE_RAY_CLUSTER = not enabled
        return
    _report_missing("ray_constants.ENABLE_RAY_CLUSTER", "Ray may listen to all addresses")
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0" if enabled else "1"


def skip_monitors() -> None:
    """Start a local Ray without two Python processes that nothing here listens to.

    One carries the workers' output to drivers, which asked for none (`log_to_driver`), the other
    would start hosts. They cost a second of the start and half a percent of two cores, which is
    also the cost of doing without this function. Ray has a switch for either, in the parameters of
    a node, but no way to it from `ray.init`.
    """
    node = getattr(_find("ray._private.node"), "Node", None)
    for name in ("start_log_monitor", "start_monitor"):
        if _has_parameters(getattr(node, name, None), ["self"]):
            setattr(node, name, _start_nothing)
        else:
            _report_missing(f"node.Node.{name}", "the start takes up to a second longer")


@contextlib.contextmanager
def job_without_folders() -> Iterator[Any]:
    """Keep the driver's folders from the workers' sys.path, for a `ray.init` inside the block.

    Ray puts the working directory and the folder of the driver's script first on the sys.path of
    every worker, unless the job brings a working directory of its own. A file there that has the
    name of a module that Ray or a trainer imports, such as cython.py, would then run in the
    workers. Without the internal method, the working directory is / while Ray starts, where only
    an administrator can write; the folder of the script is one that runs code anyway.

    Yields:
        The value for the argument `job_config` of `ray.init`.
    """
    config = getattr(_find("ray.job_config"), "JobConfig", None)
    method = "_runtime_env_has_working_dir"
    if config is None or not _has_parameters(getattr(config, method, None), ["self"]):
        _report_missing(f"JobConfig.{method}", "it starts in the folder /", module="ray.job_config")
        with contextlib.chdir("/"):
            yield None
        return
    yield type("JobConfigWithoutFolders", (config,), {method: lambda self: True})()


def silence_death_notices() -> None:
    """Stop Ray from printing a worker's death to standard output.

    Caviar reports a worker's death in its own words, and a caller who asked for JSON needs one
    object on standard output and nothing else. Ray has no switch for it. Without the internal
    function, Ray's lines may appear in the output.
    """
    worker = _find("ray._private.worker")
    function = getattr(worker, "print_to_stdstream", None)
    if _has_parameters(function, ["data", "ignore_prefix"]) or function is _print_nothing:
        worker.print_to_stdstream = _print_nothing
        return
    _report_missing("worker.print_to_stdstream", "Ray may print lines to standard output")


def forget_token() -> None:
    """Make Ray read its authentication token anew; the first one stays in its memory otherwise.

    A process that starts one cluster after another, or joins one later, would use an old token.
    Without the internal function it does so, and the second cluster refuses it.
    """
    loader: Any = getattr(_find("ray._raylet"), "AuthenticationTokenLoader", None)
    if hasattr(loader, "instance") and hasattr(loader, "reset_cache"):
        loader.instance().reset_cache()
    elif loader is not None:
        _report_missing("AuthenticationTokenLoader.reset_cache", "an old token may be used")


def is_node_alive() -> bool:
    """Whether the Ray node of this host answers at its socket.

    A driver that asks the object store of a dead node is ended by Ray without a message. Without
    the socket's name the node counts as alive: its death then shows 10 s later, when no worker is
    up any more, or Ray ends the driver and the run has to be resumed.
    """
    node = getattr(_find("ray._private.worker"), "_global_node", None)
    name = getattr(node, "raylet_socket_name", None)
    if not isinstance(name, str):
        _report_missing("worker._global_node.raylet_socket_name", "its death is noticed later")
        return True
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(name)
    except OSError:
        return False
    return True


def _start_nothing(self: Any) -> None:
    """Takes the place of a monitor's start; has its shape, so that Ray can be started again."""


def _print_nothing(*_: Any, **__: Any) -> None:
    """Takes the place of `print_to_stdstream`."""


def _find(module: str) -> Any:
    """An internal module of Ray, or None if this version has no such module."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _has_parameters(function: Callable[..., Any] | None, names: list[str]) -> bool:
    """Whether this is a function with exactly these parameters."""
    return inspect.isfunction(function) and list(inspect.signature(function).parameters) == names


_reported: set[str] = set()  # what was logged already: some functions are called each half second


def _report_missing(name: str, consequence: str, *, module: str = "ray._private") -> None:
    """Log once that this version of Ray lacks an internal name, and what follows from it."""
    if name in _reported:
        return
    _reported.add(name)
    logger.warning(
        "Ray %s has no %s.%s in the shape seen in %s; %s",
        getattr(ray, "__version__", "?"), module, name, SEEN_WITH, consequence,
    )  # fmt: skip
