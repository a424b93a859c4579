"""From a file, a folder or a built-in set to a checked table of columns.

`sources` loads the columns, `columns` makes numbers or text of them. This module decides which of
them is the target, and checks that there is something to learn from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.errors import DataError
from pipelines.data.columns import (
    are_positional,
    cast_like,
    cast_target_like,
    is_numeric,
    restore_target_type,
    restore_type_like,
    tidy_frame,
    tidy_target,
)
from pipelines.data.hints import find_similar, format_names
from pipelines.data.sources import BUILT_IN, RawTable, load_source

__all__ = ["BUILT_IN", "Table", "compute_fingerprint", "read_features", "read_table"]

#: Smallest number of rows; fewer leave too little for three parts.
MIN_ROWS = 10
#: Rows hashed at a time, so that no copy of all rows is held.
BLOCK_ROWS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns to learn from and the column to predict; no row is without a target."""

    features: pd.DataFrame  #: N rows; each column has a name and holds numbers or text
    target: pd.Series[Any]  #: N values: numbers, bools or text; none is missing
    target_name: str  #: name of the column to predict
    test_features: pd.DataFrame | None = None  #: the test set's features, if there is one
    test_target: pd.Series[Any] | None = None  #: the test set's targets, if there is one
    image: bool = False  #: whether all features are pixels on one common scale
    source: str  #: name or path of the data, as the user wrote it
    has_header: bool  #: if False, columns are named by their position, "0", "1", ...
    notes: tuple[str, ...] = ()  #: what was left out, for the user to read


def read_table(source: str, *, target: str | None = None, test: str | None = None) -> Table:
    """Read a data set into a checked table.

    Args:
        source: One of `BUILT_IN`, or a path. A file with a built-in's name needs `./digits`.
        target: The column to predict, by name; without a header by position, "0", "1", ..., "-1".
            None takes the labels of the format, else the last column.
        test: A second source with the same columns, which becomes the test set.

    Raises:
        DataError: If a source cannot be read, or has nothing to learn from.
    """
    raw = load_source(source)
    name = _find_target_name(raw, target, source)
    columns = [c for c in raw.frame.columns if c != name]
    if not columns:
        raise DataError(
            f"{source}: needs at least one feature column besides the target, got one column "
            f"{name!r}; separate the columns with , ; tab | or spaces"
        )
    frame, values, notes = _drop_rows_without_target(
        raw.frame[columns], tidy_target(raw.frame[name], source), source
    )
    features = tidy_frame(frame, source)
    values = restore_target_type(values, had_missing=bool(notes))
    _check_learnable(features, values, source)
    test_features = test_target = None
    if (test_set := _find_test_set(raw, test, columns, name)) is not None:
        where = test or source
        frame, labels, test_notes = _drop_rows_without_target(
            test_set[0], cast_target_like(test_set[1], values, where), where
        )
        test_features = cast_like(frame, features, where)
        test_target = restore_type_like(labels, values)
        notes += test_notes
    return Table(
        features=features,
        target=values,
        target_name=name,
        test_features=test_features,
        test_target=test_target,
        image=raw.image,
        source=source,
        has_header=raw.has_header,
        notes=raw.notes + notes,
    )


def read_features(
    source: str, columns: Sequence[str], target_name: str | None
) -> tuple[pd.DataFrame, pd.Series[Any] | None]:
    """Read new rows for a model that was trained on `columns`.

    With a header columns are found by name, in any order, and others are ignored; without one
    they are taken by position. A delimited file's values come as text, just as they were written,
    so that "007" stays a category; `encode_features` knows which columns are numbers. If the
    source has a test set, that is what is read.

    Returns:
        The columns in the order of `columns`, and the target if the source has one.

    Raises:
        DataError: If the source cannot be read, or lacks a column, which the message names.
    """
    layouts = [list(columns)]
    if target_name is not None and are_positional(columns):
        at = int(target_name) if target_name.isdecimal() else len(columns)
        layouts.insert(0, [*columns[:at], target_name, *columns[at:]])
    return _read_columns(source, layouts, columns, target_name)


def compute_fingerprint(table: Table) -> str:
    """Compute 32 hex digits from the names, kinds and values of a table, not from its path."""
    digest = hashlib.sha256(json.dumps([table.target_name, table.image]).encode())
    parts = [table.features, table.target.to_frame("target")]
    if table.test_features is not None and table.test_target is not None:
        parts += [table.test_features, table.test_target.to_frame("target")]
    for part in parts:
        for piece in _serialise(part):
            digest.update(piece)
    return digest.hexdigest()[:32]


def _serialise(frame: pd.DataFrame) -> Iterator[bytes]:
    """Serialise all that identifies a frame; text as its values and a code for each row."""
    kinds = [str(frame[c].dtype) if is_numeric(frame[c]) else "text" for c in frame.columns]
    yield json.dumps([len(frame), list(frame.columns), kinds]).encode()
    if "text" not in kinds and len(set(kinds)) == 1:  # pixels: row blocks beat 784 columns
        for start in range(0, len(frame), BLOCK_ROWS):
            yield np.ascontiguousarray(frame.iloc[start : start + BLOCK_ROWS].to_numpy()).tobytes()
        return
    for column, kind in zip(frame.columns, kinds, strict=True):
        if kind == "text":
            codes, values = pd.factorize(frame[column])
            yield json.dumps([str(v) for v in values]).encode()
            yield codes.astype("<i8").tobytes()
        else:
            yield frame[column].to_numpy().tobytes()


# --- which column is which --------------------------------------------------------------------


def _find_target_name(raw: RawTable, target: str | None, where: str) -> str:
    names = list(raw.frame.columns)
    if target is None and raw.target_name is not None and raw.target_name not in names:
        raise DataError(
            f"{where}: needs {raw.target_name!r}, the target, beside the features; got only those"
        )
    if target is None:
        return raw.target_name or names[-1]
    if target in names:
        return target
    if raw.has_header:
        options = format_names(find_similar(target, names) or names, most=8)
        raise DataError(
            f"{where}: needs a column {target!r} to predict, which is not there; "
            f"type --target with one of {options}"
        )
    if re.fullmatch(r"-\d+", target) and int(target) >= -len(names):
        return names[int(target)]
    raise DataError(
        f"{where}: without a header a target is a column number from 0 to {len(names) - 1} "
        f"or -1 for the last, got --target {target!r}"
    )


def _find_test_set(
    raw: RawTable, test: str | None, columns: Sequence[str], name: str
) -> tuple[pd.DataFrame, pd.Series[Any]] | None:
    """Find the features and the target of `test`, or of the test set in `raw`, if there is one."""
    if test is None:
        return None if raw.test is None else (raw.test[list(columns)], raw.test[name])
    features, target = _read_columns(test, [list(raw.frame.columns), columns], columns, name)
    if target is None:
        raise DataError(f"{test}: a test set needs the target, but there is no column {name!r}")
    return features, target


def _read_columns(
    source: str, layouts: Sequence[Sequence[str]], columns: Sequence[str], target_name: str | None
) -> tuple[pd.DataFrame, pd.Series[Any] | None]:
    """Read the columns and, if there is one, the target; `layouts` name columns without header."""
    expected = [name for name in (*columns, target_name) if name is not None]
    raw = load_source(source, expected=expected, as_text=True)
    frame = raw.frame if raw.test is None else raw.test
    missing = [c for c in columns if c not in frame.columns]
    if missing and raw.has_header and not are_positional(columns):
        similar = find_similar(missing[0], list(frame.columns))
        hint = f"; did {similar[0]!r} mean {missing[0]!r}?" if similar else "; add it to the file"
        raise DataError(f"{source}: needs column {format_names(missing)}, which is not there{hint}")
    if missing or not raw.has_header:
        names = next((layout for layout in layouts if len(layout) == frame.shape[1]), None)
        if names is None:
            widths = " or ".join(str(len(layout)) for layout in layouts)
            raise DataError(
                f"{source}: without a header it needs {widths} columns, got {frame.shape[1]}; "
                "put the same columns in, or the same header on top"
            )
        frame = frame.set_axis(list(names), axis=1)
    target = frame[target_name] if target_name in frame.columns else None
    return frame[list(columns)], target


# --- what can be learnt from ------------------------------------------------------------------


def _drop_rows_without_target(
    features: pd.DataFrame, target: pd.Series[Any], where: str
) -> tuple[pd.DataFrame, pd.Series[Any], tuple[str, ...]]:
    """Drop the rows without a target; a note says how many."""
    missing = target.isna()
    if not missing.any():
        return features, target, ()
    if missing.all():
        raise DataError(
            f"{where}: the target {target.name!r} is missing in all {len(target)} rows; "
            "name another column with --target"
        )
    note = f"{where}: {int(missing.sum())} of {len(target)} rows left out: no {target.name!r}"
    return (
        features[~missing].reset_index(drop=True),
        target[~missing].reset_index(drop=True),
        (note,),
    )


def _check_learnable(features: pd.DataFrame, target: pd.Series[Any], where: str) -> None:
    if len(features) < MIN_ROWS:
        raise DataError(
            f"{where}: needs at least {MIN_ROWS} rows with a target, got {len(features)}"
        )
    if target.nunique() < 2:
        raise DataError(
            f"{where}: the target {target.name!r} needs at least two different values, got only "
            f"{target.iloc[0]}; name another column with --target"
        )
    if empty := list(features.columns[features.isna().all()]):
        raise DataError(
            f"{where}: column {format_names(empty)} needs at least one value, got only missing "
            "ones; delete it from the file"
        )
