"""Several real hosts on this machine: `ray up cluster.yaml`, a search over all, hosts that fail.

A host is a set of namespaces with its own address, files, processes and sshd (hosts.sh); the whole
takes two to three minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from orchestrator.errors import RunError
from pipelines.data.model import load_model
from pipelines.see.run import RunTables, load_run
from pipelines.see.summary import summarize_run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOKEN = "RAY_AUTH_MODE=token"


def why_not() -> str:
    """What this machine lacks; empty if nothing."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    missing = [c for c in ("ip", "ssh", "rsync", "unshare", "nsenter") if not shutil.which(c)]
    if not Path("/usr/sbin/sshd").exists():
        missing.append("sshd")
    if missing:
        return f"needs {', '.join(missing)}: tests/cluster/hosts.sh install"
    made = subprocess.run(["ip", "netns", "add", "caviar-try"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", "caviar-try"], capture_output=True)
    return f"network namespaces cannot be made: {made.stderr.strip()}" if made.returncode else ""


class Hosts:
    """Three of them, h1 to h3, and this machine as the laptop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "HOSTS_DIR": str(folder / "lab"),
            "HOSTS_PY": sys.executable,
            "HOSTS_HIDE": str(ROOT),
            "HOSTS_SHOW": f"{sys.prefix}:{sys.base_prefix}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "auth_token"),
        }

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [str(HERE / "hosts.sh"), *words], env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"hosts.sh {' '.join(words)}: {done.stderr}"
        return done.stdout

    def home(self, host: str) -> Path:
        """Its home folder, seen from outside."""
        return self.folder / "lab" / host / "home"

    def start(self, host: str, command: str) -> subprocess.Popen[str]:
        words = [str(HERE / "hosts.sh"), "exec", host, "bash", "-lc", command]
        own = {k: v for k, v in self.environment.items() if not k.startswith("RAY_")}
        return subprocess.Popen(
            words, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if told := why_not():
        pytest.skip(told)  # hosts are namespaces: they need root and a few Debian packages
    folder = Path("/tmp/caviar-hosts")  # short: Ray's sockets lie below it
    lab = Hosts(folder)
    if folder.exists():
        lab("down")
        shutil.rmtree(folder)
    folder.mkdir()
    (folder / "auth_token").write_text("0123456789abcdef" * 4)
    try:
        lab("up", "3")
        for host in ("h1", "h2", "h3"):
            with (lab.home(host) / ".bashrc").open("a") as file:
                file.write("export PYTHONPATH=/root/caviar\n")
        ray(lab, "up", "-y", "--no-config-cache", str(cluster_file(lab)))
        yield lab
    finally:
        lab("down")
        shutil.rmtree(folder, ignore_errors=True)
        for left in Path("/tmp/ray").glob("cluster-caviar.*"):
            left.unlink()


def cluster_file(lab: Hosts) -> Path:
    """The project's cluster.yaml, its marked places filled in; what it installs is there already.

    Its hosts share this machine's two processors and have no registry to install from.
    """
    content = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    content["provider"] |= {"head_ip": "10.77.0.11", "worker_ips": ["10.77.0.12", "10.77.0.13"]}
    content["auth"] = {"ssh_user": "root", "ssh_private_key": str(lab.folder / "lab" / "key")}
    content["file_mounts"] = {
        "/root/caviar": str(ROOT), "~/.ray/auth_token": str(lab.folder / "auth_token")
    }  # fmt: skip
    content["setup_commands"] = []
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        content[key] = [
            command.replace("~/caviar/.venv/bin/ray", "ray").replace(
                "--disable-usage-stats",
                "--disable-usage-stats --num-cpus=1 --object-store-memory=500000000",
            )
            for command in content[key]
        ]
    path = lab.folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def ray(lab: Hosts, *words: str) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ray")), *words],
        env=lab.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (
        f"ray {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    )
    return done.stdout


def synthetic(path: Path) -> None:
    """As large as MNIST: 60,000 rows of 784 bytes, ten classes that can be learnt."""
    rng = np.random.default_rng(0)
    y = rng.integers(10, size=60_000).astype(np.uint8)
    centres = rng.integers(0, 256, size=(10, 784))
    x = (centres[y] + rng.normal(0, 200, size=(60_000, 784))).clip(0, 255).astype(np.uint8)
    np.savez(path, X=x, y=y)


SPEC = """
max_epochs: 9
space:
  learning_rate: {log: [1e-3, 1e-1]}
  units: {int_log2: [16, 64], per: layers}
  layers: 1
  batch_size: 512
search: {method: asha}
"""


def test_a_search_over_three_hosts_outlives_their_faults(hosts: Hosts) -> None:
    home = hosts.home("h1")
    synthetic(home / "data.npz")
    (home / "spec.yaml").write_text(SPEC)
    process = hosts.start(
        "h1",
        f"cd ~/caviar && {TOKEN} python -m pipelines.cli search ~/data.npz --spec ~/spec.yaml "
        "--address auto --total-epochs 400 --epoch-timeout 60s --out ~/run",
    )
    run = home / "run"

    def until(what: str, true: Callable[[RunTables], Any], seconds: float = 90) -> RunTables:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if true(found := load_run(run)):
                    return found
            except (RunError, KeyError):
                pass
            time.sleep(0.2)
        out, err = process.communicate() if process.poll() is not None else ("", "still running")
        raise AssertionError(f"{what} never came: {out[-1500:]}\n{err[-1500:]}")

    until("work on three hosts", lambda r: r.epochs["worker"].nunique() == 3)
    hosts("slow", "h2", "20")
    rows = len(load_run(run).epochs)
    until("a slow host's epochs", lambda r: r.epochs["worker"][rows:].nunique() == 3)
    hosts("heal", "h2")

    retries = int((load_run(run).events["kind"] == "retry").sum())
    hosts("kill", "h3")
    until(
        "a retry of the dead host's work", lambda r: (r.events["kind"] == "retry").sum() > retries
    )
    hosts("boot", "h3")

    retries = int((load_run(run).events["kind"] == "retry").sum())
    hosts("cut", "h2")
    cut_off = time.monotonic()
    until(
        "a retry of the lost host's work", lambda r: (r.events["kind"] == "retry").sum() > retries
    )
    assert time.monotonic() - cut_off < 30  # not 65, as without cluster.yaml's settings
    hosts("heal", "h2")

    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, f"{out[-3000:]}\n{err[-3000:]}"
    found = load_run(run)
    assert found.status == "finished"
    assert len(found.epochs) == 400
    assert not found.epochs.duplicated(["trial", "epoch"]).any()
    for _, told in found.epochs.groupby("trial"):
        assert list(told["epoch"]) == list(range(1, len(told) + 1))
        assert told["attempt"].is_monotonic_increasing  # nothing late of an attempt that was lost
    assert "RUNNING" not in set(found.trials["status"])
    assert "FAILED" not in set(found.trials["status"])
    assert 0 < summarize_run(found)["utilisation"] <= 1  # of the workers as they came and went
    model = load_model(run / "best")
    assert model.trial in set(found.trials["trial"])
