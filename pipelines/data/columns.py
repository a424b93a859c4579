"""Columns made tidy: numbers (a NumPy dtype, NaN where missing) or text (missing where blank).

Missing is what pandas takes for missing ("", "NA", "nan", "null", "None", ...), a lone "?",
infinities, and numbers that float32 cannot hold.
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
    "cast",
    "cast_target_like",
    "is_numeric",
    "like",
    "match_labels",
    "number_columns",
    "numbers",
    "one_matrix",
    "positional",
    "settle",
    "texts",
    "tidy",
    "tidy_target",
]

type_of = pd.api.types

MISSING = frozenset(  # what pandas takes for missing, and "?"
    ("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "NaN", "nan", "None")
)
TRUTH = {"True": "1", "TRUE": "1", "true": "1", "False": "0", "FALSE": "0", "false": "0"}
FLOAT32_MAX = float(np.finfo(np.float32).max)
# kinds of values, as pandas infers them
DATES = ("datetime64", "datetime", "date")
SPANS = ("timedelta64", "timedelta")
NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal", *DATES, *SPANS)


def number_columns(width: int) -> list[str]:
    """The names that columns get where no header gives them any: "0", "1", ..."""
    return [str(i) for i in range(width)]


def positional(columns: Sequence[str]) -> bool:
    """Whether these look like the names that `number_columns` gives."""
    return all(c.isdecimal() for c in columns)


def is_numeric(column: pd.Series[Any]) -> bool:
    """Whether a tidy column holds numbers; else it holds text."""
    return bool(type_of.is_numeric_dtype(column.dtype))


def numbers(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """The column as numbers, NaN where missing; true and false are 1 and 0, a date its seconds.

    Raises:
        DataError: If a value is there that is not a number.
    """
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
        return column
    if not is_numeric(column):
        column = _measured(column, where)
    narrow = column.dtype in (np.float16, np.float32)
    values = column.astype("float32" if narrow else "float64")
    return values.mask(values.abs() > FLOAT32_MAX)


def _measured(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """Dates and spans of time as seconds, all else by how it is written."""
    kind = type_of.infer_dtype(column, skipna=True)
    if kind in DATES:
        return (pd.to_datetime(column, utc=True) - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    if kind in SPANS:
        return pd.to_timedelta(column).dt.total_seconds()
    text = texts(column, where)
    values = pd.to_numeric(text.replace(TRUTH), errors="coerce")
    if (wrong := text.notna() & values.isna()).any():
        raise DataError(
            f"{where}: column {text.name!r} needs numbers, got {text[wrong].iloc[0]!r}; "
            f"{int(wrong.sum())} of {len(text)} rows need a number there or nothing"
        )
    return values


def texts(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """The column as text without outer blanks, missing where it says nothing; 3.0 reads "3".

    Raises:
        DataError: If a value is neither text nor a number, such as a list.
    """
    if not isinstance(column.dtype, pd.StringDtype):
        try:
            column = column.astype(object).map(_spelled, na_action="ignore").astype("str")
        except TypeError as error:
            raise DataError(
                f"{where}: column {column.name!r} needs numbers or text, got {error}; "
                "leave it out or spread it over columns"
            ) from None
    column = column.str.strip()
    return column.where(~column.isin(MISSING))


def _spelled(value: object) -> str:
    if isinstance(value, float | np.floating | Decimal):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, str | int | np.integer | np.bool_):
        return str(value)
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
        return str(value)
    raise TypeError(f"a {type(value).__name__}")


# --- whole tables -----------------------------------------------------------------------------


def tidy(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Each column as numbers or text, whichever it looks like."""
    if (block := one_matrix(frame)) is not None:
        return block
    return pd.DataFrame({c: _tidy_column(frame[c], where) for c in frame.columns})


def like(frame: pd.DataFrame, example: pd.DataFrame, where: str) -> pd.DataFrame:
    """Each column as numbers or text, whichever it is in `example`."""
    if one_matrix(example) is not None and (block := one_matrix(frame)) is not None:
        return block
    return pd.DataFrame(
        {c: (numbers if is_numeric(example[c]) else texts)(frame[c], where) for c in frame.columns}
    )


def one_matrix(frame: pd.DataFrame) -> pd.DataFrame | None:
    """The frame, if it is tidy and all of one type, as pixels are: no column needs a look."""
    dtypes = set(frame.dtypes)
    if len(dtypes) != 1 or not isinstance(dtype := dtypes.pop(), np.dtype):
        return None
    if dtype.kind == "f" and (np.abs(frame.to_numpy()) > FLOAT32_MAX).any():
        return None
    return frame if dtype.kind in "iuf" else None


def _tidy_column(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    numeric = type_of.infer_dtype(column, skipna=True) in NUMBERS
    return (numbers if numeric else texts)(column, where)


# --- targets ----------------------------------------------------------------------------------


def tidy_target(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """The target as numbers, text or, until `settle` has seen it, objects that are bools."""
    if type_of.infer_dtype(column, skipna=True) == "boolean":
        return column.astype(object)
    return _tidy_column(column, where)


def settle(target: pd.Series[Any], *, dropped: bool) -> pd.Series[Any]:
    """Undo what a missing value did to the type: it makes bools objects and integers floats."""
    return (_whole(target) if dropped else target).infer_objects()


def cast_target_like(column: pd.Series[Any], example: pd.Series[Any], where: str) -> pd.Series[Any]:
    """The target of a test set as numbers or text, whichever it is in `example`."""
    if is_numeric(example):  # a bool is a number here, too
        return numbers(column, where)
    return match_labels(texts(column, where), list(example.unique()))


def cast(target: pd.Series[Any], example: pd.Series[Any]) -> pd.Series[Any]:
    """A test set's target, none missing any more, as bools or integers where `example` is."""
    if example.dtype == bool:
        return target == 1
    return _whole(target) if example.dtype.kind in "iu" else target


def match_labels(found: pd.Series[Any], known: Sequence[object]) -> pd.Series[Any]:
    """Labels with a trailing "." taken off where that makes them known, as in UCI's adult.test."""
    bare = found.str.removesuffix(".")
    return found.where(found.isin(known) | ~bare.isin(known), bare)


def _whole(target: pd.Series[Any]) -> pd.Series[Any]:
    whole = target.dtype.kind == "f" and bool((target % 1 == 0).all())
    return target.astype("int64") if whole else target
