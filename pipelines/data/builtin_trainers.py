"""Import paths of the built-in trainers, as specs and saved models name them."""

from __future__ import annotations

__all__ = ["BUILTIN_TRAINERS", "is_builtin_trainer"]

#: Import path of the built-in trainer of each task; new runs write these paths.
BUILTIN_TRAINERS = {
    "classification": "caviar.trainers:BatchNormClassifier",
    "regression": "caviar.trainers:BatchNormRegressor",
}
#: Import paths that version 0.1 wrote into spec.yaml and best/config.yaml.
_PATHS_OF_0_1 = (
    "trainers.batchnorm_mlp:BatchNormClassifier",
    "trainers.batchnorm_mlp:BatchNormRegressor",
)


def is_builtin_trainer(path: str) -> bool:
    """Tell whether an import path names a built-in trainer, by its present or an old path."""
    return path in BUILTIN_TRAINERS.values() or path in _PATHS_OF_0_1
