"""Every error a user can cause is one line and exit code 2, and leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.cli import main

TABLE = pd.DataFrame(
    {"a": np.arange(40) % 7, "b": np.linspace(0, 1, 40), "label": ["yes", "no"] * 20}
)


def files_in(folder: Path) -> dict[str, None]:
    return dict.fromkeys(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one good file and many bad ones."""
    TABLE.to_csv(tmp_path / "good.csv", index=False)
    TABLE.assign(label="yes").to_csv(tmp_path / "one_class.csv", index=False)
    TABLE.assign(b=np.nan).to_csv(tmp_path / "nothing_in_b.csv", index=False)
    (tmp_path / "empty.csv").write_text("")
    TABLE.head(0).to_csv(tmp_path / "header_only.csv", index=False)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 this is not Parquet PAR1")
    np.savez(tmp_path / "text.npz", X=np.array([["a", "b"]] * 20), y=np.arange(20) % 2)
    (tmp_path / "folder").mkdir()
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.doc").write_text("years of work")
    specs = {
        "unknown_key": "learning_rat: 1",
        "unknown_search_key": "search: {prunning: asha}",
        "wrong_type": "max_epochs: many",
        "low_above_high": "space: {learning_rate: {log: [1, 0.1]}}",
        "log_through_zero": "space: {weight_decay: {log: [0, 0.1]}}",
        "no_such_scale": "space: {dropout: {uniform: [0, 0.5]}}",
        "not_yaml": "space: [",
        "twice": "seed: 1\nseed: 2",
        "no_trainer": "trainer: nowhere.at_all:Trainer",
        "bad_rungs": "search: {rungs: [1, 9, 3]}",
        "typo_in_space": "space: {learning_rat: {log: [1e-3, 1e-1]}}",
        "no_such_option": "space: {optimizer: {choice: [adam, lion]}}",
    }
    for name, text in specs.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


SEARCH = "search good.csv --pool inline --trials 2 "
CASES = {
    "search missing.csv --pool inline": ["missing.csv", "not there"],
    "search goood.csv --pool inline": ["good.csv"],
    "search digitz --pool inline": ["digits"],
    "search good.csv --target lable --pool inline": ["lable", "label"],
    "search one_class.csv --pool inline": ["one_class.csv", "class"],
    "search nothing_in_b.csv --pool inline": ["nothing_in_b.csv", "b"],
    "search empty.csv --pool inline": ["empty.csv"],
    "search header_only.csv --pool inline": ["header_only.csv"],
    "search broken.parquet --pool inline": ["broken.parquet"],
    "search text.npz --pool inline": ["text.npz", "numbers"],
    "search folder --pool inline": ["folder", "train-images"],
    SEARCH + "--spec nowhere.yaml": ["nowhere.yaml"],
    SEARCH + "--spec unknown_key.yaml": ["unknown_key.yaml", "learning_rat"],
    SEARCH + "--spec unknown_search_key.yaml": ["search.prunning", "pruning"],
    SEARCH + "--spec wrong_type.yaml": ["wrong_type.yaml", "max_epochs", "many"],
    SEARCH + "--spec low_above_high.yaml": ["learning_rate", "low < high"],
    SEARCH + "--spec log_through_zero.yaml": ["weight_decay", "above 0"],
    SEARCH + "--spec no_such_scale.yaml": ["dropout", "uniform"],
    SEARCH + "--spec not_yaml.yaml": ["not_yaml.yaml"],
    SEARCH + "--spec twice.yaml": ["twice.yaml", "line 2", "seed"],
    SEARCH + "--spec no_trainer.yaml": ["nowhere", "package.module:Class"],
    SEARCH + "--spec no_trainer.yaml --trust-trainer": ["nowhere", "package.module:Class"],
    SEARCH + "--spec bad_rungs.yaml": ["rungs", "27"],
    SEARCH + "--spec typo_in_space.yaml": ["typo_in_space.yaml", "learning_rat", "learning_rate"],
    SEARCH + "--spec no_such_option.yaml": ["lion", "adam"],
    "plan good.csv --spec typo_in_space.yaml": ["learning_rat"],
    "space --spec no_such_option.yaml": ["lion"],
    SEARCH + "--out good.csv": ["good.csv", "folder"],
    SEARCH + "--metric f1": ["f1", "accuracy"],
    SEARCH + "--task regression": ["label"],
    SEARCH + "--time soon": ["soon", "60s"],
    SEARCH + "--workers 0": ["--workers", "0"],
    SEARCH + "--workers 3": ["--workers 3", "inline"],
    SEARCH + "--address auto": ["--address"],
    SEARCH + "--trials 0": ["--trials", "0"],
    SEARCH + "--max-epochs 0": ["max_epochs", "0"],
    SEARCH + "--seed -1": ["seed", "-1"],
    SEARCH + "--task ranking": ["ranking", "regression"],
    SEARCH + "--pool threads": ["threads", "inline"],
    SEARCH + "--colour red": ["--colour"],
    SEARCH + "--out occupied": ["occupied"],
    SEARCH + "--out good.csv/run": ["good.csv"],
    SEARCH + "--out /proc/nowhere/run": ["/proc"],
    "search": ["DATA"],
    "resume nowhere": ["nowhere"],
    "show nowhere": ["nowhere"],
    "show folder": ["folder"],
    "predict folder good.csv --out p.parquet": ["folder", "model"],
    "plan missing.csv": ["missing.csv"],
    "space --spec low_above_high.yaml": ["learning_rate"],
}


def typed(words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Type a command in this process, which is faster than a new one; its exit code."""
    monkeypatch.setattr(sys, "argv", ["caviar", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("words", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(data)
    monkeypatch.chdir(data)
    assert typed(words, monkeypatch) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("caviar: ")
    assert told.err.count("\n") == 1, told.err
    for part in CASES[words]:
        assert part in told.err
    assert files_in(data) == before


def test_the_installed_command_says_it_the_same_way(caviar: Any) -> None:
    done = caviar("search", "missing.csv", "--pool", "inline", code=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


@pytest.mark.ray
@pytest.mark.parametrize(
    ("address", "told"), [("127.0.0.1:1", "ray start"), ("somewhere", "HOST:PORT")]
)
def test_an_address_that_nobody_answers_at_is_one_line(
    address: str, told: str, tmp_path: Path, caviar: Any
) -> None:
    done = caviar("search", "digits", "--time", "5s", "--address", address, code=2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert address in done.stderr
    assert told in done.stderr
    assert files_in(tmp_path) == {}
