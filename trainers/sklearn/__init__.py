"""The trainers behind scikit-learn's interface: for pipelines, grid searches and pickles."""

from trainers.sklearn.classifier import BatchNormMLPClassifier
from trainers.sklearn.regressor import BatchNormMLPRegressor

__all__ = ["BatchNormMLPClassifier", "BatchNormMLPRegressor"]
