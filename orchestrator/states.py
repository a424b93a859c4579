"""The states of trials that wait, in safetensors files: a cache with a budget.

A state that is missing costs compute (the trial trains again), never correctness. Those of one
flush share a file; a file of which little is still needed is dissolved into the next one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from orchestrator.log import replacing
from orchestrator.trial import State
from orchestrator.worker import Held

__all__ = ["States", "from_tensors", "to_tensors"]

KEPT_SHARE = 0.1  #: of the budget, once a run has ended
DISSOLVE = 0.25  #: of a file's bytes still needed: below that it is rewritten into the next one


class States:
    """trial -> its latest state, in memory until the next flush, then on disk alone."""

    def __init__(self, folder: Path, *, budget_bytes: int) -> None:
        self._folder = folder
        self._budget = budget_bytes
        self._new: dict[int, Held] = {}
        self._file: dict[int, Path] = {}
        self._live: Counter[Path] = Counter()  # trials whose state a file holds
        self._epoch: dict[int, int] = {}
        self._bytes: dict[int, int] = {}
        self.used_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.tmp"):
            left.unlink()
        self._number = 0
        for path in sorted(folder.glob("states-*.safetensors")):
            self._number = int(path.stem.removeprefix("states-")) + 1
            self._index(path)

    def put(self, trial: int, held: Held) -> None:
        """Keep a state; it replaces the trial's earlier one."""
        self.drop(trial)
        self._new[trial] = held
        self._count(trial, held.epoch, sum(_bytes(v) for v in held.state.values()))

    def get(self, trial: int) -> Held | None:
        """The trial's latest state, or None if there is none that can be read."""
        if trial in self._new:
            return self._new[trial]
        path = self._file.get(trial)
        if path is None:
            return None
        try:
            return Held(epoch=self._epoch[trial], state=_load(path, trial))
        except (OSError, SafetensorError, KeyError):
            self.drop(trial)  # a cache: whoever asks trains again
            return None

    def drop(self, trial: int) -> None:
        """Forget a trial's state."""
        self._new.pop(trial, None)
        self._epoch.pop(trial, None)
        self.used_bytes -= self._bytes.pop(trial, 0)
        path = self._file.pop(trial, None)
        if path is not None:
            self._live[path] -= 1
            if not self._live[path]:
                del self._live[path]
                path.unlink(missing_ok=True)

    def over_budget(self) -> bool:
        """Whether there is more than the budget allows."""
        return self.used_bytes > self._budget

    def flush(self) -> None:
        """Write what is new, in one file."""
        self._dissolve()
        if not self._new:
            return
        path = self._folder / f"states-{self._number:06}.safetensors"
        self._number += 1
        tensors: dict[str, np.ndarray] = {}
        metadata: dict[str, str] = {}
        for trial, held in self._new.items():
            arrays, rest = to_tensors(held.state)
            tensors |= {f"{trial}/{name}": array for name, array in arrays.items()}
            metadata[str(trial)] = json.dumps({"epoch": held.epoch, "rest": rest})
        with replacing(path) as file:
            file.write(save(tensors, metadata))
        self._file |= dict.fromkeys(self._new, path)
        self._live[path] = len(self._new)
        self._new.clear()

    def trim(self) -> None:
        """Keep a tenth of the budget for a run that has ended and may be extended.

        What is cheapest to train again, the lowest epochs, goes first.
        """
        for trial in sorted(self._epoch, key=lambda t: (self._epoch[t], t)):
            if self.used_bytes <= self._budget * KEPT_SHARE:
                return
            self.drop(trial)

    def _dissolve(self) -> None:
        needed: dict[Path, int] = {}
        for trial, path in self._file.items():
            needed[path] = needed.get(path, 0) + self._bytes[trial]
        sparse = {p for p, used in needed.items() if used < DISSOLVE * p.stat().st_size}
        for trial in [t for t, p in self._file.items() if p in sparse]:
            held = self.get(trial)
            if held is not None:
                self.put(trial, held)

    def _count(self, trial: int, epoch: int, size: int) -> None:
        self._epoch[trial], self._bytes[trial] = epoch, size
        self.used_bytes += size

    def _index(self, path: Path) -> None:
        """Take in what an earlier session left; an unreadable file is a cache that was lost."""
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
            share = path.stat().st_size // max(len(metadata), 1)
        except (OSError, SafetensorError):
            path.unlink(missing_ok=True)
            return
        for trial, text in metadata.items():
            self.drop(int(trial))
            self._file[int(trial)] = path
            self._live[path] += 1
            self._count(int(trial), json.loads(text)["epoch"], share)


def _load(path: Path, trial: int) -> State:
    with safe_open(path, framework="np") as file:
        rest = json.loads(file.metadata()[str(trial)])["rest"]
        prefix = f"{trial}/"
        arrays = {
            name.removeprefix(prefix): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118 # a reader, not a mapping
            if name.startswith(prefix)
        }
    return from_tensors(arrays, rest)


def to_tensors(state: State) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A state as arrays, and what is not an array as JSON values."""
    arrays: dict[str, np.ndarray] = {}
    rest: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            arrays[name] = np.ascontiguousarray(value)
        elif isinstance(value, bytes):
            rest[name] = {"bytes": value.hex()}
        else:
            rest[name] = value
    return arrays, rest


def from_tensors(arrays: Mapping[str, np.ndarray], rest: Mapping[str, Any]) -> State:
    """The way back of `to_tensors`."""
    plain = {k: bytes.fromhex(v["bytes"]) if isinstance(v, dict) else v for k, v in rest.items()}
    return {**arrays, **plain}


def _bytes(value: object) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else 64
