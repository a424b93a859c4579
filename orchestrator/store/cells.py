"""Checks of a part's content that need neither its spec nor the other parts.

A run may come from a foreign machine, so a reader relies on nothing that was not checked: the
number of rows and the size of their text, before they fill the memory; the types of the columns;
and the range of each number.
"""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.errors import DamageError, RunError
from orchestrator.quote import quote, shorten
from orchestrator.store.memory import format_bytes, require_memory
from orchestrator.store.tables import FIXED_COLUMNS, Column

__all__ = ["check_cells", "check_columns", "check_size", "decode_text"]

#: A row takes at least 8 bytes of a part: its time hardly repeats and is not compressed well. The
#: smallest measured row of a run takes 35 bytes.
LEAST_ROW_BYTES = 4
#: Largest text in one cell, in bytes; the log writes at most `tables.TEXT_LIMIT` characters.
MOST_CELL_BYTES = 16 * 1024**2
#: By table: columns that have a value in every row.
_REQUIRED = {
    "events": ("seq", "at_seconds", "kind", "reason"),
    "epochs": (
        "seq", "at_seconds", "trial", "epoch", "attempt", "worker", "epoch_seconds", "last",
    ),
    "trials": (
        "trial", "status", "stage", "seed", "attempts", "epochs", "epoch_seconds", "reason",
        "started_at_seconds", "ended_at_seconds",
    ),
}  # fmt: skip
_FROM_1 = ("attempt", "attempts", "best_epoch", "rank", "rung", "stop_epoch", "zoom")
_FROM_0 = (
    "at_seconds", "budget_epochs", "budget_trials", "ended_at_seconds", "epoch",
    "epoch_seconds", "epochs", "peers", "seed", "seq", "start_epoch", "started_at_seconds", "trial",
    "worker",
)  # fmt: skip
#: By column: the smallest number in it. Numbers of these columns are also finite.
_LEAST = dict.fromkeys(_FROM_1, 1) | dict.fromkeys(_FROM_0, 0)
#: Types of a column that only some runs have; null: the column was empty.
_METRIC_TYPES = (pa.int64(), pa.float64(), pa.null())
_CONFIG_TYPES = (*_METRIC_TYPES, pa.bool_(), pa.string())


def check_size(path: Path, metadata: pq.FileMetaData) -> None:
    """Refuse a part that declares more rows than its bytes can hold, or than fit into memory.

    Raises:
        DamageError: If the file is too small for its number of rows.
        RunError: If the rows do not fit into memory.
    """
    rows, size = metadata.num_rows, path.stat().st_size
    if not 0 <= rows * LEAST_ROW_BYTES <= size:
        raise DamageError(f"{path}: not a table of caviar, it declares {rows} rows in {size} bytes")
    require_memory(path, 8.0 * rows * metadata.num_columns)


def check_columns(path: Path, schema: pa.Schema) -> None:
    """Refuse columns that no version of caviar writes.

    Raises:
        RunError: If a name occurs twice, or a column has another type than the table's.
    """
    fixed: dict[str, Column] = dict(FIXED_COLUMNS.get(path.parent.name, {}))
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise RunError(
            f"{path}: columns need different names, {quote(twice)} occurs more than once"
        )
    for field in schema:
        types: tuple[pa.DataType, ...]
        if field.name in fixed:
            types = (fixed[field.name].type, pa.null())
            needed = str(types[0])
        elif field.name.startswith("unit_"):
            types, needed = (pa.float64(), pa.null()), "numbers"
        elif field.name.startswith("config_"):
            types, needed = _CONFIG_TYPES, "a number, a truth value or text"
        else:
            types, needed = _METRIC_TYPES, "numbers, as a metric has"
        if field.type not in types:
            raise RunError(
                f"{path}: column {quote(field.name)} needs {needed}, got {shorten(str(field.type))}"
            )


def decode_text(path: Path, table: pa.Table) -> pa.Table:
    """The table with plain columns of text, which were read as dictionaries of their values.

    A dictionary holds each value once, so a small file can stand for more text than the memory
    holds.

    Raises:
        RunError: If a cell holds more text than the log writes, or the text does not fit into
            memory.
    """
    for i, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type):
            continue
        column = table.column(i)
        size = 0
        for chunk in column.chunks:
            lengths = pc.binary_length(chunk.dictionary)
            if (pc.max(lengths).as_py() or 0) > MOST_CELL_BYTES:
                raise RunError(
                    f"{path}: column {quote(field.name)} needs texts of at most "
                    f"{format_bytes(MOST_CELL_BYTES)}, got a longer one"
                )
            size += pc.sum(lengths.take(chunk.indices)).as_py() or 0
        require_memory(path, size)
        table = table.set_column(i, field.name, column.cast(field.type.value_type))
    return table


def check_cells(path: Path, table: pa.Table) -> None:
    """Refuse a null where a row needs a value, and a number outside of its column's range.

    Raises:
        DamageError: Naming the column.
    """
    required = _REQUIRED.get(path.parent.name, ())
    for name in table.column_names:
        column = table[name]
        if name in required and column.null_count:
            raise DamageError(f"{path}: column {name!r} needs a value in each row, got null")
        if pa.types.is_list(column.type) and pc.list_flatten(column).null_count:
            raise DamageError(f"{path}: column {name!r} needs lists of numbers, got null in one")
        if pa.types.is_null(column.type) or not table.num_rows:
            continue
        least, most = (0, 1) if name.startswith("unit_") else (_LEAST.get(name), math.inf)
        if least is None:
            continue
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
            raise DamageError(f"{path}: column {name!r} needs numbers, got NaN")
        for value in pc.min_max(column).as_py().values():
            if value is not None and not (least <= value <= most and abs(value) < math.inf):
                wanted = f"{least} to 1" if most == 1 else f"finite numbers from {least}"
                raise DamageError(f"{path}: column {name!r} needs {wanted}, got {value}")
