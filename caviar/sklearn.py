"""The batch-norm networks behind scikit-learn's interface."""

from trainers.sklearn import BatchNormMLPClassifier, BatchNormMLPRegressor

__all__ = ["BatchNormMLPClassifier", "BatchNormMLPRegressor"]
