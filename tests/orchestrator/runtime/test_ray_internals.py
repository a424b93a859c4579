"""Ray's internals: what is used of them, and that Caviar works where they are not there."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.runtime.ray import internals

SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
TOYS = Path(__file__).parents[2] / "toys"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was reported yet, and what the functions change is put back."""
    monkeypatch.setattr(internals, "_reported", set())
    monkeypatch.delenv(SWITCH, raising=False)
    for module, name in (
        ("ray_constants", "ENABLE_RAY_CLUSTER"),
        ("worker", "print_to_stdstream"),
        ("worker", "_global_node"),
    ):
        found = importlib.import_module(f"ray._private.{module}")
        monkeypatch.setattr(found, name, getattr(found, name))
    node = importlib.import_module("ray._private.node").Node
    for name in ("start_log_monitor", "start_monitor"):
        monkeypatch.setattr(node, name, getattr(node, name))


@pytest.fixture(params=["missing", "changed"])
def without_internals(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A Ray that has no such modules, or whose names mean something else."""
    changed = SimpleNamespace(
        ENABLE_RAY_CLUSTER="yes",
        Node=SimpleNamespace(start_log_monitor=lambda self, head: None, start_monitor=3),
        print_to_stdstream=lambda data: None,
        _global_node=SimpleNamespace(raylet_socket_name=None),
    )
    before = repr(changed)
    found = None if request.param == "missing" else changed
    monkeypatch.setattr(internals, "_find", lambda module: found)
    yield
    assert repr(changed) == before  # what is not understood is not touched


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_this_version_of_ray_has_every_internal_that_is_used(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worker = importlib.import_module("ray._private.worker")
    place = Path.cwd()
    with caplog.at_level(logging.DEBUG, logger="caviar"):
        internals.confine_to_loopback(enabled=True)
        internals.skip_monitors()
        internals.silence_death_notices()
        internals.silence_death_notices()  # when Ray is started again
        with internals.job_without_folders() as job_config:
            assert job_config._runtime_env_has_working_dir()
            assert Path.cwd() == place
        monkeypatch.chdir(tmp_path)  # a short name: 107 bytes at most
        monkeypatch.setattr(worker, "_global_node", SimpleNamespace(raylet_socket_name="raylet"))
        assert not internals.is_node_alive()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("raylet")
            listening.listen()
            assert internals.is_node_alive()
    assert messages(caplog) == []
    assert importlib.import_module("ray._private.ray_constants").ENABLE_RAY_CLUSTER is False
    assert importlib.import_module("ray._private.node").Node.start_monitor(None) is None
    worker.print_to_stdstream({"is_err": True}, ignore_prefix=True)


def test_a_driver_that_joins_a_cluster_can_be_reached() -> None:
    internals.confine_to_loopback(enabled=False)
    assert importlib.import_module("ray._private.ray_constants").ENABLE_RAY_CLUSTER is True
    assert SWITCH not in os.environ


def test_without_the_internals_each_function_does_without_and_says_so_once(
    without_internals: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="caviar"):
        for _ in range(2):
            internals.confine_to_loopback(enabled=True)
            internals.skip_monitors()
            internals.silence_death_notices()
            assert internals.is_node_alive()
            with internals.job_without_folders() as job_config:
                assert job_config is None
                assert str(Path.cwd()) == "/"
    assert os.environ[SWITCH] == "0"
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert {record.name for record in caplog.records} == {"caviar.runtime.ray.internals"}
    expected = [
        "_private.ray_constants.ENABLE_RAY_CLUSTER",
        "_private.node.Node.start_log_monitor",
        "_private.node.Node.start_monitor",
        "_private.worker.print_to_stdstream",
        "_private.worker._global_node.raylet_socket_name",
        "job_config.JobConfig._runtime_env_has_working_dir",
    ]
    lines = messages(caplog)
    assert len(lines) == len(expected)
    for name, line in zip(expected, lines, strict=True):
        assert f"has no ray.{name} in the shape seen in {internals.SEEN_WITH}; " in line


PROGRAM = """
import logging, sys
from dataclasses import replace
logging.basicConfig(stream=sys.stdout, level=logging.WARNING)
from orchestrator.runtime.ray import internals
internals._find = lambda module: None
from orchestrator.runtime.ray.cluster import connect, disconnect
from orchestrator.runtime.ray.pool import RayPool
from test_pools import JOB, assignment, finished

connect(None, cpus=1)
pool = RayPool(replace(JOB, trainer="toy_trainers:Toy"), workers=1)
pool.submit(assignment(stop=3), None)
print("EPOCHS", [message.epoch for message in finished(pool, 1)])
pool.close()
disconnect()
"""


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_pool_trains_without_any_of_the_internals() -> None:
    path = os.pathsep.join([*sys.path, str(TOYS.parent / "contracts")])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "EPOCHS [1, 2, 3]" in done.stdout
    for name in ("ENABLE_RAY_CLUSTER", "start_log_monitor", "print_to_stdstream"):
        assert name in done.stdout
