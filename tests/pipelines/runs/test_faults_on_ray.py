"""Ray's processes, killed, hung or too small: the run ends, and nothing is lost or repeated."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_faults import started, wait_for_rows
from test_runs import TOYS, check_tables, toy_spec

from orchestrator.store.files import TEMPORARIES
from pipelines.runs.repair import replay_run
from pipelines.see.run import load_run
from pipelines.see.summary import summarize_run

pytestmark = [pytest.mark.faults, pytest.mark.ray, pytest.mark.timeout(180)]


def below(process: subprocess.Popen[str], name: str) -> list[int]:
    """Processes of this name that the command has started, or those have."""
    children, found = [process.pid], []
    while children:
        told = subprocess.run(["pgrep", "-P", str(children.pop())], capture_output=True, text=True)
        for pid in map(int, told.stdout.split()):
            children.append(pid)
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if name in words:
                found.append(pid)
    return found


def ends_well(process: subprocess.Popen[str], folder: Path, seconds: float = 120) -> None:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, out + err
    assert err == ""
    check_tables(folder)
    assert load_run(folder).status == "finished"
    assert replay_run(folder).difference == ""


def test_workers_killed_in_a_row_cost_no_row(
    tmp_path: Path, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(TOYS)
    folder = tmp_path / "run"
    search = {"retries": 3 * kills, "method": "asha"}
    spec = toy_spec(tmp_path, "Slow", search=search)
    words = f"search wine --spec {spec} --trust-trainer --trials {20 * kills} --workers 2"
    with started(*words.split(), "--out", str(folder), PYTHONPATH=TOYS) as process:
        for kill in range(kills):
            wait_for_rows(folder, 12 * (kill + 1), process)
            for pid in below(process, "ray::TrainingActor")[: 1 + kill % 2]:
                os.kill(pid, signal.SIGKILL)
        ends_well(process, folder)
    run = load_run(folder)
    assert (run.events["kind"] == "retry").sum() >= kills
    assert not (run.trials["status"] == "FAILED").any()


def test_when_the_local_raylet_dies_ray_is_started_again_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(TOYS)
    folder = tmp_path / "run"
    spec = toy_spec(tmp_path, "Slow", search={"method": "asha"})
    words = f"search wine --spec {spec} --trust-trainer --trials 500 --workers 2 --out {folder}"
    with started(*words.split(), PYTHONPATH=TOYS) as process:  # workers outlive it by 4-8 s
        wait_for_rows(folder, 20, process)
        (raylet,) = below(process, "/raylet/raylet")[:1]
        os.kill(raylet, signal.SIGKILL)
        ends_well(process, folder)
    assert (load_run(folder).events["kind"] == "retry").any()


Foreign = tuple[str, Callable[[str], list[int]]]


@pytest.fixture
def foreign(request: pytest.FixtureRequest) -> Iterator[Foreign]:
    """The address of a cluster that somebody else has started, and its processes by name."""
    place = Path(tempfile.mkdtemp(prefix="cr-", dir="/tmp"))  # short: sockets lie below it
    words = ["start", "--head", "--port=6399", "--num-cpus=2", "--include-dashboard=false",
             "--disable-usage-stats", f"--temp-dir={place}",
             *getattr(request, "param", [])]  # fmt: skip
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": TOYS}
    command = [Path(sys.executable).with_name("ray"), *words]
    subprocess.run(command, check=True, capture_output=True, env=environment)

    def named(name: str) -> list[int]:
        told = subprocess.run(["pgrep", "-f", f"{name}.*{place}"], capture_output=True, text=True)
        return [int(pid) for pid in told.stdout.split()]

    yield "127.0.0.1:6399", named
    for pid in named(""):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(place, ignore_errors=True)


def test_on_a_cluster_that_is_not_ours_a_dead_raylet_is_said_with_the_line_to_resume(
    foreign: Foreign, tmp_path: Path
) -> None:
    address, named = foreign
    folder = tmp_path / "run"
    spec = toy_spec(tmp_path, "Slow", search={"method": "asha"})
    words = f"search wine --spec {spec} --trust-trainer --trials 5000 --address {address}"
    environment = {"PYTHONPATH": TOYS, "RAY_AUTH_MODE": "disabled"}
    with started(*words.split(), "--out", str(folder), **environment) as process:
        wait_for_rows(folder, 20, process)
        for pid in named("raylet/raylet"):
            os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert err.count("\n") == 1
    assert f"`caviar resume {folder}` goes on" in err
    check_tables(folder)


SMALL = pytest.mark.parametrize("foreign", [["--object-store-memory=80000000"]], indirect=True)


@SMALL
def test_states_that_the_object_store_has_no_room_for_hold_nobody_up(
    foreign: Foreign, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    spec = toy_spec(tmp_path, "Heavy", search={"method": "asha"})  # 30 MB each
    words = f"search wine --spec {spec} --trust-trainer --trials 9 --address {foreign[0]}"
    environment = {"PYTHONPATH": TOYS, "RAY_AUTH_MODE": "disabled"}
    with started(*words.split(), "--out", str(folder), **environment) as process:
        ends_well(process, folder)


@SMALL
def test_data_that_the_object_store_has_no_room_for_is_trained_on(
    foreign: Foreign, tmp_path: Path
) -> None:
    folder, rng = tmp_path / "run", np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((400_000, 70), dtype=np.float32)).rename(columns=str)
    frame.assign(y=rng.integers(2, size=len(frame))).to_parquet(tmp_path / "large.parquet")
    words = f"search {tmp_path}/large.parquet --target y --trials 4 --address {foreign[0]}"
    spec = toy_spec(tmp_path, "Toy", search={"method": "asha"})
    environment = {"PYTHONPATH": TOYS, "RAY_AUTH_MODE": "disabled"}
    more = ["--spec", str(spec), "--trust-trainer", "--out", str(folder)]
    with started(*words.split(), *more, **environment) as process:
        ends_well(process, folder)


def test_a_worker_that_hangs_is_killed_and_its_trial_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    space = {"floor": {"linear": [0, 1]}, "hangs_in": 1, "marker": str(tmp_path / "hung")}
    spec = toy_spec(tmp_path, "Hanging", space=space, search={"method": "random"})
    words = f"search wine --spec {spec} --trust-trainer --trials 6 --workers 2 --epoch-timeout 3s"
    with started(*words.split(), "--out", str(folder), PYTHONPATH=TOYS) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), out + err
    check_tables(folder)
    run = load_run(folder)
    assert list(run.trials["status"]) == ["COMPLETED"] * 6
    assert run.events["reason"].str.contains("was silent for 3 s and was killed").any()


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_on_ray_killed_workers_and_a_killed_driver_cost_no_row(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    spec = toy_spec(tmp_path, "Slow")
    words = (
        f"search wine --spec {spec} --trust-trainer --trials 60 --workers 2 --out {folder}".split()
    )
    with started(*words, PYTHONPATH=TOYS) as process:
        wait_for_rows(folder, 10, process)
        workers = subprocess.run(
            ["pgrep", "-f", "ray::TrainingActor"], capture_output=True, text=True
        )
        os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
        for rows in range(20, 500, 10):
            wait_for_rows(folder, rows, process)
            if (load_run(folder).events["kind"] == "retry").any():
                break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert (load_run(folder).events["kind"] == "retry").any()
    assert load_run(folder).status == "killed"
    before = load_run(folder).epochs[["trial", "epoch"]]
    with started("resume", str(folder), PYTHONPATH=TOYS) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert err == ""
    check_tables(folder)
    run = load_run(folder)
    assert 0 < summarize_run(run)["utilisation"] <= 1
    assert len(run.trials) == 60
    pd.testing.assert_frame_equal(run.epochs[["trial", "epoch"]].head(len(before)), before)


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_on_ray_a_config_that_kills_its_worker_fails_after_its_retries(tmp_path: Path) -> None:
    space = {"floor": {"linear": [0, 1]}, "deadly": {"choice": [False, False, False, True]}}
    given = [{"floor": 0.5, "deadly": True}]
    search = {"initial_configs": given, "retries": 1, "sampler": "random"}
    spec = toy_spec(tmp_path, "KillsItsWorker", space=space, search=search)
    folder = tmp_path / "run"
    words = f"search wine --spec {spec} --trials 4 --workers 1 --out {folder} --json".split()
    with started(*words, "--trust-trainer", PYTHONPATH=TOYS) as process:
        out, err = process.communicate(timeout=150)
    assert (process.returncode, err) == (0, ""), out + err
    assert json.loads(out)["failed"] >= 1  # and nothing else on standard output
    check_tables(folder)
    first = load_run(folder).trials.iloc[0]
    assert (first["status"], first["attempts"]) == ("FAILED", 2)
    assert "died" in first["reason"]


def alive(pids: list[int]) -> list[str]:
    """The commands of those processes that still run; a process that has ended may be a zombie."""
    commands = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if command := Path(f"/proc/{pid}/cmdline").read_bytes():
                commands.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return commands


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_on_ray_a_signal_to_the_group_stops_cleanly_and_leaves_nothing(
    number: signal.Signals, tmp_path: Path
) -> None:
    folder, place = tmp_path / "run", Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    words = f"search digits --time 60s --workers 2 --out {folder}".split()
    with started(*words, RAY_TMPDIR=str(place), HOME=str(place)) as process:
        wait_for_rows(folder, 5, process)
        pids = below(process, "")
        (session,) = [p for p in place.iterdir() if p.match(TEMPORARIES)]
        assert session.stat().st_mode & 0o777 == 0o700
        os.killpg(process.pid, number)  # as a terminal does: to the whole group
        if number is signal.SIGHUP:
            time.sleep(0.3)
            process.send_signal(number)  # a shell sends it once more
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert err == ""
    assert f"caviar resume {folder}" in out
    check_tables(folder)
    assert load_run(folder).status == "interrupted"
    assert alive(pids) == []
    assert list(place.iterdir()) == []  # no session of Ray, no token
    place.rmdir()


def test_the_folder_of_a_driver_that_was_killed_is_removed_by_the_next_search(
    tmp_path: Path,
) -> None:
    place = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    others = place / "ray-somebody"
    others.mkdir()
    words = "search digits --workers 1 --total-epochs".split()
    with started(*words, "1000", "--out", str(tmp_path / "a"), RAY_TMPDIR=str(place)) as process:
        wait_for_rows(tmp_path / "a", 5, process)
        pids = below(process, "")
        process.kill()
    deadline = time.monotonic() + 30
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(list(place.glob(TEMPORARIES))) == 1
    with started(*words, "5", "--out", str(tmp_path / "b"), RAY_TMPDIR=str(place)) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert list(place.iterdir()) == [others]
    shutil.rmtree(place)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_ray_starts_leaves_no_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    place = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    words = f"search digits --time 60s --workers 2 --out {tmp_path / 'run'}".split()
    with started(*words, RAY_TMPDIR=str(place)) as process:
        deadline = time.monotonic() + 60
        while not (pids := below(process, "gcs_server")) and time.monotonic() < deadline:
            time.sleep(0.05)
        pids = below(process, "")
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")
    assert alive(pids) == []
    assert list(place.iterdir()) == []
    place.rmdir()


def listening(pids: list[int]) -> set[str]:
    """The addresses at which these processes listen, in the kernel's hexadecimal."""
    own = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                own.add(str(descriptor.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, address, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in own:
                found.add(address.split(":")[0])
    return found


def environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_a_local_run_keeps_to_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with started(*f"search wine --time 30s --workers 2 --out {folder}".split()) as process:
        wait_for_rows(folder, 5, process)
        pids = below(process, "")
        found = listening([process.pid, *pids])
        (teller,) = below(process, "/dashboard.py")  # Ray's makers, how it is used
        assert b"RAY_USAGE_STATS_ENABLED=0" in environment(teller)
    loopback = {"0100007F", "0" * 24 + "01000000", "0" * 16 + "FFFF0000" + "0100007F"}
    assert found
    assert found <= loopback
