"""Tables in text files: what separates the values, whether there is a header, then pandas reads."""

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
from pipelines.data.columns import MISSING, number_columns, positional

__all__ = ["read_delimited"]

WHITESPACE = r"\s+"
SEPARATORS = ("\t", ";", "|", ",", WHITESPACE)  # where two fit alike, the rarer in prose is first
SAMPLE_BYTES, SAMPLE_LINES = 1 << 17, 20  # the separator and the header are guessed from so much
COMMENT = ("|", "#", "%", "@")
ENCODINGS = ("utf-8-sig", "latin-1")  # the second fits any bytes
DECIMAL_POINT = re.compile(r"-?\d+\.\d+")
DECIMAL_COMMA = r"^(-?\d+),(\d+)$"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How a delimited file is to be read."""

    separator: str
    skip: int  #: lines before the first row of values
    names: tuple[str, ...] | None  #: None where there is no header
    comma: bool  #: numbers have a decimal comma


def read_delimited(
    path: Path, source: str, *, known: Sequence[str] = (), as_text: bool = False
) -> tuple[pd.DataFrame, bool, tuple[str, ...]]:
    """Read a table of text, gzipped or not.

    Args:
        path: The file.
        source: The file as the user named it, for messages.
        known: Names of columns that are expected; a row that holds most of them is a header.
        as_text: Whether values stay as they are written, so that "007" is no number.

    Returns:
        The columns, whether a header names them, and notes on what was left out.

    Raises:
        DataError: If the file is empty or no text, or its header does not fit.
        OSError, EOFError, zlib.error, csv.Error, ValueError: If the file is damaged.
    """
    layout = _sniff(_sample(path), known, source)
    frame = _read_csv(path, layout, as_text)
    width = frame.shape[1]
    if layout.names is None:
        return frame.set_axis(number_columns(width), axis=1), False, ()
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
        if i == 0 and not name and _counts_rows(frame.iloc[:, 0]):
            notes.append(f"{source}: the first column has no name and counts the rows; left out")
            continue
        names[i] = name or str(i)
    return frame.set_axis(names, axis=1)[[n for n in names if n]], True, tuple(notes)


def _read_csv(path: Path, layout: _Layout, as_text: bool) -> pd.DataFrame:
    def read(encoding: str) -> pd.DataFrame:
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
        frame = read(ENCODINGS[0])
    except UnicodeDecodeError:
        frame = read(ENCODINGS[1])
    if as_text and layout.comma:
        return frame.replace(DECIMAL_COMMA, r"\1.\2", regex=True)
    return frame


def _counts_rows(column: pd.Series[Any]) -> bool:
    """Whether the values are 0, 1, 2, ... or 1, 2, 3, ...: the row names of pandas or of R."""
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    first = values.iloc[0]
    return first in (0, 1) and bool((values - first == np.arange(len(values))).all())


# --- the guess --------------------------------------------------------------------------------


def _sample(path: Path) -> bytes:
    """The first lines: at least 20, and at least 128 KiB, as far as there are any."""
    lines: list[bytes] = []
    size = 0
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for line in file:
            lines.append(line)
            size += len(line)
            if size >= SAMPLE_BYTES and len(lines) >= SAMPLE_LINES:
                break
    return b"".join(lines)


def _sniff(sample: bytes, known: Sequence[str], source: str) -> _Layout:
    """Guess separator, comment lines, header and decimal comma from the first lines."""
    if b"\0" in sample:
        raise DataError(
            f"{source}: needs text, got zero bytes: another format, or UTF-16; save it as UTF-8"
        )
    lines = _decoded(sample).splitlines()
    if not any(line.strip() for line in lines):
        raise DataError(f"{source}: needs rows with values, got an empty file")
    separator, width = _separator(lines)
    valued = (i for i, line in enumerate(lines) if _has_values(line, separator, width))
    skip = next(valued, 0)
    first, *others = (row for row in _rows(lines[skip:], separator) if row)
    body = [row for row in others if len(row) == width]
    header = _is_header(first, body, known)
    fields = [field for row in body for field in row]
    return _Layout(
        separator=separator,
        skip=skip + header,
        names=tuple(first) if header else None,
        comma=separator != ","
        and not any(DECIMAL_POINT.fullmatch(field) for field in fields)
        and any(re.fullmatch(DECIMAL_COMMA, field) for field in fields),
    )


def _decoded(sample: bytes) -> str:
    try:
        return sample.decode(ENCODINGS[0])
    except UnicodeDecodeError:
        return sample.decode(ENCODINGS[1])


def _separator(lines: Sequence[str]) -> tuple[str, int]:
    """The separator that gives most lines one and the same number of fields, and that number."""
    best, best_share, best_width = ",", 0.0, 1
    for separator in SEPARATORS:
        widths = [len(row) for row in _rows(lines, separator) if row]
        width, times = Counter(widths).most_common(1)[0]
        if width > 1 and times / len(widths) > best_share:
            best, best_share, best_width = separator, times / len(widths), width
    return best, best_width


def _rows(lines: Sequence[str], separator: str) -> list[list[str]]:
    """The fields of each row, without outer blanks; a quoted field may run over several lines."""
    if separator == WHITESPACE:
        rows = (re.findall(r'"[^"]*"|\S+', line) for line in lines)
        return [[field.strip('"').strip() for field in row] for row in rows]
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    return [[field.strip() for field in row] for row in reader]


def _has_values(line: str, separator: str, width: int) -> bool:
    """Whether a line is neither blank nor a comment, which has fewer fields than a row."""
    if not line.strip():
        return False
    return not line.startswith(COMMENT) or len(_rows([line], separator)[0]) >= width


def _is_header(first: Sequence[str], body: Sequence[Sequence[str]], known: Sequence[str]) -> bool:
    """Whether the first row names the columns.

    It does if it holds most of the names that are known; if it has text over a column of numbers;
    if no name is known and its numbers count from 0 or by years; or if, over columns of text,
    nothing of it comes again below although the values below do.
    """
    named = bool(known) and not positional(known[:1])
    if named and 2 * len(set(first) & set(known)) >= min(len(known), len(first)):
        return True
    columns = [[v for v in column if v not in MISSING] for column in zip(*body, strict=True)]
    for name, values in zip(first, columns, strict=False):
        if name not in MISSING and not _number(name) and values and all(map(_number, values)):
            return True
    if not named and _counts([name for name in first if _number(name)]):
        return True
    if any(map(_number, first)) or len(set(first)) < len(first) or not columns:
        return False
    again = any(name in values for name, values in zip(first, columns, strict=False))
    return not again and any(2 * len(set(values)) <= len(values) for values in columns)


def _counts(fields: Sequence[str]) -> bool:
    """Whether these are 0, 1, 2, ..., as pandas names columns, or at least three years in a row."""
    if len(fields) < 3 or not all(field.isdecimal() for field in fields):
        return False
    start = int(fields[0])
    in_a_row = [int(field) - start for field in fields] == list(range(len(fields)))
    return in_a_row and (start == 0 or 1800 <= start <= 2200)


def _number(field: str) -> bool:
    try:
        float(field.replace(",", ".", 1))
    except ValueError:
        return False
    return True
