"""How the columns and the target of a table become numbers, as learnt from the training rows.

All fields are plain names and numbers, which go into JSON: a model needs no pickle.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.errors import DataError

__all__ = ["LIMIT", "CategoryColumn", "NumericColumn", "Preprocessing"]

#: Largest absolute value of an encoded number, in standard deviations: a mistyped value must not
#: make a network diverge.
LIMIT = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericColumn:
    """How to encode a column of numbers: fill, bend if `tailed`, standardise, clip."""

    name: str  #: name of the column in the table
    median: float  #: value that replaces a missing one
    mean: float = 0.0  #: mean of the training rows, after filling and bending
    scale: float = 1.0  #: standard deviation of the training rows; 1 for a constant column
    has_indicator: bool = False  #: whether a further column of 0 and 1 marks missing values
    tailed: bool = False  #: whether z = (value - centre) / spread becomes sign(z) log(1 + |z|)
    centre: float = 0.0  #: median of a tailed column
    spread: float = 1.0  #: interquartile range of a tailed column; 1 if the range is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryColumn:
    """How to encode a column of text: one column of 0 and 1 for each category."""

    name: str  #: name of the column in the table
    categories: tuple[str, ...]  #: sorted categories; "" is a missing value
    has_rest: bool = False  #: whether all other values, unseen ones too, share one more column


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """All that was learnt from the training rows: names, numbers and text, nothing else.

    The encoded matrix has the numeric columns first, then the indicators, then the categories. An
    image has one mean and one scale for all its pixels, in `image_mean` and `image_scale`, and its
    columns' names alone in `columns`.
    """

    task: str  #: task of the network, "classification" or "regression"
    columns: tuple[str, ...]  #: names of the features, in the order of the table
    numeric: tuple[NumericColumn, ...] = ()  #: columns of numbers, in the order of the matrix
    categorical: tuple[CategoryColumn, ...] = ()  #: columns of text, in the order of the matrix
    image: bool = False  #: whether all features are pixels on one common scale
    image_mean: float = 0.0  #: mean of all pixels of the training rows
    image_scale: float = 1.0  #: standard deviation of all pixels of the training rows; > 0
    classes: tuple[str | int | float | bool, ...] = ()  #: sorted classes; empty for regression
    target_name: str = "target"  #: name of the column to predict
    target_mean: float = 0.0  #: regression: natural = target_mean + target_scale * standardised
    target_scale: float = 1.0  #: regression: natural units for one standardised unit; > 0

    @property
    def outputs(self) -> int:
        """Number of classes, or 1 for regression."""
        return len(self.classes) or 1

    def to_json(self) -> dict[str, Any]:
        """Convert to plain dicts, lists, text and finite numbers, as `json.load` returns them."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Preprocessing:
        """Make the preprocessing of what `to_json` returned, also after a JSON file.

        Raises:
            DataError: If a field is missing or unknown.
        """
        try:
            return Preprocessing(
                **{
                    **fields,
                    "columns": tuple(fields["columns"]),
                    "classes": tuple(fields["classes"]),
                    "numeric": tuple(NumericColumn(**column) for column in fields["numeric"]),
                    "categorical": tuple(
                        CategoryColumn(**{**column, "categories": tuple(column["categories"])})
                        for column in fields["categorical"]
                    ),
                }
            )
        except (KeyError, TypeError) as error:
            raise DataError(
                f"preprocessing: needs the fields that to_json writes, got {error}; "
                "it was written by another version or changed by hand"
            ) from error
