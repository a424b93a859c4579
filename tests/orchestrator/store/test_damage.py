"""A run's tables that may come from anywhere: what is damage, what is not, and what is refused."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_examples import limit_examples

from orchestrator.errors import DamageError, RunError, RunWarning
from orchestrator.store import cells, memory
from orchestrator.store.memory import measure_free_memory
from orchestrator.store.reading import (
    count_settled_rows,
    list_parts,
    list_strays,
    read_part,
    read_table,
)
from orchestrator.store.tables import SCHEMA_VERSION

RECORDED = Path(__file__).parents[2] / "recordings" / "run-0.2"


def write(path: Path, table: pa.Table, *, version: int = SCHEMA_VERSION, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"caviar_schema_version": str(version)}
    pq.write_table(table.replace_schema_metadata(metadata), path, **options)
    return path


@pytest.fixture
def epochs() -> pa.Table:
    return pq.read_table(RECORDED / "epochs" / "part-00000.parquet")


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "epochs" / "part-00000.parquet"


# ---------------------------------------------------------------------- names of parts

NAMES = [
    "part-00000 copy.parquet", "part-00000.parquet.bak", "part-00000 (1).parquet", "part-0.parquet",
    "part-000000.parquet", "Part-00000.parquet", "part-00001.PARQUET", "part-0000１.parquet",
    "._part-00000.parquet", "notes.txt", "part-00001.parquet~", "part--0001.parquet",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_no_part_is_named_in_a_warning_and_not_read(
    name: str, part: Path, epochs: pa.Table
) -> None:
    write(part, epochs)
    shutil.copy(part, part.with_name(name))
    with pytest.warns(RunWarning) as warned:
        table = read_table(part.parent)
    assert table.num_rows == epochs.num_rows
    assert name in str(warned[0].message)
    assert list_strays(part.parent) == [part.with_name(name)]


@pytest.mark.parametrize("name", [".part-00000.parquet.tmp", ".part-00000.parquet.staged"])
def test_hidden_files_of_a_writer_are_no_strays(name: str, part: Path, epochs: pa.Table) -> None:
    write(part, epochs)
    part.with_name(name).write_bytes(b"")
    with warnings.catch_warnings(action="error"):
        assert list_parts(part.parent) == [part]


@given(numbers=st.sets(st.integers(0, 12), min_size=1))
@limit_examples(40)
def test_a_gap_between_parts_is_damage_and_no_gap_is_none(numbers: set[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for number in numbers:
            (Path(name) / f"part-{number:05}.parquet").touch()
        if numbers == set(range(len(numbers))):
            assert len(list_parts(Path(name))) == len(numbers)
            return
        missing = min(set(range(13)) - numbers)
        with pytest.raises(DamageError, match=rf"part-{missing:05}\.parquet is missing"):
            list_parts(Path(name))


# ---------------------------------------------------------------------- numbers of rows


@st.composite
def wrong_numbers(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """`seq` of events and epochs where one row is lost or twice, and the number of that row."""
    sides = draw(st.lists(st.booleans(), min_size=4, max_size=30))
    place = draw(st.integers(0, len(sides) - 2))
    rows = list(enumerate(sides))
    changed = (
        rows[: place + 1] + rows[place:]
        if draw(st.booleans())
        else rows[:place] + rows[place + 1 :]
    )
    events, epochs = ([seq for seq, side in changed if side is s] for s in (True, False))
    return events, epochs, place


@given(case=wrong_numbers())
@limit_examples(100)
def test_a_row_that_is_lost_or_twice_is_named(case: tuple[list[int], list[int], int]) -> None:
    events, epochs, place = (np.array(part, np.int64) for part in case)
    with (
        tempfile.TemporaryDirectory() as name,
        pytest.raises(DamageError, match=rf"row {place} of the log is (missing|there twice)"),
    ):
        count_settled_rows(Path(name), events, epochs, settled=True)


@given(counts=st.lists(st.booleans(), min_size=1, max_size=30), ahead=st.integers(1, 5))
@limit_examples(40)
def test_rows_that_one_table_is_ahead_in_a_running_search_are_left_out(
    counts: list[bool], ahead: int
) -> None:
    rows = np.arange(len(counts) + 1 + ahead)
    sides = np.array([*counts, not counts[0], *[counts[0]] * ahead])
    lost = len(counts)  # this row's table was read before it was written
    events, epochs = (rows[(sides == s) & (rows != lost)] for s in (True, False))
    with tempfile.TemporaryDirectory() as name:
        assert count_settled_rows(Path(name), events, epochs, settled=False) == lost
        with pytest.raises(DamageError, match=f"row {lost} of the log is missing"):
            count_settled_rows(Path(name), events, epochs, settled=True)


# ---------------------------------------------------------------------- damage and what is none


def raising(error: Exception) -> Callable[..., Any]:
    def open_file(*_: Any, **__: Any) -> Any:
        raise error

    return open_file


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EIO, "Input/output error"), "cannot be read now"),
        (OSError(errno.ESTALE, "Stale file handle"), "cannot be read now"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot be read now"),
        (PermissionError(errno.EACCES, "Permission denied"), "needs the right to read it"),
        (PermissionError(errno.EPERM, "Operation not permitted"), "needs the right to read it"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "try again"),
        (MemoryError(), "more memory"),
        (pa.ArrowMemoryError("malloc of size 8000000000 failed"), "more memory"),
        (pa.ArrowNotImplementedError("codec lzo"), "cannot be read here"),
        (pa.ArrowException("Failed to launch worker thread"), "cannot be read here"),
    ],
)
def test_a_part_that_cannot_be_read_now_is_not_damaged(
    error: Exception, words: str, part: Path, epochs: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(part, epochs)
    monkeypatch.setattr(pq, "ParquetFile", raising(error))
    with pytest.raises(RunError, match=words) as caught:
        read_part(part, None)
    assert not isinstance(caught.value, DamageError)
    assert "\n" not in str(caught.value)


@given(data=st.data())
@limit_examples(60)
def test_bytes_that_are_lost_or_changed_are_damage_or_do_no_harm(data: st.DataObject) -> None:
    content = bytearray((RECORDED / "epochs" / "part-00000.parquet").read_bytes())
    sound = pq.read_table(pa.BufferReader(bytes(content)))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=9)):
            content[place] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as name:
        part = Path(name) / "epochs" / "part-00000.parquet"
        part.parent.mkdir()
        part.write_bytes(content)
        with contextlib.suppress(RunError):
            assert read_part(part, None).num_rows == sound.num_rows


@pytest.mark.parametrize("make", [os.mkfifo, lambda p: p.symlink_to(RECORDED), Path.mkdir])
def test_a_pipe_a_link_or_a_folder_in_the_place_of_a_part_is_refused(
    make: Callable[[Path], None], part: Path
) -> None:
    part.parent.mkdir()
    make(part)
    with pytest.raises(RunError, match="needs a regular file"):
        read_part(part, None)


# ---------------------------------------------------------------------- hostile content


def nest(depth: int) -> pa.DataType:
    kind: pa.DataType = pa.int64()
    for _ in range(depth):
        kind = pa.list_(kind)
    return kind


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.string()),
        pa.binary(), pa.timestamp("ns"), pa.decimal128(38), pa.dictionary(pa.int8(), pa.string()),
        nest(20), pa.string(), pa.bool_(),
    ],
    ids=lambda kind: str(kind)[:20],
)  # fmt: skip
def test_a_column_of_a_type_that_the_log_does_not_write_is_refused(
    kind: pa.DataType, part: Path, epochs: pa.Table
) -> None:
    write(part, epochs.append_column("validation_x", pa.nulls(epochs.num_rows, kind)))
    with pytest.raises(RunError, match="column 'validation_x' needs numbers"):
        read_part(part, None)


def test_a_fixed_column_of_another_type_is_refused(part: Path, epochs: pa.Table) -> None:
    index = epochs.column_names.index("epoch")
    write(part, epochs.set_column(index, "epoch", epochs["epoch"].cast(pa.float64())))
    with pytest.raises(RunError, match="column 'epoch' needs int32, got double"):
        read_part(part, None)


def test_two_columns_of_one_name_are_refused(part: Path, epochs: pa.Table) -> None:
    write(part, epochs.append_column("epoch", epochs["epoch"]))
    with pytest.raises(RunError, match="'epoch' occurs more than once"):
        read_part(part, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trial", -1), ("epoch", -5), ("seq", -1), ("attempt", 0), ("worker", -(2**31)),
        ("at_seconds", float("nan")), ("at_seconds", float("inf")), ("epoch_seconds", -1.0),
        ("trial", None), ("seq", None), ("last", None),
    ],
)  # fmt: skip
def test_a_cell_outside_of_its_range_is_damage(
    name: str, value: object, part: Path, epochs: pa.Table
) -> None:
    index, values = epochs.column_names.index(name), epochs[name].to_pylist()
    column = pa.array([*values[:-1], value], type=epochs.schema.field(name).type)
    write(part, epochs.set_column(index, name, column))
    with pytest.raises(DamageError, match=f"column '{name}' needs"):
        read_part(part, None)


def test_more_rows_than_the_bytes_can_hold_are_damage(part: Path, epochs: pa.Table) -> None:
    rows = 3_000_000  # zeros, which take a few kB; a thousand million would take as long to refuse
    zeros = {
        f.name: pa.repeat(pa.scalar(0, f.type), rows) for f in epochs.schema if f.name == "seq"
    }
    write(part, pa.table(zeros), compression="zstd")
    with pytest.raises(DamageError, match=f"declares {rows} rows in"):
        read_part(part, None)


def test_text_that_a_dictionary_repeats_is_refused_before_it_fills_the_memory(
    part: Path, epochs: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = pa.repeat("x" * 1_000_000, epochs.num_rows)  # 90 MB of rows, in a file of 60 kB
    write(part, epochs.append_column("config_x", reasons))
    monkeypatch.setattr(memory, "measure_free_memory", lambda: 50e6)
    with pytest.raises(RunError, match="needs 90 MB of memory, 50 MB are free"):
        read_part(part, None)
    monkeypatch.undo()
    assert read_part(part, None)["config_x"][0].as_py() == "x" * 1_000_000
    monkeypatch.setattr(cells, "MOST_CELL_BYTES", 1000)
    with pytest.raises(RunError, match="texts of at most 1000 bytes"):
        read_part(part, None)


def test_a_table_that_does_not_fit_into_memory_is_refused_in_one_line(
    part: Path, epochs: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(part, epochs)
    monkeypatch.setattr(memory, "measure_free_memory", lambda: 1000.0)
    with pytest.raises(RunError, match=r"of memory, 1000 bytes are free") as caught:
        read_table(part.parent)
    assert "\n" not in str(caught.value)


def test_free_memory_is_below_the_limit_of_the_address_space() -> None:
    assert 0 < measure_free_memory() < 2**60
