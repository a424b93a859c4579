"""Import path that version 0.1 wrote into spec.yaml and best/, so that its runs still load."""

from trainers.training.trainer import BatchNormClassifier, BatchNormRegressor

__all__ = ["BatchNormClassifier", "BatchNormRegressor"]
