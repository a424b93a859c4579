"""The states of trials that wait, in safetensors files: a cache with a budget.

A state that is missing costs compute (the trial trains again), never correctness. Those of one
flush share a file; a file of which little is still needed is dissolved into the next one.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from orchestrator.runtime.worker import Checkpoint
from orchestrator.search.messages import State
from orchestrator.store.files import atomic_write

__all__ = ["CheckpointStore", "from_tensors", "to_tensors"]

FINAL_BUDGET_SHARE = 0.1  #: of the budget, once a run has ended
SMALL_BYTES = 8_000_000  #: files below this are joined to others, so that they stay few
MEMORY_CACHE_BYTES = 200_000_000  #: of states on disk that are kept in memory too, the latest ones
MIN_LIVE_SHARE = (
    0.25  #: of a file's bytes still needed: below that it is rewritten into the next one
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredCheckpoint:
    """A state on disk."""

    path: Path
    epoch: int
    bytes: int


class CheckpointStore:
    """trial -> its latest state, in memory until the next flush, then on disk.

    The latest ones stay in memory too: to open a file for each would cost more with every state
    that it holds.
    """

    def __init__(self, folder: Path, *, budget_bytes: int) -> None:
        self._folder = folder
        self._budget = budget_bytes
        self._new: dict[int, Checkpoint] = {}
        self._handy: dict[int, Checkpoint] = {}  # of those on disk, the oldest first
        self._handy_bytes = 0
        self._disk: dict[int, _StoredCheckpoint] = {}
        self._written: dict[Path, int] = {}  # bytes of states a file was written with
        self._needed: Counter[Path] = Counter()  # bytes of those that are still wanted
        self._holds: defaultdict[Path, set[int]] = defaultdict(set)  # and whose they are
        self.used_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.tmp"):
            left.unlink()
        self._number = 0
        for path in sorted(folder.glob("states-*.safetensors")):
            self._number = int(path.stem.removeprefix("states-")) + 1
            self._index(path)

    def put(self, trial: int, held: Checkpoint) -> None:
        """Keep a state. The trial's earlier one stays on disk until this one is there."""
        self._forget_new(trial)
        self._new[trial] = held
        self.used_bytes += held.bytes

    def get(self, trial: int) -> Checkpoint | None:
        """The trial's latest state, or None if there is none that can be read."""
        if found := self._new.get(trial) or self._handy.get(trial):
            return found
        kept = self._disk.get(trial)
        if kept is None:
            return None
        try:
            return _load(kept.path, [trial])[trial]
        except (OSError, SafetensorError, KeyError, ValueError):
            self.drop(trial)  # a cache: whoever asks trains again
            return None

    def drop(self, trial: int) -> None:
        """Forget a trial's state."""
        self._forget_new(trial)
        self._put_away(trial)
        kept = self._disk.pop(trial, None)
        if kept is None:
            return
        self.used_bytes -= kept.bytes
        self._needed[kept.path] -= kept.bytes
        self._holds[kept.path].discard(trial)
        if not self._holds[kept.path]:
            for of_file in (self._holds, self._needed, self._written):
                of_file.pop(kept.path, None)
            kept.path.unlink(missing_ok=True)

    def __contains__(self, trial: object) -> bool:
        """Whether a trial's state is kept."""
        return trial in self._new or trial in self._disk

    def keep(self, trials: Container[int]) -> None:
        """Forget all but these trials' states."""
        for trial in [t for t in (*self._disk, *self._new) if t not in trials]:
            self.drop(trial)

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
            about = {"epoch": held.epoch, "bytes": held.bytes, "rest": rest}
            metadata[str(trial)] = json.dumps(about)
        with atomic_write(path) as file:
            file.write(save(tensors, metadata))
        for trial, held in list(self._new.items()):
            self.drop(trial)
            self._take_in(trial, _StoredCheckpoint(path=path, epoch=held.epoch, bytes=held.bytes))
            self._handy[trial] = held
            self._handy_bytes += held.bytes
        while self._handy_bytes > MEMORY_CACHE_BYTES:
            self._put_away(next(iter(self._handy)))
        self._written[path] = self._needed[path]

    def trim(self) -> None:
        """Keep a tenth of the budget for a run that has ended and may be extended.

        What is cheapest to train again, the lowest epochs, goes first.
        """
        epochs = {t: k.epoch for t, k in self._disk.items()}
        epochs |= {t: h.epoch for t, h in self._new.items()}
        for trial in sorted(epochs, key=lambda t: (epochs[t], t)):
            if self.used_bytes <= self._budget * FINAL_BUDGET_SHARE:
                return
            self.drop(trial)

    def _dissolve(self) -> None:
        """Take what is wanted of nearly empty files, and of small ones, into the next one."""
        joined = self._joined()
        for path, written in reversed(list(self._written.items())):
            if self._needed[path] >= MIN_LIVE_SHARE * written and path not in joined:
                continue
            wanted = self._holds[path] - self._new.keys()
            found = {t: held for t, held in self._handy.items() if t in wanted}
            rest = sorted(wanted - found.keys())
            try:
                found = (_load(path, rest) if rest else {}) | found
            except (OSError, SafetensorError, KeyError, ValueError):
                for trial in rest:
                    self.drop(trial)  # a cache: whoever asks trains again
            self._new = {**found, **self._new}  # the older ones first
            self.used_bytes += sum(held.bytes for held in found.values())

    def _joined(self) -> set[Path]:
        """Small files that go into the next one: those that are no larger than all it has so far.

        So a state moves on into a file of twice the size, and is written a few times in all (the
        logarithmic method, Bentley and Saxe 1980), and few small files are left.
        """
        joined: set[Path] = set()
        if not self._new:
            return joined
        so_far = sum(held.bytes for held in self._new.values())
        for path in sorted(self._written, key=self._written.__getitem__):
            if self._written[path] > min(so_far, SMALL_BYTES):
                break
            so_far += self._needed[path]
            joined.add(path)
        return joined

    def _take_in(self, trial: int, kept: _StoredCheckpoint) -> None:
        self._disk[trial] = kept
        self._needed[kept.path] += kept.bytes
        self._holds[kept.path].add(trial)
        self.used_bytes += kept.bytes

    def _put_away(self, trial: int) -> None:
        held = self._handy.pop(trial, None)
        if held is not None:
            self._handy_bytes -= held.bytes

    def _forget_new(self, trial: int) -> None:
        held = self._new.pop(trial, None)
        if held is not None:
            self.used_bytes -= held.bytes

    def _index(self, path: Path) -> None:
        """Take in what an earlier session left; an unreadable file is a cache that was lost."""
        try:
            with safe_open(path, framework="np") as file:
                found = {int(t): json.loads(text) for t, text in (file.metadata() or {}).items()}
            kept = {
                t: _StoredCheckpoint(path=path, epoch=about["epoch"], bytes=about["bytes"])
                for t, about in found.items()
            }
        except (OSError, SafetensorError, ValueError, KeyError):
            path.unlink(missing_ok=True)
            return
        for trial, one in kept.items():
            self.drop(trial)
            self._take_in(trial, one)
        self._written[path] = self._needed[path]


def _load(path: Path, trials: Collection[int]) -> dict[int, Checkpoint]:
    """The states of these trials in a file."""
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        about = {trial: json.loads(metadata[str(trial)]) for trial in trials}
        arrays: dict[int, dict[str, np.ndarray]] = {trial: {} for trial in trials}
        for key in file.keys():  # noqa: SIM118 # a reader, not a mapping
            trial, _, name = key.partition("/")
            if int(trial) in arrays:
                arrays[int(trial)][name] = file.get_tensor(key)
    return {
        t: Checkpoint(epoch=a["epoch"], state=from_tensors(arrays[t], a["rest"]))
        for t, a in about.items()
    }


def to_tensors(state: State) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A state as arrays, and what is not an array as JSON values."""
    arrays: dict[str, np.ndarray] = {}
    rest: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            arrays[name] = np.asarray(value, order="C")
        elif isinstance(value, bytes):
            rest[name] = {"bytes": value.hex()}
        else:
            rest[name] = value.item() if isinstance(value, np.generic) else value
    return arrays, rest


def from_tensors(arrays: Mapping[str, np.ndarray], rest: Mapping[str, Any]) -> State:
    """The way back of `to_tensors`."""
    plain = {k: bytes.fromhex(v["bytes"]) if isinstance(v, dict) else v for k, v in rest.items()}
    return {**arrays, **plain}
