"""Runs with copied, lost, hostile or unreadable tables: each row is read or named, and nothing is
thrown away."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_runs import searched

import caviar as api
from orchestrator.errors import DamageError, RunError, RunWarning
from pipelines.export import export
from pipelines.runs.repair import repair, replay_run
from pipelines.see.page import write_page
from pipelines.see.placement import locate_best_values
from pipelines.see.run import load_run
from pipelines.see.summary import summarize_run
from pipelines.see.why import explain_trial

TABLES = ("events", "epochs", "trials")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("whole") / "run", trials=25)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def find_part(run: Path, table: str, number: int = 0) -> Path:
    return run / table / f"part-{number:05}.parquet"


def rewrite(run: Path, table: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a table, as somebody does who edits a run by hand."""
    part = find_part(run, table)
    old = pq.read_table(part)
    pq.write_table(change(old).replace_schema_metadata(old.schema.metadata), part)


def set_cells(table: pa.Table, name: str, values: Iterable[Any]) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(
        table.column_names.index(name), field, pa.array(list(values), field.type)
    )


def read_bytes(run: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "run.lock"}


# ---------------------------------------------------------------------- copies and gaps


def test_a_stray_copy_of_a_part_is_named_and_moved_aside_before_anything_is_written(
    run: Path,
) -> None:
    rows = len(load_run(run).epochs)
    copy = run / "epochs" / "part-00000 copy.parquet"
    content = shutil.copy(find_part(run, "epochs"), copy).read_bytes()
    with pytest.warns(RunWarning, match=r"part-00000 copy\.parquet"):
        assert len(load_run(run).epochs) == rows
    with pytest.warns(RunWarning, match=r"epochs/part-00000 copy\.parquet .* moved to .*damaged-1"):
        api.resume(run, trials=1, pool="inline")
    assert (run / "damaged-1" / "epochs" / copy.name).read_bytes() == content
    assert not pd.read_parquet(run / "epochs").duplicated(["trial", "epoch"]).any()
    assert load_run(run).status == "finished"


def test_repair_moves_a_stray_file_aside_and_leaves_the_tables_as_they_are(run: Path) -> None:
    (run / "trials" / "notes.txt").write_text("mine")
    before = {t: find_part(run, t).read_bytes() for t in TABLES}
    with pytest.warns(RunWarning, match=r"trials/notes\.txt"):
        assert "nothing to repair" in repair(run)
    assert (run / "damaged-1" / "trials" / "notes.txt").read_text() == "mine"
    assert before == {t: find_part(run, t).read_bytes() for t in TABLES}


@pytest.mark.parametrize("table", ["events", "epochs"])
def test_a_copy_with_the_name_of_the_next_part_is_damage_that_repair_removes(
    table: str, run: Path
) -> None:
    before = load_run(run)
    shutil.copy(find_part(run, table), find_part(run, table, 1))
    for use in (load_run, lambda r: api.resume(r, trials=1, pool="inline")):
        with pytest.raises(RunError, match=r"row \d+ of the log is there twice") as caught:
            use(run)
        assert "\n" not in str(caught.value)
    assert "is there twice" in replay_run(run).difference
    assert "kept" in repair(run)
    after = load_run(run)
    for name in TABLES:
        rows, expected = getattr(after, name), getattr(before, name)
        pd.testing.assert_frame_equal(rows, expected, check_dtype=False)
    assert find_part(run / "damaged-1", table, 1).exists()


def test_a_copy_of_a_part_of_the_trials_is_removed_by_repair_too(run: Path) -> None:
    shutil.copy(find_part(run, "trials"), find_part(run, "trials", 1))
    with pytest.raises(DamageError, match="trial 0 is twice in trials/"):
        load_run(run)
    assert "kept" in repair(run)
    assert len(load_run(run).trials) == 25


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_part_is_damage_for_every_reader(table: str, run: Path) -> None:
    find_part(run, table).rename(find_part(run, table, 1))
    replay = [] if table == "trials" else [replay_run]  # a replay needs events and epochs alone
    for use in (load_run, *replay, lambda r: api.resume(r, trials=1, pool="inline")):
        with pytest.raises(DamageError, match=rf"{table}: part-00000\.parquet is missing"):
            use(run)
    assert "kept" in repair(run)
    assert len(load_run(run).trials) == 25


@pytest.mark.parametrize("table", ["events", "epochs"])
def test_each_row_that_repair_does_not_keep_is_named(table: str, run: Path) -> None:
    rows = pq.read_table(find_part(run, table))
    at = next(i for i in range(rows.num_rows // 2, rows.num_rows) if lies_between(run, rows, i))
    seq = rows["seq"][at].as_py()
    rewrite(run, table, lambda t: pa.concat_tables([t.slice(0, at), t.slice(at + 1)]))
    with pytest.raises(DamageError, match=f"row {seq} of the log is missing"):
        load_run(run)
    assert f"without the rows {seq}" in repair(run)
    load_run(run)


def lies_between(run: Path, rows: pa.Table, at: int) -> bool:
    """Whether a row is an epoch, or an event that a later epoch does not prove."""
    kinds = ("pause", "complete", "promote", "start", "session")
    return "kind" not in rows.column_names or rows["kind"][at].as_py() not in kinds


# ---------------------------------------------------------------------- not damage


def fail_to_read(monkeypatch: pytest.MonkeyPatch, place: Path, error: OSError) -> None:
    """Let one part fail as a file that may not be read, or whose disk answers with an error."""
    for name in ("ParquetFile", "read_schema", "read_metadata"):
        real = getattr(pq, name)

        def fail(path: Path, *args: Any, real: Any = real, **options: Any) -> Any:
            if path == place:
                raise error
            return real(path, *args, **options)

        monkeypatch.setattr(pq, name, fail)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOMEM])
def test_repair_leaves_a_run_alone_that_cannot_be_read_now(
    number: int, table: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_bytes(run)
    with monkeypatch.context() as patch:
        fail_to_read(patch, find_part(run, table), OSError(number, "as the disk says"))
        for use in (repair, load_run, lambda r: api.resume(r, trials=1, pool="inline")):
            with pytest.raises(RunError, match=rf"{table}/part-00000\.parquet") as caught:
                use(run)
            assert not isinstance(caught.value, DamageError)
            assert "\n" not in str(caught.value) and "`caviar repair" not in str(caught.value)
    assert read_bytes(run) == before
    assert "nothing to repair" in repair(run)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("version", [b"4", b"99", None, b"\xff", b"-1", b"9" * 5000])
def test_repair_leaves_a_run_alone_whose_version_it_does_not_know(
    version: bytes | None, table: str, run: Path
) -> None:
    part = find_part(run, table)
    metadata = {} if version is None else {b"caviar_schema_version": version}
    pq.write_table(pq.read_table(part).replace_schema_metadata(metadata), part)
    before = read_bytes(run)
    with pytest.raises(RunError, match="schema") as caught:
        repair(run)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert read_bytes(run) == before


def test_repair_leaves_a_run_alone_whose_spec_has_other_columns(run: Path) -> None:
    rewrite(
        run, "epochs", lambda t: t.rename_columns([n.replace("log", "lg") for n in t.schema.names])
    )
    before = read_bytes(run)
    with pytest.raises(RunError, match=r"its columns are not those of the run's spec\.yaml"):
        repair(run)
    assert read_bytes(run) == before


# ---------------------------------------------------------------------- broken flushes


@pytest.fixture
def broken_off(run: Path) -> Path:
    """A run whose driver was killed when its epochs had their names and its events did not."""
    events = find_part(run, "events")
    whole = pq.read_table(events)
    epochs = pq.read_metadata(find_part(run, "epochs")).num_rows
    metadata = {**whole.schema.metadata, b"caviar_goes_with": str(epochs).encode()}
    staged = events.with_name(f".{events.name}.staged")
    pq.write_table(whole.replace_schema_metadata(metadata), staged)
    pq.write_table(whole.slice(0, whole.num_rows // 2), events)
    return run


def test_readers_show_a_broken_flush_up_to_the_row_that_both_tables_have(
    broken_off: Path, whole: Path
) -> None:
    read, before = load_run(broken_off), load_run(whole)
    assert 0 < len(read.events) < len(before.events)
    assert 0 < len(read.epochs) < len(before.epochs)
    rows = sorted([*read.events["seq"], *read.epochs["seq"]])
    assert rows == list(range(len(rows)))
    assert replay_run(broken_off).difference == ""


def test_repair_finishes_a_broken_flush_and_loses_nothing(broken_off: Path, whole: Path) -> None:
    assert "nothing to repair" in repair(broken_off)
    pd.testing.assert_frame_equal(load_run(broken_off).events, load_run(whole).events)


def test_a_damaged_file_of_a_flush_is_moved_aside_and_the_run_goes_on(broken_off: Path) -> None:
    staged = broken_off / "events" / ".part-00000.parquet.staged"
    staged.write_bytes(staged.read_bytes()[:100])
    with pytest.raises(DamageError, match="`caviar repair"):
        api.resume(broken_off, trials=1, pool="inline")
    assert "kept" in repair(broken_off)
    assert (broken_off / "damaged-1" / "events" / staged.name).exists()
    api.resume(broken_off, trials=1, pool="inline")
    assert load_run(broken_off).status == "finished"


# ---------------------------------------------------------------------- hostile content

DEEP = "[" * 3000 + "]" * 3000


def change_kind(table: pa.Table) -> pa.Table:
    return set_cells(table, "kind", [*table["kind"].to_pylist()[:-1], "explode"])


def change_details(text: str | None) -> Callable[[pa.Table], pa.Table]:
    return lambda t: set_cells(t, "details", [text, *t["details"].to_pylist()[1:]])


def change_boxes(text: str) -> Callable[[pa.Table], pa.Table]:
    return lambda t: set_cells(t, "box", [b and text for b in t["box"].to_pylist()])


def end_session(table: pa.Table) -> pa.Table:
    text = json.dumps({"worker_seconds": "many"})
    rows = zip(table["kind"].to_pylist(), table["details"].to_pylist(), strict=True)
    return set_cells(table, "details", [text if kind == "end" else old for kind, old in rows])


def repeat_start(table: pa.Table) -> pa.Table:
    kinds, trials = table["kind"].to_pylist(), table["trial"].to_pylist()
    second = [i for i, kind in enumerate(kinds) if kind == "start"][1]
    trials[second] = 0
    return set_cells(table, "trial", trials)


HOSTILE: dict[str, tuple[str, Callable[[pa.Table], pa.Table]]] = {
    "an unknown kind": ("events", change_kind),
    "details that are no JSON": ("events", change_details("{")),
    "details that are a list": ("events", change_details("[1, 2]")),
    "details nested 3,000 deep": ("events", change_details(DEEP)),
    "details that are missing": ("events", change_details(None)),
    "an objective that is no metric": (
        "events", change_details('{"objective": {"metric": "nothing", "maximize": true}}'),
    ),
    "an objective of another type": (
        "events", change_details('{"objective": {"metric": 5, "maximize": 1}}'),
    ),
    "workers that are text": ("events", change_details('{"workers": "many"}')),
    "an end that counts text": ("events", end_session),
    "a box that is no JSON": ("events", change_boxes("{]")),
    "a box nested 3,000 deep": ("events", change_boxes(DEEP)),
    "a box of NaN": ("events", change_boxes('{"learning_rate": [NaN, 1]}')),
    "a box of text": ("events", change_boxes('{"learning_rate": ["a", "b"]}')),
    "two starts of a trial": ("events", repeat_start),
    "an epoch of no trial": (
        "epochs", lambda t: set_cells(t, "trial", [10**6, *t["trial"].to_pylist()[1:]]),
    ),
    "an epoch twice": ("epochs", lambda t: set_cells(t, "epoch", [1] * t.num_rows)),
    "a negative trial": (
        "epochs", lambda t: set_cells(t, "trial", [-1, *t["trial"].to_pylist()[1:]]),
    ),
    "a trial twice": ("trials", lambda t: pa.concat_tables([t, t])),
    "a trial of no event": (
        "trials", lambda t: set_cells(t, "trial", [10**6, *t["trial"].to_pylist()[1:]]),
    ),
    "nested rows": ("trials", lambda t: t.append_column("x", pa.array([[{"a": 1}]] * t.num_rows))),
    "no events": ("events", lambda t: t.slice(0, 0)),
    "no session": (
        "events", lambda t: set_cells(t, "kind", ["end", *t["kind"].to_pylist()[1:]]),
    ),
    "a hyperparameter less": ("trials", lambda t: t.drop_columns(["config_layers"])),
    "a hyperparameter of text": (
        "trials",
        lambda t: t.drop_columns(["config_layers"]).append_column(
            "config_layers", pa.array(["x"] * t.num_rows)
        ),
    ),
    "a value less than its coordinate": (
        "trials", lambda t: set_cells(t, "config_layers", [None] * t.num_rows),
    ),
    "a coordinate of nothing": (
        "trials", lambda t: t.append_column("unit_nothing", pa.array([0.5] * t.num_rows)),
    ),
    "coordinates of text": (
        "trials",
        lambda t: t.drop_columns(["unit_layers"]).append_column(
            "unit_layers", pa.array(["x"] * t.num_rows)
        ),
    ),
    "a coordinate less": ("trials", lambda t: t.drop_columns(["unit_layers"])),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_rows_are_an_error_of_one_line_for_every_command(name: str, run: Path) -> None:
    table, change = HOSTILE[name]
    rewrite(run, table, change)

    def show(folder: Path) -> None:
        tables = load_run(folder)
        summarize_run(tables)
        locate_best_values(tables)
        explain_trial(tables, 3)
        write_page([folder], folder / "report.html")
        export(folder, to="csv", out=folder.parent / "run.csv")

    with pytest.raises(RunError) as caught:
        show(run)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    for use in (replay_run, lambda r: api.resume(r, trials=1, pool="inline"), repair, repair):
        with contextlib.suppress(RunError):  # or it succeeds: not every command needs every table
            use(run)
