"""scikit-learn's MLPClassifier, which has no batch norm and so does less."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from benchmarks.contestants import Pool, Shape, Split


def classifier(shape: Shape) -> MLPClassifier:
    """Adam at its defaults, which are ours."""
    return MLPClassifier(
        hidden_layer_sizes=shape.widths[1:-1], alpha=0.0, batch_size=shape.rows, random_state=1
    )


class Contestant:
    """partial_fit, which is an epoch; float32 like the others."""

    def __init__(self, shape: Shape, pool: Pool) -> None:
        self.model, self.batches = classifier(shape), len(pool.x)
        self.x, self.y = pool.x.reshape(-1, shape.widths[0]), pool.y.reshape(-1)
        self.model.partial_fit(self.x, self.y, classes=np.arange(shape.widths[-1]))

    def run(self, steps: int) -> None:
        """Each call checks and shuffles the data once."""
        for _ in range(steps // self.batches):
            self.model.partial_fit(self.x, self.y)

    @staticmethod
    def trial(shape: Shape, split: Split, epochs: int) -> float:
        """Accuracy and log loss after each epoch, as the others."""
        model, classes = classifier(shape), np.arange(shape.widths[-1])
        accuracy = 0.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(epochs):
                model.partial_fit(split.x, split.y, classes=classes)
                p = model.predict_proba(split.x_validation)
                log_loss(split.y_validation, p, labels=classes)
                accuracy = float((p.argmax(1) == split.y_validation).mean())
        return accuracy
