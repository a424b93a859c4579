"""Ours."""

from __future__ import annotations

import numpy as np

from benchmarks.contestants import DECAY, EPSILON, Pool, Shape, Split
from trainers.network.backprop import Backprop
from trainers.network.losses import choose_loss
from trainers.network.network import Network
from trainers.network.row_broadcast import shorten_buffer
from trainers.training.data import Data
from trainers.training.optimizers import Adam
from trainers.training.trainer import BatchNormClassifier


class Contestant:
    """The training step of `trainers.training.trainer`, without its bookkeeping by epochs."""

    def __init__(self, shape: Shape, pool: Pool) -> None:
        classes = shape.widths[-1]
        self.network = Network((*shape.widths[:-1], shape.outputs), dtype=np.float32)
        self.network.draw(np.random.default_rng(1), "he")
        loss = choose_loss("classification", classes)
        self.backprop = Backprop(
            self.network,
            rows=shape.rows,
            loss=loss,
            activation="relu",
            epsilon=EPSILON,
            dropout=0.0,
        )
        self.optimizer = Adam(
            self.network.parameters, self.network.gradient, beta1=0.9, beta2=0.999, epsilon=1e-8
        )
        shares = np.full(pool.y.shape, 1 / shape.rows, np.float32)
        self.batches = list(zip(pool.x, loss.make_targets(pool.y, shares, classes), strict=True))

    def run(self, steps: int) -> None:
        """Forward, backward, running statistics, Adam."""
        with np.errstate(all="ignore"), shorten_buffer():
            for _ in range(steps // len(self.batches)):
                for x, targets in self.batches:
                    self.backprop(x, targets)
                    self.network.statistics.add(rows=len(x), decay=DECAY, epsilon=EPSILON)
                    self.optimizer.step(1e-3)

    @staticmethod
    def trial(shape: Shape, split: Split, epochs: int) -> float:
        """Train a whole trial as a worker does."""
        units = {f"units_{i}": u for i, u in enumerate(shape.widths[1:-1], start=1)}
        trainer = BatchNormClassifier(
            {"layers": len(units), **units, "batch_size": shape.rows},
            seed=0,
            data=Data(
                task="classification",
                outputs=shape.widths[-1],
                x_train=split.x,
                y_train=split.y,
                x_validation=split.x_validation,
                y_validation=split.y_validation,
            ),
            max_epochs=epochs,
        )
        return [trainer.epoch()["validation_accuracy"] for _ in range(epochs)][-1]
