"""Rows encoded as the arrays that a network takes, and its outputs decoded.

`Preprocessing` says how; the work is a few lines of NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from orchestrator.errors import DataError
from pipelines.data.columns import (
    find_uniform_frame,
    match_labels,
    read_numbers,
    read_texts,
)
from pipelines.data.preprocessing import LIMIT, CategoryColumn, NumericColumn, Preprocessing

__all__ = [
    "bend_tails",
    "clip_outliers",
    "decode_target",
    "encode_features",
    "encode_target",
    "fill_texts",
    "iterate_blocks",
]

#: Rows converted at a time, so that no float64 copy of all rows is held.
BLOCK_ROWS = 8192
#: Category of a missing text value.
MISSING_CATEGORY = ""
#: Largest number of values that a message names.
SHOWN = 5


def encode_features(
    preprocessing: Preprocessing, features: pd.DataFrame
) -> npt.NDArray[np.float32]:
    """Encode features as a network takes them: (N, D) float32, C-contiguous, without NaN.

    Columns are found by name; text in a numeric column is read as a number where it spells one.

    Raises:
        DataError: If a column is missing, or holds text where training had numbers.
    """
    if missing := [c for c in preprocessing.columns if c not in features.columns]:
        raise DataError(f"features: needs column {missing[0]!r}, got {list(features.columns)}")
    if preprocessing.image:
        return _encode_pixels(preprocessing, features)
    columns = preprocessing.numeric
    flagged = np.flatnonzero([c.has_indicator for c in columns])
    widths = [len(c.categories) + c.has_rest for c in preprocessing.categorical]
    offset = len(columns) + len(flagged)
    matrix = np.zeros((len(features), offset + sum(widths)), dtype=np.float32)
    values = _read_numeric_frame(features, [c.name for c in columns])
    for rows, block in iterate_blocks(values) if columns else ():
        matrix[rows, : len(columns)] = _standardise(columns, block.astype(np.float64))
        matrix[rows, len(columns) : offset] = np.isnan(block[:, flagged])
    for column, width in zip(preprocessing.categorical, widths, strict=True):
        codes = _encode_categories(column, features[column.name])
        seen = np.flatnonzero(codes >= 0)
        matrix[seen, offset + codes[seen]] = 1.0
        offset += width
    return matrix


def encode_target(preprocessing: Preprocessing, target: pd.Series[Any]) -> npt.NDArray[Any]:
    """Encode targets as a network takes them, (N,): int64 class index, or float32 standardised.

    Raises:
        DataError: If a class is not one of those in training, or a number is missing.
    """
    if preprocessing.task == "regression":
        values = read_numbers(target, "target").to_numpy(dtype=np.float64)
        if np.isnan(values).any():
            raise DataError(
                f"target: column {target.name!r} needs a number in each row, got none in "
                f"{int(np.isnan(values).sum())} of {len(values)}; leave those rows out"
            )
        values = (values - preprocessing.target_mean) / preprocessing.target_scale
        return values.astype(np.float32)
    classes = preprocessing.classes
    if isinstance(classes[0], str):
        labels, dtype = match_labels(read_texts(target, "target"), classes).astype(object), "object"
    else:
        labels, dtype = read_numbers(target, "target"), "float64"
    codes = pd.Index(classes, dtype=dtype).get_indexer(pd.Index(labels, dtype=dtype))
    if (unknown := codes < 0).any():
        names = list(dict.fromkeys(map(str, target[unknown])))
        raise DataError(
            f"target: column {target.name!r} needs one of the classes in training, got "
            f"{', '.join(names[:SHOWN])} in {int(unknown.sum())} rows; correct or leave out those"
        )
    return np.asarray(codes, dtype=np.int64)


def decode_target(preprocessing: Preprocessing, coded: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Decode targets, (N,): to the classes themselves, or to float64 in natural units."""
    if preprocessing.task == "regression":
        natural = np.asarray(coded, dtype=np.float64) * preprocessing.target_scale
        return np.asarray(natural + preprocessing.target_mean)
    classes = preprocessing.classes
    named = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
    return np.asarray(named[coded])


def bend_tails(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compute sign(z) log(1 + |z|), which brings the values of long tails closer."""
    return np.asarray(np.sign(z) * np.log1p(np.abs(z)))


def clip_outliers(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Clip standardised values to +-LIMIT."""
    return np.clip(z, -LIMIT, LIMIT)


def fill_texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Read a column as text, with "" for a missing value."""
    text = read_texts(column, "features").astype(object)
    return text.where(text.notna(), MISSING_CATEGORY)


def _standardise(
    columns: Sequence[NumericColumn], block: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Fill values (B, D) with NaN, bend them where tailed, scale and clip them."""
    table = np.array([(c.median, c.centre, c.spread, c.mean, c.scale) for c in columns])
    median, centre, spread, mean, scale = table.T
    tailed = np.array([c.tailed for c in columns])
    values = np.where(np.isnan(block), median, block)
    values[:, tailed] = bend_tails(((values - centre) / spread)[:, tailed])
    return clip_outliers((values - mean) / scale)


def _encode_categories(column: CategoryColumn, values: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Find each value's category, by position; the rest's, or -1, where there is none."""
    categories = pd.Index(column.categories, dtype=object)
    codes = categories.get_indexer(pd.Index(fill_texts(values), dtype=object))
    rest = len(categories) if column.has_rest else -1
    return np.where(codes < 0, rest, codes)


def _read_numeric_frame(features: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Read the named columns as numbers; a frame that is one matrix is not copied."""
    frame = features if list(features.columns) == list(names) else features[list(names)]
    if find_uniform_frame(frame) is not None:
        return frame
    return pd.DataFrame({name: read_numbers(frame[name], "features") for name in names})


def iterate_blocks(frame: pd.DataFrame) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Iterate over blocks of rows: the slice of the rows, and their values."""
    for start in range(0, len(frame), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        yield rows, frame.iloc[rows].to_numpy()


def _encode_pixels(preprocessing: Preprocessing, features: pd.DataFrame) -> npt.NDArray[np.float32]:
    frame = _read_numeric_frame(features, preprocessing.columns)
    matrix = np.empty(frame.shape, dtype=np.float32)
    mean, scale = np.float32(preprocessing.image_mean), np.float32(preprocessing.image_scale)
    for rows, block in iterate_blocks(frame):
        np.divide(block.astype(np.float32) - mean, scale, out=matrix[rows])
    np.nan_to_num(matrix, copy=False)  # a missing pixel is an average one
    return matrix
