"""The folder best/: the files of one model, and config.yaml with the SHA-256 of each of them.

A model is several files, so a reader may meet the weights of one model beside the config of
another: while a search replaces its best model, after a kill, or in a copy. Therefore no file is
used that config.yaml does not name with its digest. A new model is written in three steps:

    config.yaml    describes the new model and, under `previous`, the one that is still there
    the files      each is replaced by a rename; from the last one on, the new model is there
    config.yaml    describes the new model alone

So at each moment, also after a kill, config.yaml describes the files beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import RunError, SpecError
from orchestrator.store.files import atomic_write, make_folder
from pipelines.runs.yaml_text import parse_yaml

__all__ = ["CONFIG", "BestFiles", "read_best", "write_best"]

CONFIG = "config.yaml"
MAX_CONFIG_BYTES = 1_000_000  #: a model of 1,000 hyperparameters has 50,000
_DIGESTS, _PREVIOUS = "sha256", "previous"  #: keys of config.yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class BestFiles:
    """The files of one model as they were at one moment."""

    content: Mapping[str, Any]  #: what config.yaml says about the model
    files: Mapping[str, bytes]  #: name -> content of each other file
    has_digests: bool  #: whether config.yaml proves that the files belong together


def write_best(folder: Path, files: Mapping[str, bytes], content: Mapping[str, Any]) -> None:
    """Replace the model in a folder by another one, in the order that the top of this file gives.

    Args:
        folder: The folder best/.
        files: Name -> content of each file; the last one is replaced last.
        content: What config.yaml says about the model.
    """
    make_folder(folder)
    described = {**content, _DIGESTS: _compute_digests(files)}
    old = _read_whole(folder, files)
    if old is not None:
        previous = {**old.content, _DIGESTS: _compute_digests(old.files)}
        _write(folder / CONFIG, _dump({**described, _PREVIOUS: previous}))
    for name, data in files.items():
        if old is None or old.files[name] != data:
            _write(folder / name, data)
    _write(folder / CONFIG, _dump(described))


def read_best(folder: Path, names: tuple[str, ...]) -> BestFiles:
    """Read the files of the model, which a search may replace meanwhile.

    Versions before 0.2 wrote no digests; such files are read as they are.

    Raises:
        OSError: If a file cannot be read.
        RunError: If the files are not those that config.yaml describes.
    """
    config = (folder / CONFIG).read_bytes()
    while True:
        files = {name: (folder / name).read_bytes() for name in names}
        config, before = (folder / CONFIG).read_bytes(), config
        if best := _select_description(folder, config, files):
            return best
        if config == before:  # no search has replaced the model between the two readings
            raise RunError(
                f"{folder}: {_name_difference(folder, config, files)} is not the file that "
                f"config.yaml describes (its SHA-256 differs), so parts of two models are mixed; "
                f"`caviar resume` makes the model anew"
            )


def _read_whole(folder: Path, names: Mapping[str, bytes]) -> BestFiles | None:
    try:
        return read_best(folder, tuple(names))
    except (OSError, RunError):
        return None


def _select_description(
    folder: Path, config: bytes, files: Mapping[str, bytes]
) -> BestFiles | None:
    """The model in config.yaml whose digests the files have, or None if it describes others."""
    content, digests = _parse(folder, config), _compute_digests(files)
    if _DIGESTS not in content:
        return BestFiles(content=content, files=files, has_digests=False)
    for described in (content, content.get(_PREVIOUS)):
        if isinstance(described, Mapping) and described.get(_DIGESTS) == digests:
            plain = {k: v for k, v in described.items() if k not in (_DIGESTS, _PREVIOUS)}
            return BestFiles(content=plain, files=files, has_digests=True)
    return None


def _name_difference(folder: Path, config: bytes, files: Mapping[str, bytes]) -> str:
    """The name of the first file whose digest config.yaml does not have."""
    described = _parse(folder, config)[_DIGESTS]
    known = described if isinstance(described, Mapping) else {}
    digests = _compute_digests(files)
    return next((name for name in files if known.get(name) != digests[name]), "a file")


def _parse(folder: Path, config: bytes) -> dict[str, Any]:
    try:
        if len(config) > MAX_CONFIG_BYTES:
            raise ValueError(f"{len(config):,} bytes, at most {MAX_CONFIG_BYTES:,} are needed")
        return parse_yaml(config.decode(), source=str(folder / CONFIG))
    except (SpecError, ValueError) as e:
        raise RunError(
            f"{folder}: config.yaml is damaged ({e}); `caviar resume` makes the model anew"
        ) from e


def _compute_digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _dump(content: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(content), sort_keys=False).encode()


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as file:
        file.write(data)
