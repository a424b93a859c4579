"""A run goes on from its mirror as if the first folder had never been lost."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
from test_runs import check_tables, searched

import caviar
from orchestrator.errors import RunError
from orchestrator.store import mirror
from orchestrator.store.mirror import Mirror, restore
from pipelines.data.model import load_model
from pipelines.see.run import load_run
from pipelines.see.summary import summarize_run

KNOWN = ["trial", "epoch", "validation_log_loss"]


@pytest.mark.parametrize("as_uri", [True, False])
def test_a_lost_folder_comes_back_from_its_mirror(as_uri: bool, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    mirror = copy.as_uri() if as_uri else str(copy)
    folder = tmp_path / "run"
    caviar.search("wine", out=folder, trials=12, pool="inline", mirror=mirror)
    before = load_run(folder)
    assert {p.name for p in copy.iterdir()} == {"spec.yaml", "events", "epochs", "trials", "best"}
    shutil.rmtree(folder)
    caviar.resume(folder, trials=5, pool="inline", mirror=mirror)
    check_tables(folder)
    after = load_run(folder)
    pd.testing.assert_frame_equal(
        after.epochs[KNOWN].head(len(before.epochs)), before.epochs[KNOWN]
    )
    assert len(after.trials) == 17
    best = summarize_run(after)["best"]
    assert load_model(folder / "best").trial == best["trial"]
    pd.testing.assert_frame_equal(load_run(copy).trials, after.trials)  # and the copy kept up


@pytest.mark.parametrize("behind", ["events", "epochs"])
def test_a_copy_that_was_broken_off_between_two_files_is_still_a_run(
    behind: str, tmp_path: Path
) -> None:
    folder, copy = searched(tmp_path / "run", trials=8), tmp_path / "copy"
    Mirror(folder, str(copy), failed=pytest.fail).close()
    old = (copy / behind / "part-00000.parquet").read_bytes()
    caviar.resume(folder, trials=8, pool="inline")
    Mirror(folder, str(copy), failed=pytest.fail).close()
    (copy / behind / "part-00000.parquet").write_bytes(old)
    again = tmp_path / "again"
    caviar.resume(again, trials=3, pool="inline", mirror=str(copy))
    check_tables(again)
    assert load_run(again).status == "finished"
    assert len(load_run(again).trials) >= 11


def test_it_keeps_up_while_the_run_goes_on_and_says_once_when_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MIRROR_SECONDS", 0.02)
    run, copy, told = tmp_path / "run", tmp_path / "copy", []
    (run / "events").mkdir(parents=True)
    kept = Mirror(run, str(copy), failed=told.append)
    for content in (b"1", b"22"):
        (run / "events" / "part-00000.parquet").write_bytes(content)
        deadline = time.monotonic() + 5
        while (
            not (copy / "events" / "part-00000.parquet").exists()
            or (copy / "events" / "part-00000.parquet").read_bytes() != content
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    shutil.rmtree(copy)
    copy.write_text("a file where the folder was")
    (run / "events" / "part-00000.parquet").write_bytes(b"333")
    while not told:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(told) == 1 and str(copy) in told[0]
    copy.unlink()
    kept.close()
    assert (copy / "events" / "part-00000.parquet").read_bytes() == b"333"


@pytest.mark.parametrize("uri", ["nowhere://bucket/run", "s3://"])
def test_a_place_that_cannot_be_is_said_in_one_line(uri: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="`mirror` needs"):
        Mirror(tmp_path, uri, failed=pytest.fail)


def test_a_place_without_a_run_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="needs the copy of a run"):
        restore(str(tmp_path / "empty"), tmp_path / "run")
    with pytest.raises(RunError, match="`mirror` needs"):
        restore(str(tmp_path / "nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
