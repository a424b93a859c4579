"""From what a user names, a file, a folder or a built-in set, to a checked table of columns.

A column leaves here as one of two kinds: numbers (a NumPy dtype, NaN where missing) or text
(missing where blank). Missing is what pandas takes for missing ("", "NA", "nan", "null", "None",
...), a lone "?", infinities, and numbers that float32 cannot hold.
"""

from __future__ import annotations

import csv
import datetime
import difflib
import gzip
import hashlib
import json
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from orchestrator.errors import DataError

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

type_of = pd.api.types

BUILT_IN = ("digits", "wine", "breast_cancer", "diabetes")
DELIMITED = (".csv", ".tsv", ".data", ".test", ".txt", ".dat")
FORMS = "a .csv, .tsv, .data or .txt file (.gz too), .parquet, .npz, or a folder of IDX files"
MIN_ROWS = 10  # fewer leave too little for three parts
FLOAT32_MAX = float(np.finfo(np.float32).max)
BLOCK_ROWS = 8192  # rows converted at a time, so that no float64 copy of all rows is held

WHITESPACE = r"\s+"
SEPARATORS = ("\t", ";", "|", ",", WHITESPACE)  # where two fit alike, the rarer in prose is first
SAMPLE_BYTES, SAMPLE_LINES = 1 << 17, 20  # the separator and the header are guessed from so much
COMMENT = ("|", "#", "%", "@")
MISSING = frozenset(  # what pandas takes for missing, and "?"
    ("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "NaN", "nan", "None")
)
DECIMAL_POINT = re.compile(r"-?\d+\.\d+")
DECIMAL_COMMA = r"^(-?\d+),(\d+)$"
TRUTH = {"True": "1", "TRUE": "1", "true": "1", "False": "0", "FALSE": "0", "false": "0"}
IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Raw:
    """All columns of one source, the target among them, as they were found."""

    frame: pd.DataFrame
    has_header: bool = True
    image: bool = False
    target_name: str | None = None  #: where the format says it; else the last column
    test: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()


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
    raw = _load(source)
    names = list(raw.frame.columns)
    name = _target_name(raw, target, source)
    columns = [c for c in names if c != name]
    if not columns:
        raise DataError(
            f"{source}: needs at least one feature column besides the target, got one column "
            f"{name!r}; separate the columns with , ; tab | or spaces"
        )
    frame, values, notes = _known(raw.frame[columns], _tidy_target(raw.frame[name], source), source)
    features, values = _tidy(frame, source), _settle(values, dropped=bool(notes))
    _check(features, values, source)
    found, labels = raw.test, None
    if test is not None:
        found, labels = _find(test, [names, columns], columns, name)
        if labels is None:
            raise DataError(f"{test}: a test set needs the target, but there is no column {name!r}")
    elif found is not None:
        found, labels = found[columns], found[name]
    if found is not None and labels is not None:
        where = test or source
        found, labels, dropped = _known(found, _target_like(labels, values, where), where)
        found, labels = _like(found, features, where), _cast(labels, values)
        notes += dropped
    return Table(
        features=features,
        target=values,
        target_name=name,
        test_features=found,
        test_target=labels,
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
    if target_name is not None and _positional(columns):
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


# --- columns: numbers or text -----------------------------------------------------------------


def is_numeric(column: pd.Series[Any]) -> bool:
    """Whether a tidy column holds numbers; else it holds text."""
    return bool(type_of.is_numeric_dtype(column.dtype))


def numbers(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """The column as numbers, NaN where missing; true and false are 1 and 0, a date its seconds.

    Raises:
        DataError: If a value is there that is not a number.
    """
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return column
    if type_of.is_datetime64_any_dtype(dtype):
        column = (column - pd.Timestamp(0, tz=getattr(dtype, "tz", None))).dt.total_seconds()
    elif type_of.is_timedelta64_dtype(dtype):
        column = column.dt.total_seconds()
    elif not type_of.is_numeric_dtype(dtype):
        text = texts(column, where)
        column = pd.to_numeric(text.replace(TRUTH), errors="coerce")
        if (wrong := text.notna() & column.isna()).any():
            raise DataError(
                f"{where}: column {text.name!r} needs numbers, got {text[wrong].iloc[0]!r}; "
                f"{int(wrong.sum())} of {len(text)} rows need a number there or nothing"
            )
    narrow = column.dtype in (np.float16, np.float32)
    values = column.to_numpy(dtype="float32" if narrow else "float64", na_value=np.nan)
    if (beyond := np.abs(values) > FLOAT32_MAX).any():
        values = np.where(beyond, np.nan, values)
    return pd.Series(values, index=column.index, name=column.name)


def texts(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """The column as text without outer blanks, missing where it says nothing; 3.0 reads "3".

    Raises:
        DataError: If a value is neither text nor a number, such as a list.
    """
    if isinstance(column.dtype, pd.CategoricalDtype) or not type_of.is_string_dtype(column.dtype):
        column = column.astype(object)
    if column.dtype == object:
        try:
            column = column.map(_spelled, na_action="ignore")
        except TypeError as error:
            raise DataError(
                f"{where}: column {column.name!r} needs numbers or text, got {error}; "
                "leave it out or spread it over columns"
            ) from None
        column = column.astype("str" if column.notna().any() else object)
    column = column.str.strip()
    return column.where(~column.isin(MISSING))


def match_labels(found: pd.Series[Any], known: Sequence[object]) -> pd.Series[Any]:
    """Labels with a trailing "." taken off where that makes them known, as in UCI's adult.test."""
    bare = found.str.removesuffix(".")
    return found.where(found.isin(list(known)) | ~bare.isin(list(known)), bare)


def _spelled(value: object) -> str:
    if isinstance(value, str | bool | np.bool_):
        return str(value)
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating | Decimal):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
        return str(value)
    raise TypeError(f"a {type(value).__name__}")


def _tidy_column(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return texts(column, where)
    kind = type_of.infer_dtype(column, skipna=True)
    if kind in ("boolean", "integer", "floating", "mixed-integer-float", "decimal"):
        return numbers(column, where)
    if kind in ("datetime64", "datetime", "date"):
        return numbers(pd.to_datetime(column), where)
    if kind in ("timedelta64", "timedelta"):
        return numbers(pd.to_timedelta(column), where)
    return texts(column, where)


def _tidy(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    if (block := one_matrix(frame)) is not None:
        return block
    return pd.DataFrame({c: _tidy_column(frame[c], where) for c in frame.columns})


def _like(frame: pd.DataFrame, example: pd.DataFrame, where: str) -> pd.DataFrame:
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


def _tidy_target(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    if type_of.infer_dtype(column, skipna=True) == "boolean":
        return column.astype(object)  # bools stay bools; `_settle` casts when none is missing
    return _tidy_column(column, where)


def _settle(target: pd.Series[Any], *, dropped: bool) -> pd.Series[Any]:
    """Undo what a missing value did to the type: it makes bools objects and integers floats."""
    if target.dtype == object and type_of.infer_dtype(target) == "boolean":
        return target.astype(bool)
    if dropped and target.dtype.kind == "f" and (target % 1 == 0).all():
        return target.astype("int64")
    return target


def _target_like(column: pd.Series[Any], example: pd.Series[Any], where: str) -> pd.Series[Any]:
    if is_numeric(example):  # a bool is a number here, too
        return numbers(column, where)
    return match_labels(texts(column, where), list(example.unique()))


def _cast(target: pd.Series[Any], example: pd.Series[Any]) -> pd.Series[Any]:
    if example.dtype == bool:
        return target == 1
    if example.dtype.kind in "iu" and target.dtype.kind == "f" and (target % 1 == 0).all():
        return target.astype("int64")
    return target


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
    checked = [c for c in features.columns if features[c].dtype.kind not in "iu"]
    if empty := [c for c in checked if not features[c].notna().any()]:
        raise DataError(
            f"{where}: column {_list(empty)} needs at least one value, got only missing ones; "
            "delete it from the file"
        )


def _list(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


# --- which column is which --------------------------------------------------------------------


def _target_name(raw: _Raw, target: str | None, where: str) -> str:
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
        close = _list(_close(target, names) or names, most=8)
        raise DataError(
            f"{where}: needs a column {target!r} to predict, which is not there; "
            f"type --target with one of {close}"
        )
    if re.fullmatch(r"-\d+", target) and int(target) >= -len(names):
        return names[int(target)]
    raise DataError(
        f"{where}: without a header a target is a column number from 0 to {len(names) - 1} "
        f"or -1 for the last, got --target {target!r}"
    )


def _close(name: str, options: Sequence[str]) -> list[str]:
    by_lower = {option.lower(): option for option in options}
    return [by_lower[m] for m in difflib.get_close_matches(name.lower(), by_lower, cutoff=0.6)]


def _positional(columns: Sequence[str]) -> bool:
    """Whether these are names that columns get where no header gives them any."""
    return all(c.isdecimal() for c in columns)


def _find(
    source: str, layouts: Sequence[Sequence[str]], columns: Sequence[str], target_name: str | None
) -> tuple[pd.DataFrame, pd.Series[Any] | None]:
    """The columns and, where it is there, the target; `layouts` name columns without a header."""
    known = [*columns, *([] if target_name is None else [target_name])]
    raw = _load(source, known=known, as_text=True)
    frame = raw.frame if raw.test is None else raw.test
    missing = [c for c in columns if c not in frame.columns]
    if missing and raw.has_header and not _positional(columns):
        close = _close(missing[0], list(frame.columns))
        hint = f"; did {close[0]!r} mean {missing[0]!r}?" if close else "; add it to the file"
        raise DataError(f"{source}: needs column {_list(missing)}, which is not there{hint}")
    if missing or not raw.has_header:
        fitting = [list(layout) for layout in layouts if len(layout) == frame.shape[1]]
        if not fitting:
            widths = " or ".join(str(len(layout)) for layout in layouts)
            raise DataError(
                f"{source}: without a header it needs {widths} columns, got {frame.shape[1]}; "
                "put the same columns in, or the same header on top"
            )
        frame = frame.set_axis(fitting[0], axis=1)
    target = frame[target_name] if target_name in frame.columns else None
    return frame[list(columns)], target


# --- sources ----------------------------------------------------------------------------------


def _load(source: str, *, known: Sequence[str] = (), as_text: bool = False) -> _Raw:
    if source in BUILT_IN:
        return _built_in(source)
    path = Path(source).expanduser()
    ending = _ending(path)
    try:
        if path.is_dir():
            raw = _idx_folder(path, source)
        elif not path.exists():
            raise DataError(_not_there(path, source))
        elif ending == ".parquet":
            raw = _Raw(frame=pd.read_parquet(path).reset_index(drop=True))
        elif ending == ".npz":
            raw = _npz(path, source)
        elif ending in DELIMITED:
            raw = _delimited(path, source, known, as_text)
        else:
            raise DataError(f"{source}: needs {FORMS}, got the ending {ending!r}")
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError, csv.Error) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(
            f"{source}: needs a readable {ending or 'IDX'} file, got {type(error).__name__}: "
            f"{reason}; is it damaged, or of another format than its name says?"
        ) from error
    frame = raw.frame
    frame.columns = pd.Index([str(c).strip() for c in frame.columns])
    if doubled := [name for name, times in Counter(frame.columns).items() if times > 1]:
        raise DataError(
            f"{source}: column names must differ, but {_list(doubled)} occurs more than once; "
            "rename the columns"
        )
    if frame.empty:
        raise DataError(f"{source}: needs rows with values, got an empty table")
    return raw


def _not_there(path: Path, source: str) -> str:
    folder = path.parent
    nearby = [str(folder / p.name) for p in folder.iterdir()] if folder.is_dir() else []
    close = _close(source, [*BUILT_IN, *nearby])
    hint = f"did you mean {_list(close)}?" if close else f"give {FORMS}, or {_list(BUILT_IN)}"
    return f"{source}: needs an existing file or folder, got a path that is not there; {hint}"


def _ending(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _built_in(name: str) -> _Raw:
    from sklearn import datasets  # half a second that other sources need not wait for

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    return _Raw(frame=bunch.frame, target_name="target", image=name == "digits")


def _npz(path: Path, source: str) -> _Raw:
    """Arrays X (N, ...) and y (N,), with X_test and y_test if there is a test set."""
    if not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile("an .npz file is a zip archive, as np.savez writes it")
    with np.load(path, allow_pickle=False) as arrays:
        if "X" not in arrays:
            raise DataError(f"{source}: needs arrays X and y, got {_list(arrays.files)}")
        image = arrays["X"].ndim > 2 or arrays["X"].dtype == np.uint8
        frame = _of_arrays(arrays, "X", "y", source)
        test = _of_arrays(arrays, "X_test", "y_test", source) if "X_test" in arrays else None
    if test is not None and test.shape[1] != frame.shape[1]:
        raise DataError(
            f"{source}: X_test and y_test need the {frame.shape[1]} columns of X and y, "
            f"got {test.shape[1]}"
        )
    return _Raw(frame=frame, has_header=False, image=image, target_name="y", test=test)


def _of_arrays(arrays: Any, x_name: str, y_name: str, source: str) -> pd.DataFrame:
    """One frame of X's columns "0", "1", ... and, where it is there, y."""
    x = arrays[x_name]
    if x.ndim < 2 or x.dtype.kind not in "biuf":
        raise DataError(
            f"{source}: {x_name} needs numbers of shape (N, D), got {x.dtype} of shape {x.shape}"
        )
    x = x.reshape(len(x), -1)
    frame = pd.DataFrame(x, columns=[str(i) for i in range(x.shape[1])])
    if y_name not in arrays:
        return frame
    y = arrays[y_name]
    if y.shape not in ((len(x),), (len(x), 1)):
        raise DataError(
            f"{source}: {y_name} needs one value for each of the {len(x)} rows of {x_name}, "
            f"got shape {y.shape}"
        )
    frame["y"] = y.reshape(-1)
    return frame


def _idx_folder(folder: Path, source: str) -> _Raw:
    """MNIST's layout: train-images, train-labels, and perhaps t10k-images, t10k-labels."""
    train, test = _idx_part(folder, "train", source), _idx_part(folder, "t10k", source)
    if train is None and test is None:
        raise DataError(
            f"{source}: a folder needs train-images-idx3-ubyte and train-labels-idx1-ubyte "
            "(.gz too), got neither; to read a table, name the file in it"
        )
    frame = train if train is not None else test
    assert frame is not None
    return _Raw(
        frame=frame,
        has_header=False,
        image=True,
        target_name="label",
        test=None if train is None else test,
    )


def _idx_part(folder: Path, part: str, source: str) -> pd.DataFrame | None:
    images = _idx_file(folder, f"{part}-images")
    labels = _idx_file(folder, f"{part}-labels")
    if images is None:
        return None
    if labels is None:
        raise DataError(f"{source}: needs {part}-labels-idx1-ubyte beside {images.name}")
    x, y = _idx(images), _idx(labels)
    if len(x) != len(y):
        raise DataError(
            f"{source}: needs as many labels as images, got {len(y)} labels in {labels.name} and "
            f"{len(x)} images in {images.name}"
        )
    x = x.reshape(len(x), -1)
    frame = pd.DataFrame(x, columns=[str(i) for i in range(x.shape[1])])
    frame["label"] = y
    return frame


def _idx_file(folder: Path, stem: str) -> Path | None:
    return next((p for p in sorted(folder.glob(f"{stem}?idx*")) if p.is_file()), None)


def _idx(path: Path) -> npt.NDArray[Any]:
    """One IDX file: two zero bytes, the type, the number of axes, their lengths, the values.

    http://yann.lecun.com/exdb/mnist/, "The IDX file format".
    """
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in IDX_DTYPES:
        raise ValueError(f"{path.name} does not begin as an IDX file does")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", count=data[3], offset=4))
    values = np.frombuffer(data, IDX_DTYPES[data[2]], offset=4 + 4 * data[3])
    return values.reshape(shape).astype(values.dtype.newbyteorder("="), copy=False)


# --- delimited text ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """How a delimited file is to be read."""

    separator: str
    skip: int  #: lines before the first row of values
    names: tuple[str, ...] | None  #: None where there is no header
    comma: bool  #: numbers have a decimal comma
    encoding: str


def _delimited(path: Path, source: str, known: Sequence[str], as_text: bool) -> _Raw:
    layout = _sniff(_sample(path), known, source)
    try:
        frame = _read_csv(path, layout, layout.encoding, as_text)
    except UnicodeDecodeError:
        frame = _read_csv(path, layout, "latin-1", as_text)
    width = frame.shape[1]
    if layout.names is None:
        return _Raw(frame=frame.set_axis([str(i) for i in range(width)], axis=1), has_header=False)
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
    frame = frame.set_axis(names, axis=1)
    return _Raw(frame=frame[[n for n in names if n]], notes=tuple(notes))


def _read_csv(path: Path, layout: _Layout, encoding: str, as_text: bool) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # values that would be lost
        frame = pd.read_csv(
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
    if as_text and layout.comma:
        return frame.replace(DECIMAL_COMMA, r"\1.\2", regex=True)
    return frame


def _sample(path: Path) -> list[bytes]:
    """The first lines: at least 20, and at least 128 KiB, as far as there are any."""
    lines: list[bytes] = []
    size = 0
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for line in file:
            lines.append(line)
            size += len(line)
            if size >= SAMPLE_BYTES and len(lines) >= SAMPLE_LINES:
                break
    return lines


def _sniff(sample: Sequence[bytes], known: Sequence[str], source: str) -> _Layout:
    """Guess separator, comment lines, header and decimal comma from the first lines."""
    if any(b"\0" in line for line in sample):
        raise DataError(
            f"{source}: needs text, got zero bytes: another format, or UTF-16; save it as UTF-8"
        )
    text, encoding = _decoded(b"".join(sample))
    lines = text.splitlines()
    blank = next((i for i, line in enumerate(lines) if line.strip()), None)
    if blank is None:
        raise DataError(f"{source}: needs rows with values, got an empty file")
    separator, width = _separator(lines)
    skip = blank
    while len(_fields(lines[skip], separator)) < width and lines[skip].startswith(COMMENT):
        skip += 1
        while not lines[skip].strip():
            skip += 1
    rows = [row for row in _rows(lines[skip:], separator) if row]
    first = [field.strip() for field in rows[0]]
    body = [row for row in rows[1:] if len(row) == width]
    header = _is_header(first, body, known)
    fields = [field.strip() for row in body for field in row]
    comma = separator != "," and not any(DECIMAL_POINT.fullmatch(f) for f in fields)
    return _Layout(
        separator=separator,
        skip=skip + header,
        names=tuple(first) if header else None,
        comma=comma and any(re.fullmatch(DECIMAL_COMMA, f) for f in fields),
        encoding=encoding,
    )


def _decoded(sample: bytes) -> tuple[str, str]:
    try:
        return sample.decode("utf-8-sig"), "utf-8-sig"
    except UnicodeDecodeError:
        return sample.decode("latin-1"), "latin-1"


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
    if separator == WHITESPACE:
        return [_fields(line, separator) for line in lines]
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _fields(line: str, separator: str) -> list[str]:
    if separator == WHITESPACE:
        return [field.strip('"') for field in re.findall(r'"[^"]*"|\S+', line)]
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _is_header(first: Sequence[str], body: Sequence[Sequence[str]], known: Sequence[str]) -> bool:
    """Whether the first row names the columns.

    It does if it holds most of the names that are known; if it has text over a column of numbers;
    if no name is known and its numbers count from 0 or by years; or if, over columns of text,
    nothing of it comes again below although the values below do.
    """
    named = bool(known) and not _positional(known[:1])
    if named and 2 * len(set(first) & set(known)) >= min(len(known), len(first)):
        return True
    columns = [[v for f in column if (v := f.strip()) not in MISSING] for column in _columns(body)]
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


def _columns(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    return list(zip(*rows, strict=True))


def _number(field: str) -> bool:
    try:
        float(field.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def _counts_rows(column: pd.Series[Any]) -> bool:
    """Whether the values are 0, 1, 2, ... or 1, 2, 3, ...: the row names of pandas or of R."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    return bool((values - values[:1] == np.arange(len(values))).all() and values[0] in (0, 1))
