"""The log of a run: three Parquet tables in its folder. This file alone writes them.

A part becomes visible by a rename, whole or not at all, so the folder can be read at any moment. A
reader that opens a file twice, as DuckDB and Polars do, may find another one the second time, about
once in a thousand reads of a running search: it says so, and asking again works.

Reports and decisions lean on each other, so a flush changes `epochs` and `events` together: the new
events are staged under a name that no reader opens, with the number of epochs they go with; then
the epochs are renamed into place, then the events. After a crash in between, the next writer sees
by that number whether the staged events belong to the epochs on disk, and finishes the flush or
drops it. So the disk always holds all that had happened up to some moment.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.search.events import Event
from orchestrator.search.messages import Observation
from orchestrator.store.aside import move_strays_aside
from orchestrator.store.files import atomic_write, make_folder, move, remove_file
from orchestrator.store.reading import count_part_rows, list_parts, list_staged_events, read_part
from orchestrator.store.tables import Tables
from orchestrator.store.trials_table import TrialsTable

__all__ = ["Log", "resolve_staged_events"]

PART_ROWS = 100_000  #: rows of a full part; rewriting that many of 13 columns takes about 80 ms
PACK_ROWS = (
    5_000  #: rows that may wait as dictionaries, which are 7 times as large as a table's columns
)
FLUSH_SECONDS = 1.0  #: seconds between two flushes, at least
FLUSH_SHARE = 0.05  #: fraction of the time that flushes may take; above it the interval grows
TRIALS_SHARE = 0.02  #: fraction of the time that rewriting parts of the trials table may take


class _Appended:
    """An append-only table: the last part is rewritten until it is full, then the next begins."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._schema = schema
        make_folder(folder)
        parts = list_parts(folder)
        self._folder, self._number = folder, max(len(parts) - 1, 0)
        self._whole_rows = sum(map(count_part_rows, parts[:-1]))
        self._open = read_part(parts[-1], schema) if parts else schema.empty_table()
        self._packed: list[pa.Table] = []
        self._waiting: list[dict[str, Any]] = []

    @property
    def rows(self) -> int:
        """Number of rows over all parts, those that wait for the next flush included."""
        packed = sum(table.num_rows for table in (self._open, *self._packed))
        return int(self._whole_rows + packed + len(self._waiting))

    def append(self, row: dict[str, Any]) -> None:
        """Add a row, which waits in memory for the next flush."""
        self._waiting.append(row)
        if len(self._waiting) >= PACK_ROWS:
            self._pack()

    @property
    def path(self) -> Path:
        """The file of the part that is still open."""
        return self._folder / f"part-{self._number:05}.parquet"

    def merge_waiting(self) -> pa.Table | None:
        """The open part and the waiting rows as one table, or None if no row waits.

        Where the open part is full, the table is the first one of the next part.
        """
        self._pack()
        if not self._packed:
            return None
        if self._open.num_rows >= PART_ROWS:
            self._whole_rows += self._open.num_rows
            self._number += 1
            self._open = self._schema.empty_table()
        # Joined to one chunk: a table with one chunk for each flush takes ever longer to write.
        return pa.concat_tables([self._open, *self._packed]).combine_chunks()

    def accept(self, table: pa.Table) -> None:
        """Take note that the open part on disk is now this table, so no row waits."""
        self._open = table
        self._packed.clear()

    def _pack(self) -> None:
        if self._waiting:
            self._packed.append(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting.clear()


class Log:
    """The tables of one run, open for writing; the caller holds the run's lock."""

    def __init__(self, run: Path, tables: Tables) -> None:
        self._tables = tables
        move_strays_aside(run)
        self._trials = run / "trials"
        make_folder(self._trials)
        list_parts(self._trials)  # a gap there is damage too
        self._epochs = _Appended(run / "epochs", tables.epochs)
        resolve_staged_events(run, self._epochs.rows)
        self._events = _Appended(run / "events", tables.events)
        self.ledger = TrialsTable(tables)
        self._seq = 0
        self._flushed = self._trials_written = time.monotonic()
        self._interval, self._trials_interval = FLUSH_SECONDS, FLUSH_SECONDS

    def restore(self, seq: int, at_seconds: float, entry: Event | Observation) -> None:
        """Take in an entry that is on disk already; after the last one, flush with `final`.

        The writer before may have been killed before it wrote the trials table.
        """
        self._seq = seq + 1
        self.ledger.apply(entry, at_seconds)

    def append(self, entry: Event | Observation, at_seconds: float) -> None:
        """Add an entry as one row, which is on disk after the next flush."""
        if isinstance(entry, Event):
            self._events.append(self._tables.event_row(self._seq, at_seconds, entry))
        else:
            self._epochs.append(self._tables.epoch_row(self._seq, entry))
        self._seq += 1
        self.ledger.apply(entry, at_seconds)

    def due(self) -> bool:
        """Whether the time for the next flush has come."""
        return time.monotonic() - self._flushed >= self._interval

    def flush(self, *, final: bool = False) -> None:
        """Write the new rows, and the trials table when its share of the time allows it."""
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
        """Write both append-only tables together, in the order that the top of this file gives."""
        events, epochs = self._events.merge_waiting(), self._epochs.merge_waiting()
        staged = _staged_path(self._events.path)
        if events is not None:
            _write_part(staged, events, epochs=self._epochs.rows)
        if epochs is not None:
            _write_part(self._epochs.path, epochs)
            self._epochs.accept(epochs)
        if events is not None:
            move(staged, self._events.path)
            self._events.accept(events)

    def _write_trials(self) -> None:
        for part in sorted(self.ledger.changed):
            table = pa.Table.from_pylist(self.ledger.rows(part), schema=self._tables.trials)
            _write_part(self._trials / f"part-{part:05}.parquet", table)
        self.ledger.changed.clear()


def _staged_path(part: Path) -> Path:
    """The hidden name under which a part of events waits until its epochs are on disk.

    Such a name begins with a dot and does not end in .parquet, so no reader opens it.
    """
    return part.with_name(f".{part.name}.staged")


def resolve_staged_events(run: Path, epochs: int) -> None:
    """Finish a flush whose epochs are on disk; drop one whose epochs are not.

    Args:
        run: The run's folder; the caller holds its lock.
        epochs: Number of rows of the epochs on disk.

    Raises:
        DamageError: If the file of a flush is damaged.
    """
    for staged in list_staged_events(run):
        metadata = read_part(staged, None).schema.metadata
        if metadata.get(b"caviar_goes_with") == str(epochs).encode():
            move(staged, staged.with_name(staged.name.removeprefix(".").removesuffix(".staged")))
        else:
            remove_file(staged)


def _write_part(path: Path, table: pa.Table, *, epochs: int | None = None) -> None:
    if epochs is not None:
        table = table.replace_schema_metadata(
            {**table.schema.metadata, b"caviar_goes_with": str(epochs).encode()}
        )
    # Snappy, and dictionaries for text alone: a fourth of the time of zstd with dictionaries of
    # numbers, which hardly repeat, for as many bytes. Where a flush has few rows, far less.
    words = [field.name for field in table.schema if pa.types.is_string(field.type)]
    with atomic_write(path) as file:
        pq.write_table(
            table, file, compression="snappy", use_dictionary=words, write_page_checksum=True
        )
