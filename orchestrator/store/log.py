"""The run's memory: three Parquet tables in its folder, written by this file alone.

A part becomes visible by a rename, whole or not at all, so the folder can be read at any moment. A
reader that opens a file twice, as DuckDB and Polars do, may find another one the second time, about
once in a thousand reads of a running search: it says so, and asking again works.

Reports and decisions lean on each other, so a flush changes `epochs` and `events` together: the new
events are staged under a name that nobody reads, with the number of epochs they go with; then the
epochs are renamed into place, then the events. After a crash in between, the next writer sees by
that number whether the staged events belong to the epochs on disk, and finishes the flush or drops
it. So the disk always holds all that had happened up to some moment.
"""

from __future__ import annotations

import heapq
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import RunError
from orchestrator.search.events import Event
from orchestrator.search.messages import Observation
from orchestrator.store.files import atomic_write
from orchestrator.store.tables import SCHEMA_VERSION, Tables
from orchestrator.store.trials_table import TrialsTable

__all__ = [
    "TABLES",
    "Log",
    "read_entries",
    "read_intact_parts",
    "read_table",
]

TABLES = ("events", "epochs", "trials")

PART_ROWS = 100_000  #: rewriting that many rows of 13 columns costs about 80 ms
PACK_ROWS = 5_000  #: rows that wait as dictionaries, 7 times as large as in a table's columns
FLUSH_SECONDS = 1.0  #: how far the tables may lag behind, at first
FLUSH_SHARE = 0.05  #: of the time may go into flushing; beyond it the interval grows
TRIALS_SHARE = 0.02  #: of the time may go into rewriting parts of the trials table


class _Appended:
    """An append-only table: the last part is rewritten until it is full, then the next begins."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._schema = schema
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.tmp"):
            left.unlink()
        parts = _parts(folder)
        self._folder, self._number = folder, max(len(parts) - 1, 0)
        self._whole_rows: int = sum(pq.ParquetFile(part).metadata.num_rows for part in parts[:-1])
        self._open = _read_part(parts[-1], schema) if parts else schema.empty_table()
        self._packed: list[pa.Table] = []
        self._waiting: list[dict[str, Any]] = []

    @property
    def rows(self) -> int:
        """How many there are, over all parts; also those that wait."""
        packed = sum(table.num_rows for table in (self._open, *self._packed))
        return int(self._whole_rows + packed + len(self._waiting))

    def append(self, row: dict[str, Any]) -> None:
        """It waits for the next flush."""
        self._waiting.append(row)
        if len(self._waiting) >= PACK_ROWS:
            self._pack()

    @property
    def path(self) -> Path:
        """The part that is open."""
        return self._folder / f"part-{self._number:05}.parquet"

    def extended(self) -> pa.Table | None:
        """The open part with what waits, if anything does; a full one is left for the next."""
        self._pack()
        if not self._packed:
            return None
        if self._open.num_rows >= PART_ROWS:
            self._whole_rows += self._open.num_rows
            self._number += 1
            self._open = self._schema.empty_table()
        # one chunk: a table of a chunk a flush takes longer to write with every flush
        return pa.concat_tables([self._open, *self._packed]).combine_chunks()

    def accept(self, table: pa.Table) -> None:
        """The open part on disk is now this table; nothing waits."""
        self._open = table
        self._packed.clear()

    def _pack(self) -> None:
        if self._waiting:
            self._packed.append(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting.clear()


class Log:
    """The tables of one run, open for writing. Whoever makes one holds the run's lock."""

    def __init__(self, run: Path, tables: Tables) -> None:
        self._tables = tables
        self._trials = run / "trials"
        self._trials.mkdir(parents=True, exist_ok=True)
        for left in self._trials.glob(".*.tmp"):
            left.unlink()
        self._epochs = _Appended(run / "epochs", tables.epochs)
        _settle(run / "events", self._epochs.rows)
        self._events = _Appended(run / "events", tables.events)
        self.ledger = TrialsTable(tables)
        self._seq = 0
        self._flushed = self._trials_written = time.monotonic()
        self._interval, self._trials_interval = FLUSH_SECONDS, FLUSH_SECONDS

    def restore(self, seq: int, at_seconds: float, entry: Event | Observation) -> None:
        """Take in a row that is on disk already."""
        self._seq = seq + 1
        self.ledger.apply(entry, at_seconds)

    def append(self, entry: Event | Observation, at_seconds: float) -> None:
        """One more row; on disk with the next flush."""
        if isinstance(entry, Event):
            self._events.append(self._tables.event_row(self._seq, at_seconds, entry))
        else:
            self._epochs.append(self._tables.epoch_row(self._seq, entry))
        self._seq += 1
        self.ledger.apply(entry, at_seconds)

    def due(self) -> bool:
        """Whether it is time to flush."""
        return time.monotonic() - self._flushed >= self._interval

    def flush(self, *, final: bool = False) -> None:
        """Write what is new; the trials table too, when its share of the time allows it."""
        begin = time.monotonic()
        self._commit()
        self._flushed = time.monotonic()
        self._interval = max(FLUSH_SECONDS, (self._flushed - begin) / FLUSH_SHARE)
        if final or self._flushed - self._trials_written >= self._trials_interval:
            self._write_trials()
            self._trials_written = time.monotonic()
            spent = self._trials_written - self._flushed
            self._trials_interval = max(FLUSH_SECONDS, spent / TRIALS_SHARE)

    def _commit(self) -> None:
        """Both tables, together; see the top of this file."""
        events, epochs = self._events.extended(), self._epochs.extended()
        staged = _staged(self._events.path)
        if events is not None:
            _write_part(staged, events, goes_with=str(self._epochs.rows))
        if epochs is not None:
            _write_part(self._epochs.path, epochs)
            self._epochs.accept(epochs)
        if events is not None:
            staged.replace(self._events.path)
            self._events.accept(events)

    def _write_trials(self) -> None:
        for part in sorted(self.ledger.changed):
            table = pa.Table.from_pylist(self.ledger.rows(part), schema=self._tables.trials)
            _write_part(self._trials / f"part-{part:05}.parquet", table)
        self.ledger.changed.clear()


def _staged(part: Path) -> Path:
    """Where a part waits for its epochs: begins with a dot and does not end in .parquet."""
    return part.with_name(f".{part.name}.staged")


def _settle(events: Path, epochs: int) -> None:
    """Finish a flush whose epochs are on disk; drop one whose epochs are not."""
    for staged in events.glob(".*.staged"):
        metadata = _read_part(staged, None).schema.metadata
        if metadata.get(b"caviar_goes_with") == str(epochs).encode():
            staged.replace(events / staged.name.removeprefix(".").removesuffix(".staged"))
        else:
            staged.unlink()


def read_entries(run: Path, tables: Tables) -> Iterator[tuple[int, float, Event | Observation]]:
    """All rows of events and epochs as (seq, at_seconds, value), in the order they came in."""
    rows = heapq.merge(
        _rows(run / "events", tables.events),
        _rows(run / "epochs", tables.epochs),
        key=lambda row: row["seq"],
    )
    for row in rows:
        entry = tables.event(row) if "kind" in row else tables.observation(row)
        yield row["seq"], row["at_seconds"], entry


def _rows(folder: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    for part in _parts(folder):
        for batch in _read_part(part, schema).to_batches(max_chunksize=5_000):
            yield from batch.to_pylist()


def read_intact_parts(folder: Path, schema: pa.Schema) -> tuple[list[dict[str, Any]], list[Path]]:
    """The rows of those parts of a table that can be read whole, and the parts that cannot."""
    rows: list[dict[str, Any]] = []
    damaged: list[Path] = []
    for part in _parts(folder):
        try:
            rows += _read_part(part, schema).to_pylist()
        except RunError:
            damaged.append(part)
    return rows, damaged


def read_table(folder: Path) -> pa.Table:
    """A table of a run, whole; for reading only.

    Raises:
        RunError: If a part cannot be read, or there is none.
    """
    parts = _parts(folder)
    if not parts:
        raise RunError(f"{folder}: needs at least one part of the table, found none")
    return pa.concat_tables([_read_part(part, None) for part in parts])


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _read_part(path: Path, schema: pa.Schema | None) -> pa.Table:
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (OSError, pa.ArrowException) as e:
        run = shlex.quote(str(path.parent.parent))
        raise RunError(
            f"{path}: not a whole Parquet file ({_first_line(e)}); "
            f"`caviar repair {run}` keeps all that can be read"
        ) from e
    version = (table.schema.metadata or {}).get(b"caviar_schema_version", b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise RunError(
            f"{path}: this version reads tables of schema {SCHEMA_VERSION}, got {version}; "
            f"use the version of caviar that wrote the run"
        )
    if schema is not None and not table.schema.equals(schema):
        raise RunError(
            f"{path}: its columns are not those of the run's spec.yaml; was it edited by hand?"
        )
    return table


def _write_part(path: Path, table: pa.Table, *, goes_with: str | None = None) -> None:
    if goes_with is not None:
        table = table.replace_schema_metadata(
            {**table.schema.metadata, b"caviar_goes_with": goes_with.encode()}
        )
    # a fourth of the time of zstd with dictionaries of numbers, which hardly repeat, for as many
    # bytes; the least, by far, where a flush has few rows
    words = [field.name for field in table.schema if pa.types.is_string(field.type)]
    with atomic_write(path) as file:
        pq.write_table(
            table, file, compression="snappy", use_dictionary=words, write_page_checksum=True
        )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
