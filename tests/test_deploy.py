"""What is deployed fits the project: versions, words, and a token wherever there is a network."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer.main
import yaml

from pipelines.cli import app

ROOT = Path(__file__).parents[1]
RAY = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def manifest() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kuberay.yaml").read_text())
    return {d["kind"]: d for d in documents}


def test_the_job_runs_a_command_that_exists() -> None:
    program, name, *words = shlex.split(manifest()["RayJob"]["spec"]["entrypoint"])
    assert program == "caviar"
    command = typer.main.get_command(app).commands[name]
    parsed = command.make_context(name, words).params
    assert parsed["address"] == "auto"
    assert str(parsed["out"]).startswith("/runs/")


def test_every_container_has_the_projects_image_and_its_version_of_ray() -> None:
    assert RAY is not None
    cluster = manifest()["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == RAY[1]
    assert f"FROM rayproject/ray:{RAY[1]}-py311\n" in (ROOT / "deploy" / "Dockerfile").read_text()
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1


def test_the_runs_folder_outlives_the_cluster() -> None:
    found = manifest()
    head = found["RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (volume,) = head["volumes"]
    claim = found["PersistentVolumeClaim"]["metadata"]["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim
    assert head["containers"][0]["volumeMounts"] == [{"name": volume["name"], "mountPath": "/runs"}]


def test_a_token_is_asked_for_wherever_more_than_this_machine_is_involved() -> None:
    assert manifest()["RayJob"]["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    hosts = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    for group in ("head", "worker"):
        start = hosts[f"{group}_start_ray_commands"][-1]
        assert "RAY_AUTH_MODE=token" in start
        assert "dashboard-host" not in start  # Ray's default: loopback alone


def test_no_package_is_left_out_of_what_a_cluster_gets() -> None:
    """A pattern without a slash at its front leaves out every folder of that name."""
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    packages = ("orchestrator", "trainers", "pipelines", "caviar")
    folders = {p.name for name in packages for p in (ROOT / name).rglob("*") if p.is_dir()}
    assert folders.isdisjoint(cluster["rsync_exclude"])
