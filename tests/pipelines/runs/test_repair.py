"""`caviar replay` decides again; `caviar repair` keeps what can be read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from test_runs import check_tables, searched

import caviar
from orchestrator.errors import RunError
from orchestrator.search.messages import Observation
from orchestrator.search.replay import replay
from orchestrator.search.search import Search
from orchestrator.store.reading import read_entries
from pipelines.runs.from_spec import make_tables
from pipelines.runs.repair import repair, replay_run
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec

METHODS = ["caviar", "asha", "hyperband", "median", "random"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two sessions."""
    folder = searched(tmp_path_factory.mktemp("whole") / "run", trials=40)
    caviar.resume(folder, trials=10, pool="inline")
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_decides_the_same_again(method: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"search: {{method: {method}}}\n")
    folder = searched(tmp_path / "run", trials=25, spec_file=spec)
    caviar.resume(folder, epochs=30, pool="inline")
    found = replay_run(folder)
    assert found.difference == ""
    events = load_run(folder).events["kind"].value_counts()
    told = sum(events.get(kind, 0) for kind in ("session", "test", "end"))
    assert (found.applied, found.decisions + found.applied) == (told, events.sum())


def test_a_changed_report_leads_to_another_decision(run: Path) -> None:
    spec = read_run_spec(run)
    rows = list(read_entries(run, make_tables(spec)))
    place = next(i for i, (_, _, e) in enumerate(rows) if isinstance(e, Observation))
    seq, at, entry = rows[place]
    assert isinstance(entry, Observation)
    rows[place] = seq, at, replace(entry, report=replace(entry.report, score=(9.0, 9.0)))
    search = Search(spec.parameters(), spec.search, seed=spec.seed, max_epochs=spec.max_epochs)
    assert "now it is" in replay(search, rows).difference


def test_a_decision_that_was_changed_by_hand_is_named(run: Path, caviar: Any) -> None:
    part = run / "events" / "part-00000.parquet"
    table = pq.read_table(part)
    rows = table.to_pylist()
    place = next(i for i, row in enumerate(rows) if row["kind"] == "promote")
    rows[place]["stop_epoch"] += 1
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), part)
    told = caviar("replay", str(run), code=1).stderr
    assert told.count("\n") == 1
    assert f"at {rows[place]['seq']} the log says promote of trial" in told
    assert "stop_epoch" in told


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbled(path: Path) -> None:
    """A few bytes in the middle of a column's data are others."""
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(8, len(content) // 3, size=20):
        content[place] ^= 0xFF
    path.write_bytes(bytes(content))


def gone(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncated, garbled, gone, emptied])
@pytest.mark.parametrize("table", ["events", "epochs", "trials"])
def test_a_damaged_table_costs_only_what_was_in_it(
    table: str, damage: Callable[[Path], None], run: Path, caviar: Any
) -> None:
    before = load_run(run)
    part = run / table / "part-00000.parquet"
    damage(part)
    if damage is not gone:
        with pytest.raises(RunError, match=r"not a whole Parquet file .* `caviar repair"):
            load_run(run)
    told = caviar("repair", str(run)).stdout
    assert "kept" in told
    if damage is not gone:
        assert (run / "damaged-1" / table / part.name).exists()
    known = ["trial", "epoch", "validation_log_loss"]
    if table != "epochs":  # every figure is still there
        after = load_run(run)
        pd.testing.assert_frame_equal(after.epochs[known], before.epochs[known])
    resume_and_check(run, before.trials)


def resume_and_check(run: Path, trials: pd.DataFrame) -> None:
    caviar.resume(run, trials=3, pool="inline")
    check_tables(run)
    after = load_run(run)
    assert after.status == "finished"
    known = [c for c in trials if c.startswith("config_")] + ["seed"]
    same = min(len(trials), len(after.trials))
    pd.testing.assert_frame_equal(after.trials[known].head(same), trials[known].head(same))


@pytest.mark.parametrize("last_call", [1, 2, 3, 7])  # the first one is of the new tables' flush
def test_a_repair_that_was_broken_off_is_finished_by_the_next(
    last_call: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truncated(run / "events" / "part-00000.parquet")
    rename, calls = Path.rename, 0

    def dying(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == last_call:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", dying)
    with pytest.raises(KeyboardInterrupt):
        repair(run)
    monkeypatch.undo()
    assert ("is finished" in repair(run)) == (last_call > 1)
    assert "nothing to repair" in repair(run)
    assert sorted(p.name for p in (run / "damaged-1").iterdir()) == ["epochs", "events", "trials"]


def test_a_sound_run_is_left_alone(run: Path) -> None:
    before = {p: p.read_bytes() for p in run.rglob("*.parquet")}
    assert "nothing to repair" in repair(run)
    assert {p: p.read_bytes() for p in run.rglob("*.parquet")} == before
