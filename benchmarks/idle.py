"""Trainers that learn nothing, so that what a run costs beside training can be seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np


class Empty:
    """An epoch takes no time; the loss falls as learning curves do."""

    metrics: ClassVar[dict[str, tuple[type, str]]] = {
        "validation_loss": (float, "min"),
        "train_loss": (float, "min"),
    }

    def __init__(self, config: Mapping[str, Any], *, seed: int, data: Any, max_epochs: int) -> None:
        self.config, self.done = config, 0
        self.noise = np.random.default_rng(seed).random(64)

    def epoch(self) -> Mapping[str, float]:
        """Compute one number from the configuration and the seed."""
        self.done += 1
        distance = (np.log10(self.config["rate"]) + 2) ** 2 + self.config["share"]
        loss = float(distance + 1 / self.done + 0.1 * self.noise[self.done % 64])
        return {"validation_loss": loss, "train_loss": loss}

    def state(self) -> Mapping[str, Any]:
        """Return the smallest possible state."""
        return {"done": self.done}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.done = int(state["done"])

    def adjust(self, changes: Mapping[str, Any]) -> None:
        """Change nothing."""


class Burning(Empty):
    """An epoch takes `burn_seconds` of processor time."""

    metrics: ClassVar[dict[str, tuple[type, str]]] = {
        **Empty.metrics,
        "processor_seconds": (float, "none"),
    }

    def epoch(self) -> Mapping[str, float]:
        """Use processor time until `burn_seconds` are used."""
        begin = time.process_time()
        while (used := time.process_time() - begin) < self.config["burn_seconds"]:
            pass
        return {**super().epoch(), "processor_seconds": used}
