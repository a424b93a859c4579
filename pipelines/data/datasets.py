"""From what a user names, a file, a folder or a built-in set, to a checked table of columns.

`sources` finds the columns, `columns` makes numbers or text of them; here it is settled which of
them is the target, and that there is something to learn from.
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
    cast,
    cast_target_like,
    is_numeric,
    like,
    match_labels,
    numbers,
    one_matrix,
    positional,
    settle,
    texts,
    tidy,
    tidy_target,
)
from pipelines.data.hints import find_similar, format_names
from pipelines.data.sources import BUILT_IN, Raw, load

__all__ = [
    "BUILT_IN",
    "Table",
    "fingerprint",
    "is_numeric",
    "match_labels",
    "numbers",
    "one_matrix",
    "read",
    "read_features",
    "texts",
]

MIN_ROWS = 10  # fewer leave too little for three parts
BLOCK_ROWS = 8192  # rows converted at a time, so that no float64 copy of all rows is held


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns to learn from and the column to predict; every row's target is known."""

    features: pd.DataFrame  #: N rows; each column numbers or text, named by text
    target: pd.Series[Any]  #: N values: numbers, bools or text; none is missing
    target_name: str
    test_features: pd.DataFrame | None = None  #: the same columns, if a test set came along
    test_target: pd.Series[Any] | None = None
    image: bool = False  #: all features are pixels on one common scale
    source: str  #: as the user named it
    has_header: bool  #: False: columns are named by their position, "0", "1", ...
    notes: tuple[str, ...] = ()  #: what was left out, for the user to read


def read(source: str, *, target: str | None = None, test: str | None = None) -> Table:
    """Read what `source` names into a checked table.

    Args:
        source: One of `BUILT_IN`, or a path. `./digits` is the way to a file of a built-in's name.
        target: The column to predict, by name; without a header by position, "0", "1", ..., "-1".
            None takes the labels of the format, else the last column.
        test: A second source with the same columns; it becomes the test set.

    Raises:
        DataError: If a source cannot be read, or there is nothing in it to learn from.
    """
    raw = load(source)
    name = _target_name(raw, target, source)
    columns = [c for c in raw.frame.columns if c != name]
    if not columns:
        raise DataError(
            f"{source}: needs at least one feature column besides the target, got one column "
            f"{name!r}; separate the columns with , ; tab | or spaces"
        )
    frame, values, notes = _known(raw.frame[columns], tidy_target(raw.frame[name], source), source)
    features, values = tidy(frame, source), settle(values, dropped=bool(notes))
    _check(features, values, source)
    test_features = test_target = None
    if (found := _test_set(raw, test, columns, name)) is not None:
        where = test or source
        frame, labels, dropped = _known(found[0], cast_target_like(found[1], values, where), where)
        test_features, test_target = like(frame, features, where), cast(labels, values)
        notes += dropped
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
    so that "007" stays a category; `preprocessing.apply` knows which columns are numbers. Of a
    source that brings a test set, the test set is read.

    Returns:
        The columns in the order of `columns`, and the target where the source has it.

    Raises:
        DataError: If the source cannot be read or lacks a column; it names the column.
    """
    layouts = [list(columns)]
    if target_name is not None and positional(columns):
        at = int(target_name) if target_name.isdecimal() else len(columns)
        layouts.insert(0, [*columns[:at], target_name, *columns[at:]])
    return _find(source, layouts, columns, target_name)


def fingerprint(table: Table) -> str:
    """Name the table's content: 32 hex digits over names, kinds and values, not over the path."""
    digest = hashlib.sha256(json.dumps([table.target_name, table.image]).encode())
    parts = [table.features, table.target.to_frame("target")]
    if table.test_features is not None and table.test_target is not None:
        parts += [table.test_features, table.test_target.to_frame("target")]
    for part in parts:
        for piece in _bytes(part):
            digest.update(piece)
    return digest.hexdigest()[:32]


def _bytes(frame: pd.DataFrame) -> Iterator[bytes]:
    """All that identifies a frame; text as its distinct values and a code for each row."""
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


def _target_name(raw: Raw, target: str | None, where: str) -> str:
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


def _test_set(
    raw: Raw, test: str | None, columns: Sequence[str], name: str
) -> tuple[pd.DataFrame, pd.Series[Any]] | None:
    """The features and the target of `test`, else of the test set that came along, if any."""
    if test is None:
        return None if raw.test is None else (raw.test[list(columns)], raw.test[name])
    features, target = _find(test, [list(raw.frame.columns), columns], columns, name)
    if target is None:
        raise DataError(f"{test}: a test set needs the target, but there is no column {name!r}")
    return features, target


def _find(
    source: str, layouts: Sequence[Sequence[str]], columns: Sequence[str], target_name: str | None
) -> tuple[pd.DataFrame, pd.Series[Any] | None]:
    """The columns and, where it is there, the target; `layouts` name columns without a header."""
    known = [name for name in (*columns, target_name) if name is not None]
    raw = load(source, known=known, as_text=True)
    frame = raw.frame if raw.test is None else raw.test
    missing = [c for c in columns if c not in frame.columns]
    if missing and raw.has_header and not positional(columns):
        found = find_similar(missing[0], list(frame.columns))
        hint = f"; did {found[0]!r} mean {missing[0]!r}?" if found else "; add it to the file"
        raise DataError(f"{source}: needs column {format_names(missing)}, which is not there{hint}")
    if missing or not raw.has_header:
        fitting = next((each for each in layouts if len(each) == frame.shape[1]), None)
        if fitting is None:
            widths = " or ".join(str(len(layout)) for layout in layouts)
            raise DataError(
                f"{source}: without a header it needs {widths} columns, got {frame.shape[1]}; "
                "put the same columns in, or the same header on top"
            )
        frame = frame.set_axis(list(fitting), axis=1)
    target = frame[target_name] if target_name in frame.columns else None
    return frame[list(columns)], target


# --- what can be learnt from ------------------------------------------------------------------


def _known(
    features: pd.DataFrame, target: pd.Series[Any], where: str
) -> tuple[pd.DataFrame, pd.Series[Any], tuple[str, ...]]:
    """The rows whose target is known."""
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


def _check(features: pd.DataFrame, target: pd.Series[Any], where: str) -> None:
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
