"""The columns of a file, a folder or a built-in set, as they stand there."""

from __future__ import annotations

import csv
import gzip
import math
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
from numpy.lib import format as npy

from orchestrator.errors import DataError
from orchestrator.quote import get_first_line
from orchestrator.store.memory import format_bytes, require_memory
from pipelines.data.columns import make_positional_names
from pipelines.data.delimited import read_delimited
from pipelines.data.hints import find_similar, format_names

__all__ = ["BUILT_IN", "RawTable", "load_source"]

BUILT_IN = ("digits", "wine", "breast_cancer", "diabetes")
DELIMITED = (".csv", ".tsv", ".data", ".test", ".txt", ".dat")
FORMS = "a .csv, .tsv, .data or .txt file (.gz too), .parquet, .npz, or a folder of IDX files"
IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


#: What the readers of the formats raise for a file that is damaged, or of another format.
_UNREADABLE = (
    OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError, csv.Error, NotImplementedError,
    RuntimeError, OverflowError, LookupError, TypeError, AttributeError, SyntaxError,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTable:
    """All columns of one source, the target among them, as they stand there."""

    frame: pd.DataFrame  #: the columns, with their names
    has_header: bool = True  #: if False, columns are named by their position, "0", "1", ...
    image: bool = False  #: whether all features are pixels on one common scale
    target_name: str | None = None  #: name of the target, if the format says which it is
    test: pd.DataFrame | None = None  #: the same columns of a test set, if the source has one
    notes: tuple[str, ...] = ()  #: what was left out, for the user to read


def load_source(source: str, *, expected: Sequence[str] = (), as_text: bool = False) -> RawTable:
    """Load all columns of a source.

    Args:
        source: One of `BUILT_IN`, or a path.
        expected: Names of columns that a header would have; they tell a header from a row.
        as_text: Whether the values of a delimited file stay as they are written.

    Raises:
        DataError: If there is no such source, it cannot be read, or it is empty; or if two
            columns have one name.
    """
    if source in BUILT_IN:
        return _load_built_in(source)
    path = Path(os.path.expanduser(source))  # noqa: PTH111 # Path's raises without a home
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    try:
        if path.is_dir():
            raw = _load_idx_folder(path, source)
        elif not path.exists():
            raise DataError(_format_missing_path(path, source))
        elif not path.is_file():
            raise DataError(f"{source}: needs a regular file or a folder, got a pipe or a device")
        elif ending == ".parquet":
            raw = RawTable(frame=_load_parquet(path))
        elif ending == ".npz":
            raw = _load_npz(path, source)
        elif ending in DELIMITED:
            frame, has_header, notes = read_delimited(
                path, source, expected=expected, as_text=as_text
            )
            raw = RawTable(frame=frame, has_header=has_header, notes=notes)
        else:
            raise DataError(f"{source}: needs {FORMS}, got the ending {ending!r}")
    except MemoryError as error:  # pyarrow's is one too
        raise DataError(f"{source}: needs more memory than this process can have") from error
    except _UNREADABLE as error:
        raise DataError(
            f"{source}: needs a readable {ending or 'IDX'} file, got {type(error).__name__}: "
            f"{get_first_line(error)}; is it damaged, or of another format than its name says?"
        ) from error
    frame = raw.frame
    frame.columns = pd.Index([str(c).strip() for c in frame.columns])
    if repeated := [name for name, times in Counter(frame.columns).items() if times > 1]:
        raise DataError(
            f"{source}: column names must differ, but {format_names(repeated)} occurs more than "
            "once; rename the columns"
        )
    if frame.empty:
        raise DataError(f"{source}: needs rows with values, got an empty table")
    return raw


def _format_missing_path(path: Path, source: str) -> str:
    folder = path.parent
    nearby = [str(folder / p.name) for p in folder.iterdir()] if folder.is_dir() else []
    similar = find_similar(source, [*BUILT_IN, *nearby])
    hint = (
        f"did you mean {format_names(similar)}?"
        if similar
        else f"give {FORMS}, or {format_names(BUILT_IN)}"
    )
    return f"{source}: needs an existing file or folder, got a path that is not there; {hint}"


def _load_built_in(name: str) -> RawTable:
    from sklearn import datasets  # half a second that other sources need not wait for

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    return RawTable(frame=bunch.frame, target_name="target", image=name == "digits")


def _make_frame(x: npt.NDArray[Any], target_name: str, y: npt.NDArray[Any] | None) -> pd.DataFrame:
    """Make a frame of the columns "0", "1", ... of `x`, (N, ...), and `y`, N values, if any."""
    x = x.reshape(len(x), -1)
    frame = pd.DataFrame(x, columns=make_positional_names(x.shape[1]))
    if y is not None:
        frame[target_name] = y.reshape(-1)
    return frame


def _load_parquet(path: Path) -> pd.DataFrame:
    """Load a Parquet file, unless its footer declares more rows than fit into memory."""
    metadata = pq.read_metadata(path)
    require_memory(str(path), 8.0 * metadata.num_rows * metadata.num_columns, DataError)
    return pd.read_parquet(path).reset_index(drop=True)


# --- NumPy's archives -------------------------------------------------------------------------


def _load_npz(path: Path, source: str) -> RawTable:
    """Load arrays X (N, ...) and y (N,), with X_test and y_test if there is a test set."""
    if not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile("an .npz file is a zip archive, as np.savez writes it")
    _check_npz_sizes(path, source)
    with np.load(path, allow_pickle=False) as archive:
        if "X" not in archive:
            raise DataError(f"{source}: needs arrays X and y, got {format_names(archive.files)}")
        names = ("X", "y", "X_test", "y_test")
        arrays = {name: archive[name] for name in names if name in archive}
    x = arrays["X"]
    frame = _make_npz_frame(arrays, "X", "y", source)
    test = _make_npz_frame(arrays, "X_test", "y_test", source) if "X_test" in arrays else None
    if test is not None and test.shape[1] != frame.shape[1]:
        raise DataError(
            f"{source}: X_test and y_test need the {frame.shape[1]} columns of X and y, "
            f"got {test.shape[1]}"
        )
    image = x.ndim > 2 or x.dtype == np.uint8
    return RawTable(frame=frame, has_header=False, image=image, target_name="y", test=test)


def _check_npz_sizes(path: Path, source: str) -> None:
    """Refuse an array that declares more values than the archive holds, or than fit into memory.

    NumPy makes room for all of them before it reads the first one.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as file:
                major, _ = npy.read_magic(file)
                read_header = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
                shape, _, dtype = read_header(file)
            declared = math.prod(shape) * dtype.itemsize  # as Python's integers, which never wrap
            sizes = (declared, *shape)
            if min(sizes) < 0 or max(sizes) > member.file_size:
                raise DataError(
                    f"{source}: {member.filename} declares the shape {str(shape)[:80]}, "
                    f"{format_bytes(declared)}, but holds {format_bytes(member.file_size)}"
                )
            require_memory(source, declared, DataError)


def _make_npz_frame(
    arrays: dict[str, npt.NDArray[Any]], x_name: str, y_name: str, source: str
) -> pd.DataFrame:
    x, y = arrays[x_name], arrays.get(y_name)
    if x.ndim < 2 or x.dtype.kind not in "biuf":
        raise DataError(
            f"{source}: {x_name} needs numbers of shape (N, D), got {x.dtype} of shape {x.shape}"
        )
    if y is not None and y.shape not in ((len(x),), (len(x), 1)):
        raise DataError(
            f"{source}: {y_name} needs one value for each of the {len(x)} rows of {x_name}, "
            f"got shape {y.shape}"
        )
    return _make_frame(x, "y", y)


# --- MNIST's folders --------------------------------------------------------------------------


def _load_idx_folder(folder: Path, source: str) -> RawTable:
    """Load MNIST's layout: train-images, train-labels, and perhaps t10k-images, t10k-labels."""
    parts = [_load_idx_part(folder, part, source) for part in ("train", "t10k")]
    frames = [part for part in parts if part is not None]
    if not frames:
        raise DataError(
            f"{source}: a folder needs train-images-idx3-ubyte and train-labels-idx1-ubyte "
            "(.gz too), got neither; to read a table, name the file in it"
        )
    if len({part.shape[1] for part in frames}) > 1:
        sizes = " and ".join(str(part.shape[1] - 1) for part in frames)
        raise DataError(f"{source}: train and t10k need images of one size, got {sizes} pixels")
    return RawTable(
        frame=frames[0],
        has_header=False,
        image=True,
        target_name="label",
        test=frames[1] if len(frames) > 1 else None,
    )


def _load_idx_part(folder: Path, part: str, source: str) -> pd.DataFrame | None:
    images = _find_idx_file(folder, f"{part}-images")
    labels = _find_idx_file(folder, f"{part}-labels")
    if images is None:
        return None
    if labels is None:
        raise DataError(f"{source}: needs {part}-labels-idx1-ubyte beside {images.name}")
    x, y = _read_idx(images), _read_idx(labels)
    if len(x) != len(y):
        raise DataError(
            f"{source}: needs as many labels as images, got {len(y)} labels in {labels.name} and "
            f"{len(x)} images in {images.name}"
        )
    return _make_frame(x, "label", y)


def _find_idx_file(folder: Path, stem: str) -> Path | None:
    return next((p for p in sorted(folder.glob(f"{stem}?idx*")) if p.is_file()), None)


def _read_idx(path: Path) -> npt.NDArray[Any]:
    """Read an IDX file: two zero bytes, the type, the number of axes, their lengths, the values.

    http://yann.lecun.com/exdb/mnist/, "The IDX file format".
    """
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if len(data) < 5 or data[:2] != b"\0\0" or data[2] not in IDX_DTYPES or not data[3]:
        raise ValueError(f"{path.name} does not begin as an IDX file does")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", count=data[3], offset=4))
    values = np.frombuffer(data, IDX_DTYPES[data[2]], offset=4 + 4 * data[3])
    return values.reshape(shape).astype(values.dtype.newbyteorder("="), copy=False)
