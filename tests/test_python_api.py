"""What Python users import: `caviar.search` and the run that it returns."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import caviar

TABLE = pd.DataFrame({"a": [0.1 * (i % 17) for i in range(120)], "b": [i % 5 for i in range(120)]})
TABLE["label"] = ["yes" if a > 0.8 else "no" for a in TABLE["a"]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.csv"
    TABLE.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> caviar.Run:
    out = tmp_path_factory.mktemp("runs") / "run"
    return caviar.search(data, out=out, trials=6, max_epochs=4, pool="inline", seed=1)


def test_a_search_returns_the_run_with_its_tables(run: caviar.Run) -> None:
    assert run.status == "finished"
    assert len(run.trials) == 6
    assert set(run.epochs["trial"]) <= set(run.trials["trial"])
    assert run.events["kind"].iloc[0] == "session"
    assert run.audit is None
    assert str(run.folder) in repr(run)


def test_the_best_is_that_of_the_summary_and_of_the_epochs(run: caviar.Run) -> None:
    assert run.best is not None
    assert run.best == run.summary()["best"]
    top = run.epochs["validation_accuracy"].max()
    assert run.best["validation"]["accuracy"] == top


def test_a_loaded_run_is_the_run_that_was_searched(run: caviar.Run) -> None:
    again = caviar.load(run.folder)
    assert isinstance(again, caviar.Run)
    pd.testing.assert_frame_equal(again.trials, run.trials)
    assert again.best == run.best


def test_a_frame_is_predicted_as_its_file_is(run: caviar.Run, data: Path) -> None:
    by_frame, by_file = run.predict(TABLE), run.predict(data)
    pd.testing.assert_frame_equal(by_frame, by_file)
    assert list(by_frame) == ["prediction", "probability_no", "probability_yes"]
    part = TABLE.drop(columns="label").iloc[40:50][["b", "a"]]  # found by name, in any order
    expected = by_file.iloc[40:50].reset_index(drop=True)
    pd.testing.assert_frame_equal(run.predict(part), expected, rtol=1e-6)
    with pytest.raises(caviar.InputError, match=r"\ba\b"):
        run.predict(TABLE[["b"]])


def test_the_page_lies_where_its_path_says(run: caviar.Run, tmp_path: Path) -> None:
    assert run.report() == run.folder / "report.html"
    page = run.report(tmp_path / "page.html")
    assert page == tmp_path / "page.html"
    assert page.read_text(encoding="utf-8").startswith("<!")


def test_a_run_is_resumed_with_more_trials(data: Path, tmp_path: Path) -> None:
    first = caviar.search(data, out=tmp_path / "run", trials=3, max_epochs=2, pool="inline")
    second = first.resume(trials=2, pool="inline")
    assert (len(first.trials), len(second.trials)) == (3, 5)
    third = caviar.resume(first.folder, epochs=4, pool="inline")
    assert len(third.epochs) == len(second.epochs) + 4
    with pytest.raises(caviar.InputError, match="used up its budget"):
        third.resume(pool="inline")


def test_a_spec_may_be_a_mapping_or_a_file(data: Path, tmp_path: Path) -> None:
    content = {"space": {"layers": 1, "units": 8}, "search": {"method": "random"}}
    words: dict[str, Any] = {"trials": 2, "max_epochs": 2, "pool": "inline"}
    mapped = caviar.search(data, out=tmp_path / "mapping", spec=content, **words)
    assert set(mapped.trials["config_units_1"]) == {8}
    (tmp_path / "spec.yaml").write_text("space: {layers: 1, units: 8}\nsearch: {method: random}")
    filed = caviar.search(data, out=tmp_path / "file", spec=str(tmp_path / "spec.yaml"), **words)
    shared = ["config_learning_rate", "validation_accuracy"]
    pd.testing.assert_frame_equal(mapped.trials[shared], filed.trials[shared])
    with pytest.raises(caviar.InputError, match=r"^spec: unknown key 'max_epoch'"):
        caviar.search(data, out=tmp_path / "bad", spec={"max_epoch": 3}, **words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": "soon"}, "`time` needs something like 60s"),
        ({"time": -1.0}, "`time` needs something like 60s"),
        ({"trials": 0}, "`trials` needs at least 1, got 0"),
        ({"epochs": 0}, "`epochs` needs at least 1, got 0"),
        ({"workers": 3}, '`pool="inline"` has one worker, this process; got `workers=3`'),
        ({"address": "auto"}, '`pool="inline"` has no cluster'),
        ({"epoch_timeout": "1m"}, "`epoch_timeout` needs workers that can be killed"),
        ({"pool": "threads"}, '`pool` needs "ray" or "inline"'),
        ({"audit": "most"}, "audit needs something like 5%"),
        ({"audit": 0.7}, "search.audit"),
        ({"spec": "nowhere.yaml"}, "`spec` needs a file that can be read"),
        ({"mirror": "s3x://nowhere"}, "`mirror` needs a folder or a URI"),
    ],
)
def test_a_wrong_argument_is_refused_in_pythons_words(
    arguments: dict[str, Any], message: str, data: Path, tmp_path: Path
) -> None:
    words = {"pool": "inline", "trials": 2, "out": tmp_path / "run"} | arguments
    with pytest.raises(caviar.InputError) as caught:
        caviar.search(data, **words)
    assert message in str(caught.value)
    assert "--" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_search_in_which_every_trial_fails_raises_with_the_reason(
    data: Path, tmp_path: Path
) -> None:
    spec = {"search": {"explode_above": 1e-9}}
    with pytest.raises(caviar.CaviarError, match="no trial had a result"):
        caviar.search(data, out=tmp_path / "run", spec=spec, trials=3, pool="inline")
    assert caviar.load(tmp_path / "run").status == "failed"


def test_an_interrupted_search_returns_the_run_so_far(data: Path, tmp_path: Path) -> None:
    def interrupt() -> None:
        while not list((tmp_path / "run" / "epochs").glob("part-*.parquet")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    run = caviar.search(data, out=tmp_path / "run", time=60, pool="inline")
    assert run.status == "interrupted"
    assert len(run.epochs) > 0
    assert run.resume(trials=1, pool="inline").status == "finished"


def test_progress_is_printed_if_it_is_asked_for(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    caviar.search(data, out=tmp_path / "a", trials=2, max_epochs=1, pool="inline")
    assert capsys.readouterr() == ("", "")
    caviar.search(data, out=tmp_path / "b", trials=2, max_epochs=1, pool="inline", progress=True)
    assert "best validation accuracy" in capsys.readouterr().out


def test_runs_are_compared_by_their_folders(data: Path, run: caviar.Run, tmp_path: Path) -> None:
    other = caviar.search(data, out=tmp_path / "b", trials=6, max_epochs=4, pool="inline", seed=2)
    assert len(caviar.compare([run.folder, str(other.folder)]).table) == 2


def test_every_argument_is_named_and_typed() -> None:
    for function in (caviar.search, caviar.resume, caviar.Run.resume):
        for name, parameter in inspect.signature(function).parameters.items():
            assert parameter.kind is not inspect.Parameter.VAR_KEYWORD
            assert name == "self" or parameter.annotation is not inspect.Parameter.empty


def test_importing_caviar_imports_nothing_heavy() -> None:
    code = "import caviar, sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    heavy = {"numpy", "pandas", "pyarrow", "pydantic", "ray", "scipy", "sklearn", "rich", "typer"}
    assert not heavy & set(done.stdout.split())
