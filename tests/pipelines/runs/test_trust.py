"""Nothing that is read can make this program run code, or write outside its folder."""

from __future__ import annotations

import ast
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_runs import TOYS, searched, toy_spec

import orchestrator
from orchestrator.errors import SpecError
from pipelines.runs.trust import check_trust

CODE = """
import pathlib
pathlib.Path({marker!r}).touch()
from toy_trainers import Toy as Mine
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A spec of somebody else's, and the file its code would make."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", TOYS, prepend=os.pathsep)
    marker = tmp_path / "it ran"
    (tmp_path / "mine.py").write_text(CODE.format(marker=str(marker)))
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({"trainer": "mine:Mine", "space": {"floor": 0.5}}))
    return spec, marker


@pytest.mark.parametrize("command", ["search wine --pool inline --trials 2", "plan wine"])
def test_a_trainer_in_a_spec_runs_only_when_it_is_trusted(
    command: str, foreign: tuple[Path, Path], caviar: Any
) -> None:
    spec, marker = foreign
    told = caviar(*command.split(), "--spec", str(spec), code=2).stderr
    assert told.count("\n") == 1
    assert "mine:Mine" in told and "--trust-trainer" in told
    assert not marker.exists()
    caviar(*command.split(), "--spec", str(spec), "--trust-trainer")
    assert marker.exists()
    marker.unlink()
    caviar(*command.split(), "--spec", str(spec))  # once is enough


def test_a_run_made_here_is_trusted_and_one_from_elsewhere_is_not(
    foreign: tuple[Path, Path], tmp_path: Path, caviar: Any
) -> None:
    spec, marker = foreign
    out = tmp_path / "run"
    words = f"search wine --pool inline --trials 3 --spec {spec} --trust-trainer --out {out}"
    caviar(*words.split())
    caviar("resume", str(out), "--trials", "2", "--pool", "inline")
    caviar("replay", str(out))
    shutil.rmtree(tmp_path / "state")  # another person's machine
    marker.unlink()
    for command in (["resume", str(out), "--pool", "inline"], ["replay", str(out)],
                    ["repair", str(out)]):  # fmt: skip
        assert "--trust-trainer" in caviar(*command, code=2).stderr
    assert not marker.exists()
    caviar("replay", str(out), "--trust-trainer")
    assert marker.exists()


def test_a_spec_that_was_changed_is_asked_for_again(foreign: tuple[Path, Path]) -> None:
    spec, _ = foreign
    check_trust(spec, granted=True)
    check_trust(spec, granted=False)
    spec.write_text(spec.read_text() + "seed: 1\n")
    with pytest.raises(SpecError, match="--trust-trainer"):
        check_trust(spec, granted=False)


def test_a_home_that_cannot_be_written_only_means_to_type_it_again(
    foreign: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    check_trust(foreign[0], granted=True)
    with pytest.raises(SpecError):
        check_trust(foreign[0], granted=False)


def test_our_own_trainer_needs_no_trust(tmp_path: Path) -> None:
    check_trust(searched(tmp_path / "run", trials=2) / "spec.yaml", granted=False)


def test_nothing_read_is_unpickled_or_evaluated() -> None:
    root = Path(orchestrator.__file__).parents[1]
    for package in ("orchestrator", "trainers", "pipelines", "caviar"):
        for path in (root / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {"pickle", "cloudpickle", "marshal", "shelve", "dill"} & set(names), path
                if isinstance(node, ast.Call):
                    assert ast.unparse(node.func) not in {
                        "eval", "exec", "compile", "yaml.load", "yaml.unsafe_load",
                    }, f"{path}: {ast.unparse(node)}"  # fmt: skip
                    allow = [k for k in node.keywords if k.arg == "allow_pickle"]
                    assert all(ast.unparse(k.value) == "False" for k in allow), path


def test_names_in_a_run_cannot_lead_out_of_its_folder(tmp_path: Path, caviar: Any) -> None:
    spec = toy_spec(tmp_path, "Toy", space={"../../escaped": {"linear": [0, 1]}})
    told = caviar("search", "wine", "--spec", str(spec), "--trust-trainer", "--pool", "inline",
                  code=2).stderr  # fmt: skip
    assert "a name needs letters, digits and _" in told
