"""What README shows must work as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

import caviar
from pipelines.runs.new_spec import load_space_spec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_the_commands_run_one_after_the_other(tmp_path: Path, caviar: Any) -> None:
    commands = [line[2:] for block in blocks("console") for line in block.splitlines()]
    assert len(commands) >= 6
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "caviar"
        caviar(*words[1:])
    namespace: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block.replace("runs/", f"{tmp_path}/runs/"), namespace)


def test_the_spec_it_shows_is_one(tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    (tmp_path / "spec.yaml").write_text(block)
    spec = load_space_spec(tmp_path / "spec.yaml", seed=0)
    assert spec.search.pruning == "median"
    assert {"adam_beta1", "learning_rate"} <= set(spec.parameters().index)


def test_the_trainer_it_shows_trains(tmp_path: Path) -> None:
    (block,) = [b for b in blocks("python") if "class Ridge" in b]
    (tmp_path / "ridge.py").write_text(block)
    named = re.search(r"\(`(trainer: ridge:Ridge)`, `(space: .*)`\):$", README, flags=re.MULTILINE)
    assert named is not None
    (tmp_path / "spec.yaml").write_text("\n".join(named.groups()))
    run = caviar.search(
        "diabetes",
        out=tmp_path / "run",
        trials=20,
        pool="inline",
        spec=tmp_path / "spec.yaml",
        trust_trainer=True,
    )
    found = run.summary()
    assert found["failed"] == 0
    assert found["best"]["validation"]["mse"] < 0.8  # 1 is what guessing the mean gives


def test_every_file_it_links_to_is_there() -> None:
    for name in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / name).is_file(), name


def test_the_names_that_python_users_import_are_there() -> None:
    for name in re.findall(r"`caviar\.(\w+)`", README):
        assert name in caviar.__all__
    assert all(hasattr(caviar, name) for name in caviar.__all__)


def test_ray_accepts_the_cluster_file() -> None:
    written = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    prepared = prepare_config(written)
    validate_config(prepared)
    assert prepared["provider"]["type"] == "local"
    hosts = written["provider"]["worker_ips"]
    assert prepared["max_workers"] == written["min_workers"] == len(hosts)
    starts = written["head_start_ray_commands"] + written["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in s for s in starts if "ray start" in s)
