"""Tables in text files: guess the separator and the header, then read with pandas."""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.errors import DataError
from pipelines.data.columns import MISSING, are_positional, make_positional_names

__all__ = ["read_delimited"]

WHITESPACE = r"\s+"
#: Separators to try; of two that fit alike the one that is rarer in prose comes first.
SEPARATORS = ("\t", ";", "|", ",", WHITESPACE)
#: Least part of a file that the separator and the header are guessed from.
SAMPLE_BYTES, SAMPLE_LINES = 1 << 17, 20
#: Bytes of one line; a table of 100,000 columns has lines of 1 MB.
MAX_LINE_BYTES = 10_000_000
COMMENT = ("|", "#", "%", "@")
#: Encodings to try, in order; the second fits any bytes.
ENCODINGS = ("utf-8-sig", "latin-1")
DECIMAL_POINT = re.compile(r"-?\d+\.\d+")
DECIMAL_COMMA = r"^(-?\d+),(\d+)$"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How a delimited file is to be read."""

    separator: str  #: separator of the values, a regular expression
    skip: int  #: number of lines before the first row of values
    names: tuple[str, ...] | None  #: names in the header; None without a header
    comma: bool  #: whether numbers have a decimal comma


def read_delimited(
    path: Path, source: str, *, expected: Sequence[str] = (), as_text: bool = False
) -> tuple[pd.DataFrame, bool, tuple[str, ...]]:
    """Read a table of text, gzipped or not.

    Args:
        path: The file.
        source: Name of the file as the user wrote it, for messages.
        expected: Names of columns that a header would have; a row with most of them is a header.
        as_text: Whether values stay as they are written, so that "007" is no number.

    Returns:
        The columns, whether a header names them, and notes on what was left out.

    Raises:
        DataError: If the file is empty or no text, or its header does not fit.
        OSError, EOFError, zlib.error, csv.Error, ValueError: If the file is damaged.
    """
    layout = _guess_layout(_read_sample(path), expected, source)
    frame = _read_csv(path, layout, as_text)
    width = frame.shape[1]
    if layout.names is None:
        return frame.set_axis(make_positional_names(width), axis=1), False, ()
    if len(layout.names) > width or frame.iloc[:, len(layout.names) :].notna().any(axis=None):
        raise DataError(
            f"{source}: needs as many names in the header as values in a row, got "
            f"{len(layout.names)} names and {width} values; name every column"
        )
    names = [*layout.names, *[""] * (width - len(layout.names))]
    notes = []
    for i, name in enumerate(names):
        if not name and frame.iloc[:, i].isna().all():
            continue  # a separator at the end of each line
        if i == 0 and not name and _holds_row_numbers(frame.iloc[:, 0]):
            notes.append(f"{source}: the first column has no name and counts the rows; left out")
            continue
        names[i] = name or str(i)
    return frame.set_axis(names, axis=1)[[n for n in names if n]], True, tuple(notes)


def _read_csv(path: Path, layout: _Layout, as_text: bool) -> pd.DataFrame:
    def read_with(encoding: str) -> pd.DataFrame:
        return pd.read_csv(
            path,
            sep=layout.separator,
            header=None,
            skiprows=layout.skip,
            skipinitialspace=True,
            na_values=["?"],
            decimal="," if layout.comma else ".",
            dtype=str if as_text else None,
            encoding=encoding,
            low_memory=False,  # a column has one type, not one for each chunk
        )

    try:
        frame = read_with(ENCODINGS[0])
    except UnicodeDecodeError:
        frame = read_with(ENCODINGS[1])
    if as_text and layout.comma:
        return frame.replace(DECIMAL_COMMA, r"\1.\2", regex=True)
    return frame


def _holds_row_numbers(column: pd.Series[Any]) -> bool:
    """Tell whether the values are 0, 1, 2, ... or 1, 2, 3, ...: row names of pandas or of R."""
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    first = values.iloc[0]
    return first in (0, 1) and bool((values - first == np.arange(len(values))).all())


# --- the guess --------------------------------------------------------------------------------


def _read_sample(path: Path) -> bytes:
    """Read the first lines: at least 20, and at least 128 KiB, if the file has so many."""
    lines: list[bytes] = []
    size = 0
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            if len(line) == MAX_LINE_BYTES:
                raise DataError(
                    f"{path}: needs lines of at most {MAX_LINE_BYTES:,} bytes; is this a table?"
                )
            lines.append(line)
            size += len(line)
            if size >= SAMPLE_BYTES and len(lines) >= SAMPLE_LINES:
                break
    return b"".join(lines)


def _guess_layout(sample: bytes, expected: Sequence[str], source: str) -> _Layout:
    """Guess separator, comment lines, header and decimal comma from the first lines."""
    if b"\0" in sample:
        raise DataError(
            f"{source}: needs text, got zero bytes: another format, or UTF-16; save it as UTF-8"
        )
    lines = _decode(sample).splitlines()
    if not any(line.strip() for line in lines):
        raise DataError(f"{source}: needs rows with values, got an empty file")
    separator, width = _guess_separator(lines)
    value_lines = (i for i, line in enumerate(lines) if _has_values(line, separator, width))
    skip = next(value_lines, 0)
    first, *following = (row for row in _split_rows(lines[skip:], separator) if row)
    body = [row for row in following if len(row) == width]
    header = _is_header(first, body, expected)
    fields = [field for row in body for field in row]
    return _Layout(
        separator=separator,
        skip=skip + header,
        names=tuple(first) if header else None,
        comma=separator != ","
        and not any(DECIMAL_POINT.fullmatch(field) for field in fields)
        and any(re.fullmatch(DECIMAL_COMMA, field) for field in fields),
    )


def _decode(sample: bytes) -> str:
    try:
        return sample.decode(ENCODINGS[0])
    except UnicodeDecodeError:
        return sample.decode(ENCODINGS[1])


def _guess_separator(lines: Sequence[str]) -> tuple[str, int]:
    """Guess the separator that gives most lines an equal number of fields, and that number."""
    best, best_share, best_width = ",", 0.0, 1
    for separator in SEPARATORS:
        widths = [len(row) for row in _split_rows(lines, separator) if row]
        width, times = Counter(widths).most_common(1)[0]
        if width > 1 and times / len(widths) > best_share:
            best, best_share, best_width = separator, times / len(widths), width
    return best, best_width


def _split_rows(lines: Sequence[str], separator: str) -> list[list[str]]:
    """Split rows into fields without outer blanks; a quoted field can span several lines."""
    if separator == WHITESPACE:
        rows = (re.findall(r'"[^"]*"|\S+', line) for line in lines)
        return [[field.strip('"').strip() for field in row] for row in rows]
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    return [[field.strip() for field in row] for row in reader]


def _has_values(line: str, separator: str, width: int) -> bool:
    """Tell whether a line is neither blank nor a comment, which has fewer fields than a row."""
    if not line.strip():
        return False
    return not line.startswith(COMMENT) or len(_split_rows([line], separator)[0]) >= width


def _is_header(
    first: Sequence[str], body: Sequence[Sequence[str]], expected: Sequence[str]
) -> bool:
    """Tell whether the first row names the columns.

    The row is a header if it holds most of the expected names; if it has text over a column of
    numbers; if no name is expected and its numbers count from 0 or by years; or if, over columns of
    text, none of its fields occurs below although the values below do repeat.
    """
    has_names = bool(expected) and not are_positional(expected[:1])
    if has_names and 2 * len(set(first) & set(expected)) >= min(len(expected), len(first)):
        return True
    columns = [[v for v in column if v not in MISSING] for column in zip(*body, strict=True)]
    for name, values in zip(first, columns, strict=False):
        if name not in MISSING and not _is_number(name) and values and all(map(_is_number, values)):
            return True
    if not has_names and _is_sequence([name for name in first if _is_number(name)]):
        return True
    if any(map(_is_number, first)) or len(set(first)) < len(first) or not columns:
        return False
    occurs_below = any(name in values for name, values in zip(first, columns, strict=False))
    return not occurs_below and any(2 * len(set(values)) <= len(values) for values in columns)


def _is_sequence(fields: Sequence[str]) -> bool:
    """Tell whether fields are 0, 1, 2, ..., as pandas names columns, or three or more years."""
    if len(fields) < 3 or not all(field.isdecimal() for field in fields):
        return False
    start = int(fields[0])
    is_consecutive = [int(field) - start for field in fields] == list(range(len(fields)))
    return is_consecutive and (start == 0 or 1800 <= start <= 2200)


def _is_number(field: str) -> bool:
    try:
        float(field.replace(",", ".", 1))
    except ValueError:
        return False
    return True
