"""From a table of columns to the float32 matrix a network trains on, and back from its outputs.

scikit-learn fits the statistics, on the training rows alone. What it found is kept as plain names
and numbers, which go into JSON, and `apply` is a few lines of NumPy: a model needs no pickle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, RobustScaler, StandardScaler

from orchestrator.errors import DataError
from pipelines.data.datasets import (
    BLOCK_ROWS,
    Table,
    fingerprint,
    is_numeric,
    match_labels,
    numbers,
    one_matrix,
    texts,
)
from pipelines.data.splits import infer_task, split
from trainers.training.data import Data

__all__ = [
    "CategoryColumn",
    "NumericColumn",
    "Prepared",
    "Preprocessing",
    "apply",
    "decode_target",
    "encode_target",
    "fit",
    "prepare",
    "transformer",
]

MAX_CATEGORIES = 64  # columns a text column may become; its rarer values share the last one
TAILED = 2.0  # a column of larger absolute skewness (an exponential has 2) is log-scaled first
LIMIT = 20.0  # standard deviations; a mistyped value must not blow up a network
MISSING = ""  # the category of a missing text value
SHOWN = 5  # values a message names


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericColumn:
    """What to do with a column of numbers: fill, bend if `tailed`, standardise, clip."""

    name: str
    median: float  #: stands in for a missing value
    mean: float = 0.0  #: of the training rows, after filling and bending
    scale: float = 1.0  #: their standard deviation; 1 for a constant column
    has_indicator: bool = False  #: a column of its own says where a value was missing
    tailed: bool = False  #: replaced by sign(z) log(1 + |z|), z = (value - centre) / spread
    centre: float = 0.0  #: the median, where tailed
    spread: float = 1.0  #: the interquartile range, where tailed; 1 if that is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryColumn:
    """What to do with a column of text: one column of 0 and 1 for each category."""

    name: str
    categories: tuple[str, ...]  #: sorted; "" is a missing value
    has_rest: bool = False  #: one more column for all other values, those never seen among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """All that was learnt from the training rows: names, numbers and text, nothing else.

    The matrix has the numeric columns first, then the indicators, then the categories. An image
    has one mean and one scale for all its pixels, in `image_mean` and `image_scale`, and its
    columns' names alone in `columns`.
    """

    task: str  #: "classification" or "regression"
    columns: tuple[str, ...]  #: the features, in the order of the table
    numeric: tuple[NumericColumn, ...] = ()
    categorical: tuple[CategoryColumn, ...] = ()
    image: bool = False
    image_mean: float = 0.0
    image_scale: float = 1.0
    classes: tuple[str | int | float | bool, ...] = ()  #: sorted; empty for regression
    target_name: str = "target"
    target_mean: float = 0.0  #: natural = target_mean + target_scale * standardised
    target_scale: float = 1.0

    @property
    def outputs(self) -> int:
        """Width of a network's last layer: the classes, or 1 for regression."""
        return len(self.classes) or 1

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, text and finite numbers, as `json.load` would give them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain

    @staticmethod
    def from_json(found: dict[str, Any]) -> Preprocessing:
        """Read what `to_json` wrote, also after a way through a JSON file.

        Raises:
            DataError: If a field is missing or unknown.
        """
        try:
            return Preprocessing(
                **{
                    **found,
                    "columns": tuple(found["columns"]),
                    "classes": tuple(found["classes"]),
                    "numeric": tuple(NumericColumn(**column) for column in found["numeric"]),
                    "categorical": tuple(
                        CategoryColumn(**{**column, "categories": tuple(column["categories"])})
                        for column in found["categorical"]
                    ),
                }
            )
        except (KeyError, TypeError) as error:
            raise DataError(
                f"preprocessing: needs the fields that to_json writes, got {error}; "
                "it was written by another version or changed by hand"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A data set ready to train on, with the test rows kept apart."""

    data: Data
    x_test: npt.NDArray[np.float32]  #: (T, D); T is 0 without a test set
    y_test: npt.NDArray[Any]  #: (T,), coded as data.y_train
    preprocessing: Preprocessing
    task: str
    fingerprint: str  #: of the whole table, before the split
    notes: tuple[str, ...] = field(default=())


def prepare(
    table: Table,
    *,
    task: str | None,
    seed: int,
    validation_share: float = 0.15,
    test_share: float = 0.15,
) -> Prepared:
    """Split a table, fit the preprocessing on its training rows, and apply it to all parts.

    Args:
        table: As `datasets.read` returns it.
        task: "classification" or "regression"; None decides by the look of the target.
        seed: Of the split; the same seed gives the same arrays.
        validation_share: Of the table's rows, in (0, 1).
        test_share: Of the table's rows, in [0, 1); not used if the table has a test set.

    Raises:
        DataError: If the task does not fit the target, or the rows do not suffice.
    """
    task = infer_task(table.target) if task is None else task
    if task not in ("classification", "regression"):
        raise DataError(f"a task is classification or regression, got --task {task!r}")
    if task == "regression" and not is_numeric(table.target):
        raise DataError(
            f"{table.source}: regression needs a target of numbers, got "
            f"{table.target_name!r} with {table.target.iloc[0]!r}; use --task classification"
        )
    rows = split(
        table, task=task, seed=seed, validation_share=validation_share, test_share=test_share
    )
    x_train, y_train = table.features.iloc[rows.train], table.target.iloc[rows.train]
    fitted = fit(x_train, y_train, task=task, image=table.image)
    y_train_coded = encode_target(fitted, y_train)
    x_train_coded = apply(fitted, x_train)
    del x_train
    if table.test_features is None or table.test_target is None:
        x_test, y_test = table.features.iloc[rows.test], table.target.iloc[rows.test]
    else:
        x_test, y_test = table.test_features, table.test_target
    return Prepared(
        data=Data(
            task=task,
            outputs=fitted.outputs,
            x_train=x_train_coded,
            y_train=y_train_coded,
            x_validation=apply(fitted, table.features.iloc[rows.validation]),
            y_validation=encode_target(fitted, table.target.iloc[rows.validation]),
            target_mean=fitted.target_mean,
            target_scale=fitted.target_scale,
        ),
        x_test=apply(fitted, x_test),
        y_test=encode_target(fitted, y_test),
        preprocessing=fitted,
        task=task,
        fingerprint=fingerprint(table),
        notes=table.notes,
    )


def fit(features: pd.DataFrame, target: pd.Series[Any], *, task: str, image: bool) -> Preprocessing:
    """Learn from the training rows what `apply` and `encode_target` need.

    Args:
        features: The training rows, N >= 2; columns of numbers or text, as `datasets.read` gives.
        target: Their targets, (N,).
        task: "classification" or "regression".
        image: One mean and scale for all columns, instead of one for each.
    """
    shared: dict[str, Any] = {
        "task": task,
        "columns": tuple(features.columns),
        "target_name": str(target.name),
    }
    if task == "classification":
        shared["classes"] = tuple(np.unique(target.to_numpy()).tolist())
    else:
        scaler = StandardScaler().fit(target.to_numpy(dtype=np.float64).reshape(-1, 1))
        shared |= {"target_mean": float(scaler.mean_[0]), "target_scale": float(scaler.scale_[0])}
    if image:
        mean, scale = _moments(features)
        return Preprocessing(**shared, image=True, image_mean=mean, image_scale=scale)
    ready = _ready(features)
    steps = {name: step.fit(ready[names]) for name, step, names in transformer(ready).transformers}
    return Preprocessing(**shared, numeric=_numeric(steps), categorical=_categorical(steps))


def transformer(features: pd.DataFrame) -> ColumnTransformer:
    """The scikit-learn transformer whose steps `fit` fits: what `apply` does, in its words."""
    numeric = [c for c in features.columns if is_numeric(features[c])]
    tailed = [c for c in numeric if _skewness(features[c]) > TAILED]
    straight = [c for c in numeric if c not in tailed]
    text = [c for c in features.columns if c not in numeric]
    steps = [
        ("straight", make_pipeline(_impute(), StandardScaler(), _clip()), straight),
        (
            "tailed",
            make_pipeline(_impute(), RobustScaler(), _bend(), StandardScaler(), _clip()),
            tailed,
        ),
        ("missing", MissingIndicator(error_on_new=False), [*straight, *tailed]),
        (
            "text",
            OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES),
            text,
        ),
    ]
    return ColumnTransformer([step for step in steps if step[2]], sparse_threshold=0)


def apply(preprocessing: Preprocessing, features: pd.DataFrame) -> npt.NDArray[np.float32]:
    """The matrix a network takes, (N, D) float32 and C-contiguous, without NaN.

    Columns are found by name; text in a numeric column is read as a number where it is one.

    Raises:
        DataError: If a column is missing, or holds text where training had numbers.
    """
    if missing := [c for c in preprocessing.columns if c not in features.columns]:
        raise DataError(f"features: needs column {missing[0]!r}, got {list(features.columns)}")
    if preprocessing.image:
        return _pixels(preprocessing, features)
    columns = preprocessing.numeric
    flagged = np.flatnonzero([c.has_indicator for c in columns])
    widths = [len(c.categories) + c.has_rest for c in preprocessing.categorical]
    offset = len(columns) + len(flagged)
    matrix = np.zeros((len(features), offset + sum(widths)), dtype=np.float32)
    values = _as_numbers(features, [c.name for c in columns])
    for rows, block in _blocks(values) if columns else ():
        matrix[rows, : len(columns)] = _standardise(columns, block.astype(np.float64))
        matrix[rows, len(columns) : offset] = np.isnan(block[:, flagged])
    for column, width in zip(preprocessing.categorical, widths, strict=True):
        codes = _codes(column, features[column.name])
        seen = np.flatnonzero(codes >= 0)
        matrix[seen, offset + codes[seen]] = 1.0
        offset += width
    return matrix


def encode_target(preprocessing: Preprocessing, target: pd.Series[Any]) -> npt.NDArray[Any]:
    """Targets as a network takes them, (N,): int64 class index, or float32 standardised number.

    Raises:
        DataError: If a class is not one of those in training, or a number is missing.
    """
    if preprocessing.task == "regression":
        values = numbers(target, "target").to_numpy(dtype=np.float64)
        if np.isnan(values).any():
            raise DataError(
                f"target: column {target.name!r} needs a number in each row, got none in "
                f"{int(np.isnan(values).sum())} of {len(values)}; leave those rows out"
            )
        values = (values - preprocessing.target_mean) / preprocessing.target_scale
        return values.astype(np.float32)
    classes = preprocessing.classes
    if isinstance(classes[0], str):
        found, dtype = match_labels(texts(target, "target"), classes).astype(object), "object"
    else:
        found, dtype = numbers(target, "target"), "float64"
    codes = pd.Index(classes, dtype=dtype).get_indexer(pd.Index(found, dtype=dtype))
    if (unknown := codes < 0).any():
        names = list(dict.fromkeys(map(str, target[unknown])))
        raise DataError(
            f"target: column {target.name!r} needs one of the classes in training, got "
            f"{', '.join(names[:SHOWN])} in {int(unknown.sum())} rows; correct or leave out those"
        )
    return np.asarray(codes, dtype=np.int64)


def decode_target(preprocessing: Preprocessing, coded: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What the codes stand for, (N,): the classes themselves, or float64 in natural units."""
    if preprocessing.task == "regression":
        natural = np.asarray(coded, dtype=np.float64) * preprocessing.target_scale
        return np.asarray(natural + preprocessing.target_mean)
    classes = preprocessing.classes
    named = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
    return np.asarray(named[coded])


def _skewness(column: pd.Series[Any]) -> float:
    """Absolute skewness of the known values; NaN where fewer than three are known."""
    values: Any = column.skew()
    return abs(float(values))


def _impute() -> SimpleImputer:
    return SimpleImputer(strategy="median", keep_empty_features=True)


def _bend() -> FunctionTransformer:
    return FunctionTransformer(_signed_log)


def _clip() -> FunctionTransformer:
    return FunctionTransformer(_clipped)


def _signed_log(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.sign(z) * np.log1p(np.abs(z)))


def _clipped(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.clip(z, -LIMIT, LIMIT)


def _ready(features: pd.DataFrame) -> pd.DataFrame:
    """Floats with NaN, and text with "" for a missing value: what scikit-learn's steps take."""
    return pd.DataFrame(
        {
            c: features[c].astype("float64") if is_numeric(features[c]) else _filled(features[c])
            for c in features.columns
        }
    )


def _filled(column: pd.Series[Any]) -> pd.Series[Any]:
    text = texts(column, "features").astype(object)
    return text.where(text.notna(), MISSING)


def _numeric(steps: dict[str, Any]) -> tuple[NumericColumn, ...]:
    """Straight columns, then tailed ones, from their fitted pipelines."""
    gaps = steps.get("missing")
    flagged = set() if gaps is None else set(gaps.feature_names_in_[gaps.features_])
    columns = []
    for name in ("straight", "tailed"):
        if name not in steps:
            continue
        step = steps[name].named_steps
        imputer, scaler = step["simpleimputer"], step["standardscaler"]
        robust = step.get("robustscaler")
        for i, column in enumerate(imputer.feature_names_in_):
            columns.append(
                NumericColumn(
                    name=column,
                    median=float(np.nan_to_num(imputer.statistics_[i])),  # NaN: none in training
                    mean=float(scaler.mean_[i]),
                    scale=float(scaler.scale_[i]),
                    has_indicator=column in flagged,
                    tailed=robust is not None,
                    centre=0.0 if robust is None else float(robust.center_[i]),
                    spread=1.0 if robust is None else float(robust.scale_[i]),
                )
            )
    return tuple(columns)


def _categorical(steps: dict[str, Any]) -> tuple[CategoryColumn, ...]:
    if "text" not in steps:
        return ()
    encoder = steps["text"]
    columns = zip(
        encoder.feature_names_in_, encoder.categories_, encoder.infrequent_categories_, strict=True
    )
    found = []
    for name, categories, rare in columns:
        rest = frozenset() if rare is None else frozenset(rare)
        kept = tuple(c for c in categories if c not in rest)
        found.append(CategoryColumn(name=name, categories=kept, has_rest=rare is not None))
    return tuple(found)


def _standardise(
    columns: Sequence[NumericColumn], block: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Values (B, D) with NaN, filled, bent where tailed, scaled and clipped."""
    table = np.array([(c.median, c.centre, c.spread, c.mean, c.scale) for c in columns])
    median, centre, spread, mean, scale = table.T
    tailed = np.array([c.tailed for c in columns])
    filled = np.where(np.isnan(block), median, block)
    filled[:, tailed] = _signed_log(((filled - centre) / spread)[:, tailed])
    return _clipped((filled - mean) / scale)


def _codes(column: CategoryColumn, values: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Position of each value's category, the rest's for one that has none, or -1."""
    categories = pd.Index(column.categories, dtype=object)
    codes = categories.get_indexer(pd.Index(_filled(values), dtype=object))
    rest = len(categories) if column.has_rest else -1
    return np.where(codes < 0, rest, codes)


def _as_numbers(features: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The named columns as numbers; a matrix that is one already is not taken apart."""
    frame = features if list(features.columns) == list(names) else features[list(names)]
    if one_matrix(frame) is not None:
        return frame
    return pd.DataFrame({name: numbers(frame[name], "features") for name in names})


def _blocks(frame: pd.DataFrame) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    for start in range(0, len(frame), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        yield rows, frame.iloc[rows].to_numpy()


def _moments(features: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation over all known pixels of all rows; a scale of 0 becomes 1."""
    scaler = StandardScaler()
    for _, block in _blocks(features):
        scaler.partial_fit(block.reshape(-1, 1))
    return float(scaler.mean_[0]), float(scaler.scale_[0])


def _pixels(preprocessing: Preprocessing, features: pd.DataFrame) -> npt.NDArray[np.float32]:
    frame = _as_numbers(features, preprocessing.columns)
    matrix = np.empty(frame.shape, dtype=np.float32)
    mean, scale = np.float32(preprocessing.image_mean), np.float32(preprocessing.image_scale)
    for rows, block in _blocks(frame):
        np.divide(block.astype(np.float32) - mean, scale, out=matrix[rows])
    np.nan_to_num(matrix, copy=False)  # a missing pixel is an average one
    return matrix
