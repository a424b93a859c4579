"""Content of a stranger that fits its form and not its purpose: one line, and no hang."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from hostile import renew_digests
from safetensors.numpy import load_file, save_file
from test_bad_input import typed
from test_runs import searched

from orchestrator.errors import DataError, RunError, SpecError
from orchestrator.runtime.find_trainer import MAX_MODULES, find_trainer_code
from orchestrator.store.checkpoints import CheckpointStore
from orchestrator.store.files import remove_folder
from pipelines.cli import main
from pipelines.data.datasets import read_table
from pipelines.data.model import load_model
from pipelines.runs import trust


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("whole") / "run", trials=4)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


# ---------------------------------------------------------------------- the saved model


def change_weights(best: Path) -> None:
    weights = load_file(best / "model.safetensors")
    weights["output.weight"] = np.ones((3, 3), np.float32)
    save_file(weights, best / "model.safetensors", {"rest": "{}"})


def change_preprocessing(name: str, value: Any) -> Callable[[Path], None]:
    def change(best: Path) -> None:
        path = best / "preprocessing.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))

    return change


@pytest.mark.parametrize(
    "change",
    [
        change_weights,
        *(change_preprocessing("classes", v) for v in ([], ["a"], [[]], [1, 2, 3, 4])),
        *(change_preprocessing("columns", v) for v in ([], [1], ["other"])),
        *(change_preprocessing(n, []) for n in ("target_name", "numeric", "task")),
    ],
)
def test_a_model_whose_parts_do_not_fit_is_refused_and_made_anew(
    change: Callable[[Path], None],
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    best = run / "best"
    change(best)
    renew_digests(best)
    with pytest.raises(RunError, match="the model is damaged"):
        load_model(best)
    assert typed(f"predict {run} wine --out {run.parent / 'p.parquet'}", monkeypatch) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert typed(f"resume {run} --trials 1 --pool inline --quiet", monkeypatch) == 0
    load_model(best)


def test_a_huge_config_of_a_model_is_refused_before_it_is_parsed(run: Path) -> None:
    config = run / "best" / "config.yaml"
    config.write_text(config.read_text() + "#" * 2_000_000)
    with pytest.raises(RunError, match=r"2,0.* bytes"):
        load_model(run / "best")


# ---------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("text", ["[]", "5", "[" * 9999, '{"epoch": "a", "bytes": 1}', "null"])
def test_a_checkpoint_with_strange_metadata_is_dropped(text: str, tmp_path: Path) -> None:
    path = tmp_path / "states-000001.safetensors"
    save_file({"0/x": np.ones(2)}, path, {"0": text})
    store = CheckpointStore(tmp_path, budget_bytes=10**9)
    assert store.get(0) is None
    assert not path.exists()


@pytest.mark.parametrize("name", ["states-x", "states--1", f"states-{'9' * 5000}"[:200]])
def test_a_checkpoint_file_with_a_strange_name_is_left_alone(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(b"")
    CheckpointStore(tmp_path, budget_bytes=10**9)
    assert path.exists()


# ---------------------------------------------------------------------- tables and data


@pytest.mark.parametrize("metadata", ["{", "[]", '{"index_columns": ["trial"], "columns": []}'])
def test_what_a_stranger_wrote_for_pandas_is_not_followed(
    metadata: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("events", "epochs", "trials"):
        part = run / name / "part-00000.parquet"
        table = pq.read_table(part, partitioning=None)
        both = {**(table.schema.metadata or {}), b"pandas": metadata.encode()}
        pq.write_table(table.replace_schema_metadata(both), part)
    for words in (f"show {run}", f"why {run} 0", f"resume {run} --trials 1 --pool inline --quiet"):
        assert typed(words, monkeypatch) == 0, capsys.readouterr().err


@pytest.mark.parametrize("metadata", ["{", "[]", '{"index_columns": 3}'])
def test_a_data_file_with_strange_metadata_is_read_or_refused_in_one_line(
    metadata: str, tmp_path: Path
) -> None:
    path = tmp_path / "d.parquet"
    pd.DataFrame({"x": np.arange(20) / 3, "y": [0, 1] * 10}).to_parquet(path)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"pandas": metadata}), path)
    with contextlib.suppress(DataError):
        assert len(read_table(str(path)).features) == 20


@pytest.mark.parametrize("name", ["d.csv", "d.parquet", "d.npz"])
def test_a_pipe_in_the_place_of_data_does_not_hang(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="needs a regular file or a folder"):
        read_table(str(tmp_path / name))


def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1," * 6_000_000)
    with pytest.raises(DataError, match="lines of at most 10,000,000 bytes"):
        read_table(str(tmp_path / "d.csv"))


# ---------------------------------------------------------------------- folders and exports


def test_a_folder_whose_name_is_not_in_utf_8_is_one_line(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff"))
    shutil.copytree(whole, run)
    monkeypatch.chdir(tmp_path)
    for command in ("show", "report", "repair"):
        monkeypatch.setattr(sys, "argv", ["caviar", command, run.name])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert "needs a path in UTF-8" in capsys.readouterr().err


def test_finalists_of_the_working_directory_lie_beside_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    assert typed("finalists . --top 1 --seeds 1 --pool inline --quiet", monkeypatch) == 0
    assert (run.parent / "run-finalists" / "spec.yaml").is_file()


def test_an_export_that_the_other_tool_refuses_is_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = yaml.safe_load((run / "spec.yaml").read_text())
    spec["space"]["batch_size"] = {"int_log2": [4, 8]}
    (run / "spec.yaml").write_text(yaml.safe_dump(spec))
    out = run.parent / "study.db"
    assert typed(f"export {run} --to optuna --out {out}", monkeypatch) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "cannot be written as study.db" in err
    assert not out.exists()


def test_folders_inside_each_other_by_the_thousand_are_an_error_of_the_disk(
    tmp_path: Path,
) -> None:
    place = Path.cwd()
    try:
        (tmp_path / "a").mkdir()
        os.chdir(tmp_path / "a")
        for _ in range(1500):
            os.mkdir("a")  # noqa: PTH102 # a path of all of them is too long for pathlib
            os.chdir("a")
    finally:
        os.chdir(place)
    with pytest.raises(OSError, match="inside each other"):
        remove_folder(tmp_path / "a")
    subprocess.run(["rm", "-r", tmp_path / "a"], check=True)  # pytest's own clean-up cannot


# ---------------------------------------------------------------------- trust


def test_a_module_in_an_encoding_that_runs_code_or_takes_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"# coding: punycode\n" + b"x" * 900_000)
    with pytest.raises(SpecError, match="encoding UTF-8 is needed"):
        find_trainer_code("mine:T", [tmp_path])


def test_a_trainer_of_thousands_of_modules_is_refused(tmp_path: Path) -> None:
    names = [f"m{i}" for i in range(MAX_MODULES + 1)]
    for name in names:
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "mine.py").write_text("".join(f"import {name}\n" for name in names))
    with pytest.raises(SpecError, match=f"more than {MAX_MODULES} modules"):
        find_trainer_code("mine:T", [tmp_path])


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "caviar").mkdir()
    (tmp_path / "caviar" / "trusted-trainers").write_text("abc\n")
    (tmp_path / "caviar" / "trusted-trainers").chmod(0o600)
    return tmp_path / "caviar" / "trusted-trainers"


def test_a_registry_of_trust_that_others_can_write_to_is_not_believed(registry: Path) -> None:
    assert trust._read_digests() == {"abc"}
    for mode in (0o620, 0o602, 0o666):
        registry.chmod(mode)
        assert trust._read_digests() == set()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_registry_of_trust_that_is_no_file_neither_hangs_nor_counts(
    kind: str, registry: Path
) -> None:
    registry.unlink()
    make = {
        "pipe": lambda: os.mkfifo(registry),
        "folder": registry.mkdir,
        "device": lambda: registry.symlink_to("/dev/zero"),
    }
    make[kind]()
    assert trust._read_digests() == set()


def test_a_home_folder_that_is_not_absolute_holds_no_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", ".")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".local" / "state" / "caviar"
    folder.mkdir(parents=True)
    (folder / "trusted-trainers").write_text("abc\n")
    assert trust._read_digests() == set()
