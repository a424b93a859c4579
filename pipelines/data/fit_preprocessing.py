"""Statistics of the training rows, which scikit-learn fits, as a `Preprocessing`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, RobustScaler, StandardScaler

from pipelines.data.columns import is_numeric
from pipelines.data.encode import bend_tails, clip_outliers, fill_texts, iterate_blocks
from pipelines.data.preprocessing import CategoryColumn, NumericColumn, Preprocessing

__all__ = ["MAX_CATEGORIES", "fit_preprocessing", "make_transformer"]

#: Largest number of columns that a text column becomes; its rarer values share the last one.
MAX_CATEGORIES = 64
#: Absolute skewness (an exponential has 2) above which a column is log-scaled first.
TAILED = 2.0


def fit_preprocessing(
    features: pd.DataFrame, target: pd.Series[Any], *, task: str, image: bool
) -> Preprocessing:
    """Learn from the training rows what `encode_features` and `encode_target` need.

    Args:
        features: The training rows, N >= 2; columns of numbers or text, as `read_table` returns.
        target: Targets of the training rows, (N,).
        task: "classification" or "regression".
        image: Whether all columns have one mean and scale in common.
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
        mean, scale = _compute_moments(features)
        return Preprocessing(**shared, image=True, image_mean=mean, image_scale=scale)
    frame = _make_floats_and_texts(features)
    steps = {
        name: step.fit(frame[names]) for name, step, names in make_transformer(frame).transformers
    }
    return Preprocessing(
        **shared,
        numeric=_read_numeric_columns(steps),
        categorical=_read_category_columns(steps),
    )


def make_transformer(features: pd.DataFrame) -> ColumnTransformer:
    """Make the scikit-learn transformer that does what `encode_features` does, not fitted yet."""
    numeric = [c for c in features.columns if is_numeric(features[c])]
    tailed = [c for c in numeric if _compute_skewness(features[c]) > TAILED]
    straight = [c for c in numeric if c not in tailed]
    text = [c for c in features.columns if c not in numeric]
    steps = [
        ("straight", make_pipeline(_make_imputer(), StandardScaler(), _make_clip()), straight),
        (
            "tailed",
            make_pipeline(
                _make_imputer(), RobustScaler(), _make_bend(), StandardScaler(), _make_clip()
            ),
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


def _compute_skewness(column: pd.Series[Any]) -> float:
    """Compute the absolute skewness without missing values; NaN for fewer than three values."""
    values: Any = column.skew()
    return abs(float(values))


def _make_imputer() -> SimpleImputer:
    return SimpleImputer(strategy="median", keep_empty_features=True)


def _make_bend() -> FunctionTransformer:
    return FunctionTransformer(bend_tails)


def _make_clip() -> FunctionTransformer:
    return FunctionTransformer(clip_outliers)


def _make_floats_and_texts(features: pd.DataFrame) -> pd.DataFrame:
    """Convert columns to floats with NaN, or to text with "" for a missing value."""
    return pd.DataFrame(
        {
            c: features[c].astype("float64") if is_numeric(features[c]) else fill_texts(features[c])
            for c in features.columns
        }
    )


def _read_numeric_columns(steps: dict[str, Any]) -> tuple[NumericColumn, ...]:
    """Read the straight columns, then the tailed ones, out of their fitted pipelines."""
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


def _read_category_columns(steps: dict[str, Any]) -> tuple[CategoryColumn, ...]:
    """Read the columns of text out of the fitted encoder."""
    if "text" not in steps:
        return ()
    encoder = steps["text"]
    columns = zip(
        encoder.feature_names_in_, encoder.categories_, encoder.infrequent_categories_, strict=True
    )
    read = []
    for name, categories, rare in columns:
        rest = frozenset() if rare is None else frozenset(rare)
        frequent = tuple(c for c in categories if c not in rest)
        read.append(CategoryColumn(name=name, categories=frequent, has_rest=rare is not None))
    return tuple(read)


def _compute_moments(features: pd.DataFrame) -> tuple[float, float]:
    """Compute mean and standard deviation over all pixels that are not missing; 0 becomes 1."""
    scaler = StandardScaler()
    for _, block in iterate_blocks(features):
        scaler.partial_fit(block.reshape(-1, 1))
    return float(scaler.mean_[0]), float(scaler.scale_[0])
