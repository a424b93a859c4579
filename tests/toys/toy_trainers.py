"""Trainers that train nothing: each shows one thing a trainer can do to a search."""

from __future__ import annotations

import os
import pathlib
import signal
import sys  # noqa: F401 # for `Leaving`
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np


class Toy:
    """Its loss falls towards `floor` at a rate of its own; exact to pause and resume."""

    metrics: ClassVar[dict[str, tuple[type, str]]] = {"validation_loss": (float, "min")}

    def __init__(self, config: Mapping[str, Any], *, seed: int, data: Any, max_epochs: int) -> None:
        self.config = dict(config)
        self.rng = np.random.default_rng(seed)
        self.loss = np.array([10.0])
        self.epochs = 0

    def epoch(self) -> Mapping[str, Any]:
        floor = float(self.config.get("floor", 0.0))
        self.loss += 0.5 * (floor - self.loss) + 0.01 * self.rng.random(1)
        self.epochs += 1
        return {"validation_loss": float(self.loss[0])}

    def state(self) -> Mapping[str, Any]:
        words = self.rng.bit_generator.state["state"]
        return {
            "loss": self.loss.copy(),
            "epochs": self.epochs,
            "rng": f"{words['state']} {words['inc']}",
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.loss[:] = state["loss"]
        self.epochs = int(state["epochs"])
        number, step = map(int, state["rng"].split())
        whole = self.rng.bit_generator.state
        self.rng.bit_generator.state = whole | {"state": {"state": number, "inc": step}}

    def adjust(self, changes: Mapping[str, Any]) -> None:
        self.config |= changes


class Slow(Toy):
    """An epoch takes a while."""

    def epoch(self) -> Mapping[str, Any]:
        time.sleep(0.05)
        return super().epoch()


class Heavy(Toy):
    """Its state takes 30 MB."""

    def state(self) -> Mapping[str, Any]:
        return {**super().state(), "ballast": np.full(30_000_000 // 8, float(self.epochs))}


class Raising(Toy):
    """Raises in its second epoch where its floor is low."""

    def epoch(self) -> Mapping[str, Any]:
        if self.epochs == 1 and self.config["floor"] < 0.3:
            raise RuntimeError("the second epoch is not for me")
        return super().epoch()


class Unreadable(Exception):  # noqa: N818
    """An error whose message cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Leaving(Toy):
    """Runs the line of Python that its configuration names, in its second epoch.

    The line may use the modules of this file, such as `sys`.
    """

    def epoch(self) -> Mapping[str, Any]:
        if self.epochs == 1:
            exec(self.config["way"])
        return super().epoch()


class NeverTrains(Toy):
    """Raises at once."""

    def epoch(self) -> Mapping[str, Any]:
        raise RuntimeError("no epoch ever")


class Undeclared(Toy):
    """Reports a metric that it did not declare."""

    def epoch(self) -> Mapping[str, Any]:
        return {**super().epoch(), "surprise": 1.0}


class Diverging(Toy):
    """Its loss is NaN from the second epoch on."""

    def epoch(self) -> Mapping[str, Any]:
        found = super().epoch()
        return {"validation_loss": float("nan")} if self.epochs >= 2 else found


class KillsItsWorker(Toy):
    """Kills its process where the config says so, as a config that runs out of memory would."""

    def epoch(self) -> Mapping[str, Any]:
        if self.config.get("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().epoch()


class Hanging(Toy):
    """Does not come back for an hour from the epoch `hangs_in`; in its first process alone."""

    def epoch(self) -> Mapping[str, Any]:
        if self.epochs + 1 == self.config.get("hangs_in"):
            marker = pathlib.Path(self.config["marker"])
            if not marker.exists():
                marker.touch()
                time.sleep(self.config.get("hangs_seconds", 3600))
        time.sleep(0.3)  # two are longer than a worker keeps reports to itself
        return super().epoch()
