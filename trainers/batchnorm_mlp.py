"""The import path that version 0.1 wrote into spec.yaml and best/; its runs go on loading."""

from trainers.training.trainer import BatchNormClassifier, BatchNormRegressor

__all__ = ["BatchNormClassifier", "BatchNormRegressor"]
