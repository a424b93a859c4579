"""Tidy columns: numbers (a NumPy dtype, NaN where missing) or text (missing where blank).

A value is missing if pandas takes it for missing ("", "NA", "nan", "null", "None", ...), if it is a
lone "?", an infinity, or a number that float32 cannot hold.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.errors import DataError

__all__ = [
    "MISSING",
    "are_positional",
    "cast_like",
    "cast_target_like",
    "find_uniform_frame",
    "is_numeric",
    "make_positional_names",
    "match_labels",
    "read_numbers",
    "read_texts",
    "restore_target_type",
    "restore_type_like",
    "tidy_frame",
    "tidy_target",
]

type_of = pd.api.types

#: Texts that stand for a missing value: those of pandas, and "?".
MISSING = frozenset(
    ("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "NaN", "nan", "None")
)
#: Truth values as numbers.
TRUTH = {"True": "1", "TRUE": "1", "true": "1", "False": "0", "FALSE": "0", "false": "0"}
FLOAT32_MAX = float(np.finfo(np.float32).max)
# Kinds of values, as pandas infers them.
DATES = ("datetime64", "datetime", "date")
SPANS = ("timedelta64", "timedelta")
NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal", *DATES, *SPANS)


def make_positional_names(width: int) -> list[str]:
    """Make the names of columns without a header: "0", "1", ..."""
    return [str(i) for i in range(width)]


def are_positional(columns: Sequence[str]) -> bool:
    """Tell whether the names look like those of `make_positional_names`."""
    return all(c.isdecimal() for c in columns)


def is_numeric(column: pd.Series[Any]) -> bool:
    """Tell whether a tidy column holds numbers; else it holds text."""
    return bool(type_of.is_numeric_dtype(column.dtype))


def read_numbers(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """Read a column as numbers: NaN where missing, 1 and 0 for true and false, a date's seconds.

    Raises:
        DataError: If a value is not a number.
    """
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
        return column
    if not is_numeric(column):
        column = _convert_to_numbers(column, where)
    narrow = column.dtype in (np.float16, np.float32)
    values = column.astype("float32" if narrow else "float64")
    return values.mask(values.abs() > FLOAT32_MAX)


def _convert_to_numbers(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """Convert dates and spans of time to seconds, and all else by its text."""
    kind = type_of.infer_dtype(column, skipna=True)
    if kind in DATES:
        return (pd.to_datetime(column, utc=True) - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    if kind in SPANS:
        return pd.to_timedelta(column).dt.total_seconds()
    text = read_texts(column, where)
    values = pd.to_numeric(text.replace(TRUTH), errors="coerce")
    if (wrong := text.notna() & values.isna()).any():
        raise DataError(
            f"{where}: column {text.name!r} needs numbers, got {text[wrong].iloc[0]!r}; "
            f"{int(wrong.sum())} of {len(text)} rows need a number there or nothing"
        )
    return values


def read_texts(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """Read a column as text without outer blanks, missing where it is empty; 3.0 becomes "3".

    Raises:
        DataError: If a value is neither text nor a number, such as a list.
    """
    if not isinstance(column.dtype, pd.StringDtype):
        try:
            column = column.astype(object).map(_format_value, na_action="ignore").astype("str")
        except TypeError as error:
            raise DataError(
                f"{where}: column {column.name!r} needs numbers or text, got {error}; "
                "leave it out or spread it over columns"
            ) from None
    column = column.str.strip()
    return column.where(~column.isin(MISSING))


def _format_value(value: object) -> str:
    """Format a value of a text column.

    Raises:
        TypeError: If the value is neither text, a number nor a time.
    """
    if isinstance(value, float | np.floating | Decimal):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, str | int | np.integer | np.bool_):
        return str(value)
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
        return str(value)
    raise TypeError(f"a {type(value).__name__}")


# --- whole tables -----------------------------------------------------------------------------


def tidy_frame(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Read each column as numbers or text, whichever its values look like."""
    if (block := find_uniform_frame(frame)) is not None:
        return block
    return pd.DataFrame({c: _tidy_column(frame[c], where) for c in frame.columns})


def cast_like(frame: pd.DataFrame, example: pd.DataFrame, where: str) -> pd.DataFrame:
    """Read each column as numbers or text, whichever the column of `example` is."""
    if find_uniform_frame(example) is not None and (block := find_uniform_frame(frame)) is not None:
        return block
    return pd.DataFrame(
        {
            c: (read_numbers if is_numeric(example[c]) else read_texts)(frame[c], where)
            for c in frame.columns
        }
    )


def find_uniform_frame(frame: pd.DataFrame) -> pd.DataFrame | None:
    """Return the frame if it is tidy and all of one type, as pixels are; else None."""
    dtypes = set(frame.dtypes)
    if len(dtypes) != 1 or not isinstance(dtype := dtypes.pop(), np.dtype):
        return None
    if dtype.kind == "f" and (np.abs(frame.to_numpy()) > FLOAT32_MAX).any():
        return None
    return frame if dtype.kind in "iuf" else None


def _tidy_column(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    numeric = type_of.infer_dtype(column, skipna=True) in NUMBERS
    return (read_numbers if numeric else read_texts)(column, where)


# --- targets ----------------------------------------------------------------------------------


def tidy_target(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """Read the target as numbers, text or, until `restore_target_type`, objects that are bools."""
    if type_of.infer_dtype(column, skipna=True) == "boolean":
        return column.astype(object)
    return _tidy_column(column, where)


def restore_target_type(target: pd.Series[Any], *, had_missing: bool) -> pd.Series[Any]:
    """Restore the type that missing values changed: bools to objects, integers to floats."""
    return (_cast_whole_numbers(target) if had_missing else target).infer_objects()


def cast_target_like(column: pd.Series[Any], example: pd.Series[Any], where: str) -> pd.Series[Any]:
    """Read the target of a test set as numbers or text, whichever `example` is."""
    if is_numeric(example):  # a bool is a number here, too
        return read_numbers(column, where)
    return match_labels(read_texts(column, where), list(example.unique()))


def restore_type_like(target: pd.Series[Any], example: pd.Series[Any]) -> pd.Series[Any]:
    """Convert a test set's target, none missing, to bools or integers where `example` is."""
    if example.dtype == bool:
        return target == 1
    return _cast_whole_numbers(target) if example.dtype.kind in "iu" else target


def match_labels(labels: pd.Series[Any], classes: Sequence[object]) -> pd.Series[Any]:
    """Remove a trailing "." where that makes a label one of the classes, as in UCI's adult.test."""
    bare = labels.str.removesuffix(".")
    return labels.where(labels.isin(classes) | ~bare.isin(classes), bare)


def _cast_whole_numbers(target: pd.Series[Any]) -> pd.Series[Any]:
    is_whole = target.dtype.kind == "f" and bool((target % 1 == 0).all())
    return target.astype("int64") if is_whole else target
