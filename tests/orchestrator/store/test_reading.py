"""Readers take the tables of older versions, and give null for what those did not record."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_examples import limit_examples

from orchestrator.errors import RunError
from orchestrator.store.reading import TABLES, read_part, read_schema_versions, read_table
from orchestrator.store.tables import FIXED_COLUMNS, SCHEMA_VERSION

RECORDED = Path(__file__).parents[2] / "recordings" / "run-0.1"


def recorded(table: str) -> pa.Table:
    return pq.read_table(RECORDED / table / "part-00000.parquet")


def write_part(folder: Path, content: pa.Table, *, number: int = 0, version: int | None) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"part-{number:05}.parquet"
    metadata = {} if version is None else {"caviar_schema_version": str(version)}
    pq.write_table(content.replace_schema_metadata(metadata), path)
    return path


@st.composite
def dropped_columns(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A table, and some of its columns."""
    table = draw(st.sampled_from(TABLES))
    return table, draw(st.lists(st.sampled_from(recorded(table).column_names), unique=True))


@given(case=dropped_columns(), version=st.integers(1, SCHEMA_VERSION))
@limit_examples(40)
def test_a_column_that_every_run_has_is_null_where_a_part_lacks_it(
    case: tuple[str, list[str]], version: int
) -> None:
    table, dropped = case
    whole = recorded(table)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / table
        write_part(folder, whole.drop_columns(dropped), version=version)
        read = read_table(folder)
    assert read.num_rows == whole.num_rows
    assert FIXED_COLUMNS[table].keys() <= set(read.column_names)
    for column in read.column_names:
        if column in dropped:
            assert read[column].null_count == whole.num_rows
            assert read[column].type == whole[column].type
        else:
            assert read[column].equals(whole[column])


@given(case=dropped_columns(), version=st.integers(1, SCHEMA_VERSION - 1))
@limit_examples(40)
def test_an_older_part_is_read_in_the_columns_that_are_asked_for(
    case: tuple[str, list[str]], version: int
) -> None:
    table, dropped = case
    whole = recorded(table)
    with tempfile.TemporaryDirectory() as name:
        older = whole.drop_columns(dropped).append_column("of_old", pa.nulls(whole.num_rows))
        read = read_part(write_part(Path(name) / table, older, version=version), whole.schema)
    assert read.schema.equals(whole.schema)
    for column in whole.column_names:
        if column in dropped:
            assert read[column].null_count == whole.num_rows
        else:
            assert read[column].equals(whole[column])


@given(case=dropped_columns())
@limit_examples(20)
def test_parts_with_different_columns_are_joined(case: tuple[str, list[str]]) -> None:
    table, dropped = case
    whole = recorded(table)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / table
        write_part(folder, whole.drop_columns(dropped), version=1)
        write_part(folder, whole, number=1, version=2)
        read = read_table(folder)
    rows = whole.num_rows
    for column in whole.column_names:
        assert read[column].slice(rows).to_pylist() == whole[column].to_pylist()
        first = read[column].slice(0, rows)
        assert first.null_count == rows if column in dropped else first.equals(whole[column])


def test_a_part_of_this_version_must_have_exactly_the_columns_of_its_spec(tmp_path: Path) -> None:
    whole = recorded("epochs")
    path = write_part(tmp_path / "epochs", whole.drop_columns(["cause"]), version=SCHEMA_VERSION)
    with pytest.raises(RunError, match=r"part-00000\.parquet: its columns are not those"):
        read_part(path, whole.schema)


@pytest.mark.parametrize("version", [None, SCHEMA_VERSION + 1, 99])
def test_a_part_of_a_newer_version_or_of_none_is_refused_in_one_line(
    version: int | None, tmp_path: Path
) -> None:
    path = write_part(tmp_path / "epochs", recorded("epochs"), version=version)
    with pytest.raises(
        RunError, match=f"schema {SCHEMA_VERSION}, got {version or 'none'}"
    ) as caught:
        read_part(path, None)
    assert "\n" not in str(caught.value)


def test_the_schemas_of_a_run_are_those_of_its_intact_parts(tmp_path: Path) -> None:
    assert read_schema_versions(tmp_path) == set()
    for table, version in zip(TABLES, (1, 3, 2), strict=True):
        write_part(tmp_path / table, recorded(table), version=version)
    assert read_schema_versions(tmp_path) == {1, 2, 3}
    (tmp_path / "epochs" / "part-00000.parquet").write_bytes(b"PAR1")
    assert read_schema_versions(tmp_path) == {1, 2}
