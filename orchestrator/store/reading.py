"""Reading a run's tables, also those that an older version of caviar wrote.

A part is read whole or not at all: a checksum for each page finds damage. The number of its schema
stands in its footer. A newer number than ours is refused, because the meaning of its columns is not
known. An older one is read: a column that it did not have yet is null.
"""

from __future__ import annotations

import heapq
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import RunError
from orchestrator.search.events import Event
from orchestrator.search.messages import Observation
from orchestrator.store.tables import FIXED_COLUMNS, SCHEMA_VERSION, Column, Tables

__all__ = [
    "TABLES",
    "list_parts",
    "read_entries",
    "read_intact_parts",
    "read_part",
    "read_schema_versions",
    "read_table",
]

TABLES = ("events", "epochs", "trials")


def list_parts(folder: Path) -> list[Path]:
    """The files of one table, in their order."""
    return sorted(folder.glob("part-*.parquet"))


def read_part(path: Path, schema: pa.Schema | None) -> pa.Table:
    """The rows of one file; with a schema, in exactly its columns.

    Raises:
        RunError: If the file is damaged, a newer version wrote it, or the columns do not fit.
    """
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (OSError, pa.ArrowException) as e:
        run = shlex.quote(str(path.parent.parent))
        raise RunError(
            f"{path}: not a whole Parquet file ({_first_line(e)}); "
            f"`caviar repair {run}` keeps all that can be read"
        ) from e
    version = _schema_version(table.schema)
    if version is None or version > SCHEMA_VERSION:
        raise RunError(
            f"{path}: this version reads tables up to schema {SCHEMA_VERSION}, "
            f"got {version or 'none'}; use the version of caviar that wrote the run"
        )
    if schema is None:
        return table
    if version < SCHEMA_VERSION:
        return _cast_to(table, schema)
    if not table.schema.equals(schema):
        raise RunError(
            f"{path}: its columns are not those of the run's spec.yaml; was it edited by hand?"
        )
    return table


def read_entries(run: Path, tables: Tables) -> Iterator[tuple[int, float, Event | Observation]]:
    """All rows of events and epochs as (seq, at_seconds, value), in the order of `seq`.

    Raises:
        RunError: If a part cannot be read.
    """
    rows = heapq.merge(
        _iterate_rows(run / "events", tables.events),
        _iterate_rows(run / "epochs", tables.epochs),
        key=lambda row: row["seq"],
    )
    for row in rows:
        entry = tables.event(row) if "kind" in row else tables.observation(row)
        yield row["seq"], row["at_seconds"], entry


def read_intact_parts(folder: Path, schema: pa.Schema) -> tuple[list[dict[str, Any]], list[Path]]:
    """The rows of those parts of a table that can be read whole, and the parts that cannot."""
    rows: list[dict[str, Any]] = []
    damaged: list[Path] = []
    for part in list_parts(folder):
        try:
            rows += read_part(part, schema).to_pylist()
        except RunError:
            damaged.append(part)
    return rows, damaged


def read_table(folder: Path) -> pa.Table:
    """One whole table of a run, for reading only; the folder's name says which one.

    The columns that every run has are always there: null where an older version had none.

    Raises:
        RunError: If a part cannot be read, or there is none.
    """
    parts = list_parts(folder)
    if not parts:
        raise RunError(f"{folder}: needs at least one part of the table, found none")
    table = pa.concat_tables([read_part(part, None) for part in parts], promote_options="default")
    return _add_missing(table, FIXED_COLUMNS[folder.name])


def read_schema_versions(run: Path) -> set[int]:
    """The schema numbers of all parts of a run whose footer can be read."""
    versions = set()
    for name in TABLES:
        for part in list_parts(run / name):
            try:
                version = _schema_version(pq.read_schema(part))
            except (OSError, pa.ArrowException):
                continue
            if version is not None:
                versions.add(version)
    return versions


def _iterate_rows(folder: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    for part in list_parts(folder):
        for batch in read_part(part, schema).to_batches(max_chunksize=5_000):
            yield from batch.to_pylist()


def _schema_version(schema: pa.Schema) -> int | None:
    text = (schema.metadata or {}).get(b"caviar_schema_version", b"").decode()
    return int(text) if text.isdecimal() else None


def _cast_to(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table of an older version in the columns of this one; null where it had none."""
    present = set(table.column_names)
    columns = [
        table[field.name].cast(field.type)
        if field.name in present
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _add_missing(table: pa.Table, columns: Mapping[str, Column]) -> pa.Table:
    present = set(table.column_names)
    for name, column in columns.items():
        if name not in present:
            table = table.append_column(name, pa.nulls(table.num_rows, column.type))
    return table


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
