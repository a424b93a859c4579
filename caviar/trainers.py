"""The trainers that a spec can name: `trainer: caviar.trainers:BatchNormClassifier`."""

from trainers.training.trainer import BatchNormClassifier, BatchNormRegressor

__all__ = ["BatchNormClassifier", "BatchNormRegressor"]
