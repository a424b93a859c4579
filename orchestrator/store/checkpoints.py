"""The checkpoints of trials that wait, in safetensors files: a cache with a budget.

A checkpoint that is missing costs compute (the trial trains again), never correctness. The
checkpoints of one flush share a file. A file of which little is still needed is merged into the
next one.
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
from orchestrator.store.files import atomic_write, make_folder, remove_file

__all__ = ["CheckpointStore", "from_tensors", "to_tensors"]

FINAL_BUDGET_SHARE = 0.1  #: fraction of the budget that stays in use once a run has ended
SMALL_BYTES = 8_000_000  #: files smaller than this are merged, so that there are few files
MEMORY_CACHE_BYTES = 200_000_000  #: bytes of the latest checkpoints on disk that memory holds too
MAX_DIGITS = 9  #: digits of a file's number
#: What reading raises where a file's content is not what `_save_checkpoints` wrote.
_UNREADABLE = (
    OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError,
)  # fmt: skip
MIN_LIVE_SHARE = 0.25  #: a file with a smaller fraction of needed bytes is merged into the next one


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredCheckpoint:
    """Where on disk a checkpoint is."""

    path: Path
    epoch: int
    bytes: int


class CheckpointStore:
    """The latest checkpoint of each trial: in memory until the next flush, then on disk.

    The latest ones on disk stay in memory too, because opening a file for each of them would cost
    more with every checkpoint that the file holds.
    """

    def __init__(self, folder: Path, *, budget_bytes: int) -> None:
        self._folder = folder
        self._budget = budget_bytes
        self._unsaved: dict[int, Checkpoint] = {}
        self._cached: dict[int, Checkpoint] = {}  # copies of checkpoints on disk, oldest first
        self._cached_bytes = 0
        self._saved: dict[int, _StoredCheckpoint] = {}
        self._total_bytes: dict[Path, int] = {}  # bytes of checkpoints that a file began with
        self._live_bytes: Counter[Path] = Counter()  # bytes of those that are still needed
        self._live_trials: defaultdict[Path, set[int]] = defaultdict(set)  # the trials of these
        self.used_bytes = 0
        make_folder(folder)
        self._number = 0
        for path in sorted(folder.glob("states-*.safetensors")):
            number = path.stem.removeprefix("states-")
            if number.isdecimal() and len(number) <= MAX_DIGITS:
                self._number = max(self._number, int(number) + 1)
                self._index_file(path)

    def put(self, trial: int, checkpoint: Checkpoint) -> None:
        """Store a checkpoint; the trial's earlier one stays on disk until this one is there."""
        self._drop_unsaved(trial)
        self._unsaved[trial] = checkpoint
        self.used_bytes += checkpoint.bytes

    def get(self, trial: int) -> Checkpoint | None:
        """The trial's latest checkpoint, or None if there is none that can be read."""
        if checkpoint := self._unsaved.get(trial) or self._cached.get(trial):
            return checkpoint
        stored = self._saved.get(trial)
        if stored is None:
            return None
        try:
            return _load_checkpoints(stored.path, [trial])[trial]
        except _UNREADABLE:
            self.drop(trial)  # a cache: the trial trains again
            return None

    def drop(self, trial: int) -> None:
        """Forget a trial's checkpoints."""
        self._drop_unsaved(trial)
        self._drop_cached(trial)
        stored = self._saved.pop(trial, None)
        if stored is None:
            return
        self.used_bytes -= stored.bytes
        self._live_bytes[stored.path] -= stored.bytes
        self._live_trials[stored.path].discard(trial)
        if not self._live_trials[stored.path]:
            for by_file in (self._live_trials, self._live_bytes, self._total_bytes):
                by_file.pop(stored.path, None)
            remove_file(stored.path)

    def __contains__(self, trial: object) -> bool:
        """Whether the store has a checkpoint of this trial."""
        return trial in self._unsaved or trial in self._saved

    def keep(self, trials: Container[int]) -> None:
        """Forget the checkpoints of all other trials."""
        for trial in [t for t in (*self._saved, *self._unsaved) if t not in trials]:
            self.drop(trial)

    def over_budget(self) -> bool:
        """Whether the checkpoints need more bytes than the budget allows."""
        return self.used_bytes > self._budget

    def flush(self) -> None:
        """Write the unsaved checkpoints to one new file."""
        self._merge_files()
        if not self._unsaved:
            return
        path = self._folder / f"states-{self._number:06}.safetensors"
        self._number += 1
        _save_checkpoints(path, self._unsaved)
        for trial, checkpoint in list(self._unsaved.items()):
            self.drop(trial)
            self._add_saved(
                trial,
                _StoredCheckpoint(path=path, epoch=checkpoint.epoch, bytes=checkpoint.bytes),
            )
            self._cached[trial] = checkpoint
            self._cached_bytes += checkpoint.bytes
        while self._cached_bytes > MEMORY_CACHE_BYTES:
            self._drop_cached(next(iter(self._cached)))
        self._total_bytes[path] = self._live_bytes[path]

    def trim(self) -> None:
        """Use a tenth of the budget, for a run that has ended and may be extended.

        The checkpoints of the lowest epochs, which are the cheapest to train again, go first.
        """
        epochs = {t: stored.epoch for t, stored in self._saved.items()}
        epochs |= {t: checkpoint.epoch for t, checkpoint in self._unsaved.items()}
        for trial in sorted(epochs, key=lambda t: (epochs[t], t)):
            if self.used_bytes <= self._budget * FINAL_BUDGET_SHARE:
                return
            self.drop(trial)

    def _merge_files(self) -> None:
        """Take the needed checkpoints of nearly empty and of small files into the next file."""
        small = self._select_small_files()
        for path, total in reversed(list(self._total_bytes.items())):
            if self._live_bytes[path] >= MIN_LIVE_SHARE * total and path not in small:
                continue
            needed = self._live_trials[path] - self._unsaved.keys()
            moved = {t: checkpoint for t, checkpoint in self._cached.items() if t in needed}
            on_disk = sorted(needed - moved.keys())
            try:
                moved = (_load_checkpoints(path, on_disk) if on_disk else {}) | moved
            except (OSError, SafetensorError, KeyError, ValueError):
                for trial in on_disk:
                    self.drop(trial)  # a cache: the trial trains again
            self._unsaved = {**moved, **self._unsaved}  # the older ones first
            self.used_bytes += sum(checkpoint.bytes for checkpoint in moved.values())

    def _select_small_files(self) -> set[Path]:
        """Small files that go into the next one: those no larger than all that it has so far.

        So a checkpoint moves on into a file of twice the size, and is written a few times in all
        (the logarithmic method, Bentley and Saxe 1980), and few small files are left.
        """
        selected: set[Path] = set()
        if not self._unsaved:
            return selected
        so_far = sum(checkpoint.bytes for checkpoint in self._unsaved.values())
        for path in sorted(self._total_bytes, key=self._total_bytes.__getitem__):
            if self._total_bytes[path] > min(so_far, SMALL_BYTES):
                break
            so_far += self._live_bytes[path]
            selected.add(path)
        return selected

    def _add_saved(self, trial: int, stored: _StoredCheckpoint) -> None:
        self._saved[trial] = stored
        self._live_bytes[stored.path] += stored.bytes
        self._live_trials[stored.path].add(trial)
        self.used_bytes += stored.bytes

    def _drop_cached(self, trial: int) -> None:
        checkpoint = self._cached.pop(trial, None)
        if checkpoint is not None:
            self._cached_bytes -= checkpoint.bytes

    def _drop_unsaved(self, trial: int) -> None:
        checkpoint = self._unsaved.pop(trial, None)
        if checkpoint is not None:
            self.used_bytes -= checkpoint.bytes

    def _index_file(self, path: Path) -> None:
        """Take in a file of an earlier session; one that cannot be read is removed."""
        try:
            with safe_open(path, framework="np") as file:
                metadata = {int(t): json.loads(text) for t, text in (file.metadata() or {}).items()}
            stored = {
                t: _StoredCheckpoint(
                    path=path, epoch=_read_count(entry, "epoch"), bytes=_read_count(entry, "bytes")
                )
                for t, entry in metadata.items()
            }
        except _UNREADABLE:
            remove_file(path)
            return
        for trial, checkpoint in stored.items():
            self.drop(trial)
            self._add_saved(trial, checkpoint)
        self._total_bytes[path] = self._live_bytes[path]


def _read_count(entry: Mapping[str, Any], name: str) -> int:
    value = entry[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} needs a whole number from 0, got {value!r}")
    return value


def _save_checkpoints(path: Path, checkpoints: Mapping[int, Checkpoint]) -> None:
    tensors: dict[str, np.ndarray] = {}
    metadata: dict[str, str] = {}
    for trial, checkpoint in checkpoints.items():
        arrays, rest = to_tensors(checkpoint.state)
        tensors |= {f"{trial}/{name}": array for name, array in arrays.items()}
        entry = {"epoch": checkpoint.epoch, "bytes": checkpoint.bytes, "rest": rest}
        metadata[str(trial)] = json.dumps(entry)
    with atomic_write(path) as file:
        file.write(save(tensors, metadata))


def _load_checkpoints(path: Path, trials: Collection[int]) -> dict[int, Checkpoint]:
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        entries = {trial: json.loads(metadata[str(trial)]) for trial in trials}
        arrays: dict[int, dict[str, np.ndarray]] = {trial: {} for trial in trials}
        for key in file.keys():  # noqa: SIM118 # a reader, not a mapping
            trial, _, name = key.partition("/")
            if int(trial) in arrays:
                arrays[int(trial)][name] = file.get_tensor(key)
    return {
        t: Checkpoint(
            epoch=_read_count(entry, "epoch"), state=from_tensors(arrays[t], entry["rest"])
        )
        for t, entry in entries.items()
    }


def to_tensors(state: State) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Split a state into its arrays and its other values, the latter as JSON values."""
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
    """Join what `to_tensors` has split."""
    plain = {k: bytes.fromhex(v["bytes"]) if isinstance(v, dict) else v for k, v in rest.items()}
    return {**arrays, **plain}
