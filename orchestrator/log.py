"""The run's memory: three Parquet tables in its folder, written by this file alone.

A part becomes visible by a rename, whole or not at all, so pandas, DuckDB and Polars can read the
folder at any moment. A flush writes the beginnings of new trials, then reports, then all other
events. So after a crash there may be reports whose decision is missing (it is taken anew), but
never a decision whose reports are missing, nor a report of a trial that nobody knows.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import RunError
from orchestrator.events import Event, Kind
from orchestrator.ledger import Ledger
from orchestrator.search import Observation
from orchestrator.tables import SCHEMA_VERSION, Tables

__all__ = ["Lock", "Log", "entries", "read_table", "replacing"]

PART_ROWS = 100_000  #: rewriting that many rows of 13 columns costs about 80 ms
FLUSH_SECONDS = 1.0  #: how far the tables may lag behind, at first
FLUSH_SHARE = 0.05  #: of the time may go into flushing; beyond it the interval grows
TRIALS_SHARE = 0.02  #: of the time may go into rewriting parts of the trials table


#: Events that reports lean on: on disk before them.
_FIRST = (Kind.SESSION, Kind.START)


class Lock:
    """One writer at a time: an flock on run.lock, gone with its process however that ends.

    Raises:
        RunError: If another process holds it; the message names that one.
    """

    def __init__(self, run: Path) -> None:
        path = run / "run.lock"
        try:
            self._file: IO[str] = path.open("a+", encoding="utf-8")
        except OSError as e:
            raise RunError(f"{run}: needs a folder that can be written to: {e.strerror}") from e
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise RunError(
                f"{run}: {holder} is writing to this run; wait for it, stop it, "
                f"or give another folder with --out"
            ) from e
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._file.flush()

    def release(self) -> None:
        """Let the next writer in."""
        self._file.truncate(0)
        self._file.close()

    @staticmethod
    def held(run: Path) -> bool:
        """Whether some process is writing to the run now."""
        path = run / "run.lock"
        if not path.exists():
            return False
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False


class _Appended:
    """An append-only table: the last part is rewritten until it is full, then the next begins."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.tmp"):
            left.unlink()
        parts = _parts(folder)
        self._number = max(len(parts) - 1, 0)
        self._open = _read_part(parts[-1], schema) if parts else schema.empty_table()

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Put the rows on disk, and empty the list."""
        if not rows:
            return
        new = pa.Table.from_pylist(rows, schema=self._schema)
        rows.clear()
        self._open = pa.concat_tables([self._open, new])
        while self._open.num_rows >= PART_ROWS:
            self._write_open(self._open.slice(0, PART_ROWS))
            self._open = self._open.slice(PART_ROWS).combine_chunks()
            self._number += 1
        if self._open.num_rows:
            self._write_open(self._open)

    def _write_open(self, table: pa.Table) -> None:
        _write_part(self._folder / f"part-{self._number:05}.parquet", table)


class Log:
    """The tables of one run, open for writing. Whoever makes one holds the run's lock."""

    def __init__(self, run: Path, tables: Tables) -> None:
        self._tables = tables
        self._events = _Appended(run / "events", tables.events)
        self._epochs = _Appended(run / "epochs", tables.epochs)
        self._trials = run / "trials"
        self._trials.mkdir(exist_ok=True)
        for left in self._trials.glob(".*.tmp"):
            left.unlink()
        self.ledger = Ledger(tables)
        self._starts: list[dict[str, Any]] = []
        self._reports: list[dict[str, Any]] = []
        self._others: list[dict[str, Any]] = []
        self._ahead: set[tuple[int, int]] = set()  # (trial, epoch) on disk before its decision
        self._seq = 0
        self._flushed = self._trials_written = time.monotonic()
        self._interval, self._trials_interval = FLUSH_SECONDS, FLUSH_SECONDS

    def restore(
        self, seq: int, at_seconds: float, entry: Event | Observation, *, applied: bool
    ) -> None:
        """Take in a row that is on disk already.

        One that was not applied is a report whose trial had got there by a decision that was lost:
        it counts, once, when the trial gets there again.
        """
        self._seq = seq + 1
        if applied:
            self.ledger.apply(entry, at_seconds)
        elif isinstance(entry, Observation):
            self._ahead.add((entry.report.trial, entry.report.epoch))

    def append(self, entry: Event | Observation, at_seconds: float) -> None:
        """One more row; on disk with the next flush."""
        if isinstance(entry, Event):
            row = self._tables.event_row(self._seq, at_seconds, entry)
            (self._starts if entry.kind in _FIRST else self._others).append(row)
        elif (entry.report.trial, entry.report.epoch) not in self._ahead:
            self._reports.append(self._tables.epoch_row(self._seq, entry))
        self._seq += 1
        self.ledger.apply(entry, at_seconds)

    def due(self) -> bool:
        """Whether it is time to flush."""
        return time.monotonic() - self._flushed >= self._interval

    def flush(self, *, final: bool = False) -> None:
        """Write what is new; the trials table too, when its share of the time allows it."""
        begin = time.monotonic()
        self._events.write(self._starts)
        self._epochs.write(self._reports)
        self._events.write(self._others)
        self._flushed = time.monotonic()
        self._interval = max(FLUSH_SECONDS, (self._flushed - begin) / FLUSH_SHARE)
        if final or self._flushed - self._trials_written >= self._trials_interval:
            self._write_trials()
            self._trials_written = time.monotonic()
            spent = self._trials_written - self._flushed
            self._trials_interval = max(FLUSH_SECONDS, spent / TRIALS_SHARE)

    def _write_trials(self) -> None:
        for part in sorted(self.ledger.changed):
            table = pa.Table.from_pylist(self.ledger.rows(part), schema=self._tables.trials)
            _write_part(self._trials / f"part-{part:05}.parquet", table)
        self.ledger.changed.clear()


def entries(run: Path, tables: Tables) -> Iterator[tuple[int, float, Event | Observation]]:
    """All rows of events and epochs as (seq, at_seconds, value), in the order they were taken in.

    A (trial, epoch) that stands twice counts once: the first row wins.
    """
    seen: set[tuple[int, int]] = set()
    rows = heapq.merge(
        _rows(run / "events", tables.events),
        _rows(run / "epochs", tables.epochs),
        key=lambda row: row["seq"],
    )
    for row in rows:
        if "kind" in row:
            yield row["seq"], row["at_seconds"], tables.event(row)
        elif (row["trial"], row["epoch"]) not in seen:
            seen.add((row["trial"], row["epoch"]))
            yield row["seq"], row["at_seconds"], tables.observation(row)


def _rows(folder: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    parts = [_read_part(part, schema) for part in _parts(folder)]
    table = pa.concat_tables([schema.empty_table(), *parts]).sort_by("seq")
    for batch in table.to_batches(max_chunksize=5_000):
        yield from batch.to_pylist()


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
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowInvalid) as e:
        raise RunError(f"{path}: not a whole Parquet file ({_first_line(e)})") from e
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


def _write_part(path: Path, table: pa.Table) -> None:
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write to a name that nobody reads, then rename: a reader sees the old file or the new one."""
    tmp = path.with_name(f".{path.name}.tmp")
    try:
        with tmp.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise
    tmp.replace(path)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
