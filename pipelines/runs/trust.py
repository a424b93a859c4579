"""Which specs may run code here: a spec that names a user's trainer names code.

The user allows such a spec once, with --trust-trainer. It is remembered by its content, and so is
the spec of each run that this command has made. A spec that came from elsewhere or was changed has
to be allowed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from orchestrator.errors import SpecError
from orchestrator.store.files import atomic_write, make_folder
from pipelines.data.builtin_trainers import is_builtin_trainer
from pipelines.runs.yaml_text import read_yaml

__all__ = ["check_trust", "trust_spec"]


def check_trust(spec_file: Path, *, granted: bool) -> None:
    """Refuse a spec whose trainer's code the user has not allowed.

    Args:
        spec_file: A user's spec, or the spec.yaml of a run.
        granted: Whether --trust-trainer was typed.

    Raises:
        SpecError: If it names a trainer that is not built in, and was not allowed before.
    """
    trainer = read_yaml(spec_file).get("trainer")
    if trainer is None or is_builtin_trainer(trainer):
        return
    if granted:
        trust_spec(spec_file)
    elif _digest(spec_file) not in _read_digests():
        raise SpecError(
            f"{spec_file}: names the trainer {trainer}, whose code would run here; "
            f"if you trust it, add --trust-trainer (once)"
        )


def trust_spec(spec_file: Path) -> None:
    """Trust this spec from now on; if that cannot be recorded, the user is asked again."""
    digests, digest = _read_digests(), _digest(spec_file)
    if digest in digests:
        return
    with contextlib.suppress(OSError):
        make_folder(_registry().parent)
        with atomic_write(_registry()) as file:
            file.write("".join(f"{line}\n" for line in (*digests, digest)).encode())


def _digest(spec_file: Path) -> str:
    return hashlib.sha256(spec_file.read_bytes()).hexdigest()


def _read_digests() -> list[str]:
    try:
        return _registry().read_text(encoding="utf-8").split()
    except OSError:
        return []


def _registry() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "caviar" / "trusted-specs"
