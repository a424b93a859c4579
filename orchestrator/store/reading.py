"""Reading a run's tables, also those that an older version of caviar wrote.

A table is a folder of parts, part-00000.parquet, part-00001.parquet and so on, without a gap. Other
files there, such as a copy of a part, are not read; a warning names them. A part is read whole or
not at all: a checksum for each page finds damage. The number of its schema stands in its footer. A
newer number than ours is refused, because the meaning of its columns is not known. An older one is
read: a column that it did not have yet is null.

The rows of events and epochs together are numbered by `seq`, without a gap and without a repeat, so
a row that was lost or copied is found.
"""

from __future__ import annotations

import heapq
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import DamageError, InvalidEntry, RunError, RunWarning
from orchestrator.quote import join_names
from orchestrator.search.events import Event
from orchestrator.search.messages import Observation
from orchestrator.store.cells import (
    check_cells,
    check_columns,
    check_size,
    decode_text,
)
from orchestrator.store.lock import Lock
from orchestrator.store.memory import require_memory
from orchestrator.store.parquet_errors import reading_part, require_regular_file
from orchestrator.store.tables import FIXED_COLUMNS, SCHEMA_VERSION, Column, Tables

__all__ = [
    "TABLES",
    "count_part_rows",
    "count_settled_rows",
    "is_settled",
    "list_parts",
    "list_staged_events",
    "list_strays",
    "read_entries",
    "read_intact_parts",
    "read_part",
    "read_schema_versions",
    "read_table",
]

TABLES = ("events", "epochs", "trials")
#: Without threads: they do not make the reading of a part faster, and may be refused to a process.
_OPTIONS: Any = {"page_checksum_verification": True, "pre_buffer": False}
_PART_NAME = re.compile(r"part-(\d{5}|[1-9]\d{5,})\.parquet", re.ASCII)


def list_parts(folder: Path) -> list[Path]:
    """The files of one table, in their order. A warning names other files in its folder.

    Raises:
        DamageError: If a part is missing among them.
        RunError: If the folder cannot be read.
    """
    if strays := list_strays(folder):
        warnings.warn(
            f"{folder}: only part-00000.parquet, part-00001.parquet and so on are read, not "
            f"{join_names((path.name for path in strays), most=3)}; move it away",
            RunWarning,
            stacklevel=1,  # one place, so that Python shows it once
        )
    parts = _find_parts(folder)
    for number, part in enumerate(parts):
        if _read_number(part) != number:
            raise DamageError(
                f"{folder}: part-{number:05}.parquet is missing; put it back, or "
                f"`caviar repair {shlex.quote(str(folder.parent))}` keeps all that can be read"
            )
    return parts


def list_strays(folder: Path) -> list[Path]:
    """What is in a table's folder beside its parts, and would be read as if it were one.

    Hidden files are left out, unless a reader such as DuckDB takes them for Parquet.
    """
    return [
        path
        for path in _list_folder(folder)
        if not _PART_NAME.fullmatch(path.name)
        and (not path.name.startswith(".") or path.suffix == ".parquet")
    ]


def read_part(path: Path, schema: pa.Schema | None) -> pa.Table:
    """The rows of one file; with a schema, in exactly its columns.

    Raises:
        DamageError: If the content of the file is damaged.
        RunError: If the file cannot be read now, a newer version wrote it, the columns do not fit,
            or it does not fit into memory.
    """
    require_regular_file(path)
    with reading_part(path), pq.ParquetFile(path, **_OPTIONS) as file:
        version = _require_known_version(path, file.schema_arrow)
        check_columns(path, file.schema_arrow)
        check_size(path, file.metadata)
        words = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
    with (
        reading_part(path),
        pq.ParquetFile(path, read_dictionary=words, **_OPTIONS) as file,
    ):
        table = decode_text(path, file.read(use_threads=False))
        check_cells(path, table)
        if schema is None:
            return table
        if version < SCHEMA_VERSION:
            return _cast_to(table, schema)
    if not table.schema.equals(schema):
        raise RunError(
            f"{path}: its columns are not those of the run's spec.yaml; was it edited by hand?"
        )
    return table


def count_part_rows(path: Path) -> int:
    """Number of rows of a part, from its footer.

    Raises:
        DamageError: If the footer is damaged.
        RunError: If the file cannot be read now.
    """
    return int(_read_footer(path).num_rows)


def read_entries(
    run: Path, tables: Tables, *, settled: bool = False
) -> Iterator[tuple[int, float, Event | Observation]]:
    """All rows of events and epochs as (seq, at_seconds, value), in the order of `seq`.

    Args:
        run: The run's folder.
        tables: The run's schemas.
        settled: Whether both tables end at the same flush, as `is_settled` says. If not, rows at
            the end that one table has and the other one lacks are left out.

    Raises:
        InvalidEntry: If a row is missing, is there twice, or is no entry.
        RunError: If a part cannot be read.
    """
    rows = heapq.merge(
        _iterate_rows(run / "events", tables.events),
        _iterate_rows(run / "epochs", tables.epochs),
        key=lambda row: row["seq"],
    )
    for due, row in enumerate(rows):
        if row["seq"] != due:
            ahead = "kind" in row
            if row["seq"] > due and not settled and all(("kind" in r) == ahead for r in rows):
                return
            raise InvalidEntry(_describe_gap(due, row["seq"]))
        yield row["seq"], row["at_seconds"], tables.entry(row)


def is_settled(run: Path) -> bool:
    """Whether events and epochs end at the same flush.

    A flush writes the epochs before the events. So a reader may see one table ahead of the other
    one while a process writes to the run, or after it was killed in the middle of a flush.
    """
    return not (Lock.is_locked(run) or list_staged_events(run))


def list_staged_events(run: Path) -> list[Path]:
    """The hidden parts of events that wait for the epochs of their flush; see `Log.flush`."""
    return sorted((run / "events").glob(".part-*.parquet.staged"))


def count_settled_rows(
    run: Path, events: npt.NDArray[np.int64], epochs: npt.NDArray[np.int64], *, settled: bool
) -> int:
    """Number of rows, from the first one on, that events and epochs hold together without a gap.

    Args:
        run: The run's folder.
        events: The column `seq` of the events.
        epochs: The column `seq` of the epochs.
        settled: Whether both tables ended at the same flush, before they were read.

    Raises:
        DamageError: If a row is missing or there twice.
    """
    seqs = np.sort(np.concatenate([events, epochs]))
    wrong = np.flatnonzero(seqs != np.arange(len(seqs)))
    if not wrong.size:
        return len(seqs)
    due = int(wrong[0])
    one_sided = not ((events >= due).any() and (epochs >= due).any())
    if seqs[due] > due and one_sided and not (settled and is_settled(run)):
        return due
    raise DamageError(
        f"{run}: {_describe_gap(due, int(seqs[due]))}; "
        f"`caviar repair {shlex.quote(str(run))}` keeps all that can be read"
    )


def read_intact_parts(folder: Path, schema: pa.Schema) -> tuple[list[dict[str, Any]], list[Path]]:
    """The rows of those parts of a table that are not damaged, and the damaged parts.

    Raises:
        RunError: If a part cannot be read for another reason than damage: its rows may be sound.
    """
    rows: list[dict[str, Any]] = []
    damaged: list[Path] = []
    for part in _find_parts(folder):
        try:
            rows += read_part(part, schema).to_pylist()
        except DamageError:
            damaged.append(part)
    return rows, damaged


def read_table(folder: Path) -> pa.Table:
    """One whole table of a run, for reading only; the folder's name says which one.

    The columns that every run has are always there: null where an older version had none.

    Raises:
        RunError: If a part cannot be read, there is none, or the table does not fit into memory.
    """
    parts = list_parts(folder)
    if not parts:
        raise RunError(f"{folder}: needs at least one part of the table, found none")
    return _add_missing(_join(folder, parts), FIXED_COLUMNS[folder.name])


def read_schema_versions(run: Path) -> set[int]:
    """The schema numbers of all parts of a run whose footer is not damaged.

    Raises:
        RunError: If a part cannot be read for another reason than damage.
    """
    versions = set()
    for name in TABLES:
        for part in _find_parts(run / name):
            try:
                require_regular_file(part)
                with reading_part(part):
                    version = _read_version(pq.read_schema(part))
            except DamageError:
                continue
            if version is not None:
                versions.add(version)
    return versions


def _list_folder(folder: Path) -> list[Path]:
    with reading_part(folder / "part-00000.parquet"):
        return sorted(folder.iterdir()) if folder.is_dir() else []


def _find_parts(folder: Path) -> list[Path]:
    found = (path for path in _list_folder(folder) if _PART_NAME.fullmatch(path.name))
    return sorted(found, key=_read_number)


def _read_number(part: Path) -> int:
    return int(part.name[5:-8])


def _iterate_rows(folder: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    for part in list_parts(folder):
        for batch in read_part(part, schema).to_batches(max_chunksize=5_000):
            yield from batch.to_pylist()


def _join(folder: Path, parts: Sequence[Path]) -> pa.Table:
    """The rows of all parts; a column that some parts lack is null in them."""
    footers = [_read_footer(part) for part in parts]
    # a cell takes 8 bytes or more, and callers make a frame, which is a second copy
    require_memory(folder, 2 * 8.0 * sum(f.num_rows * f.num_columns for f in footers))
    tables = [read_part(part, None) for part in parts]
    with reading_part(folder):
        return pa.concat_tables(tables, promote_options="default")


def _read_footer(path: Path) -> pq.FileMetaData:
    require_regular_file(path)
    with reading_part(path):
        metadata = pq.read_metadata(path)
    check_size(path, metadata)
    return metadata


def _describe_gap(due: int, seq: int) -> str:
    if seq > due:
        return f"row {due} of the log is missing, the next one is row {seq}"
    return f"row {seq} of the log is there twice, as if a part were copied"


def _require_known_version(path: Path, schema: pa.Schema) -> int:
    version = _read_version(schema)
    if version is None or version > SCHEMA_VERSION:
        raise RunError(
            f"{path}: this version reads tables up to schema {SCHEMA_VERSION}, "
            f"got {version or 'none'}; use the version of caviar that wrote the run"
        )
    return version


def _read_version(schema: pa.Schema) -> int | None:
    text = (schema.metadata or {}).get(b"caviar_schema_version", b"")
    return int(text) if text.isdigit() and len(text) < 10 else None


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
