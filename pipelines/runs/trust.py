"""Whose code may run here: a spec that names a trainer of its own names code.

Such a spec is asked for once, with --trust-trainer. It is remembered by its content, and so is the
spec of each run that this command has made; one that came from elsewhere, or was changed, is asked
for again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from orchestrator.errors import SpecError
from orchestrator.store.files import atomic_write
from pipelines.data.builtin_trainers import is_builtin_trainer
from pipelines.runs.spec import read_yaml

__all__ = ["check_trust", "remember"]


def check_trust(spec_file: Path, *, given: bool) -> None:
    """Refuse a spec whose trainer's code nobody has said to trust.

    Args:
        spec_file: As a user or a run has it.
        given: Whether --trust-trainer was typed.

    Raises:
        SpecError: If it names a trainer that is not ours, and is not known.
    """
    trainer = read_yaml(spec_file).get("trainer")
    if trainer is None or is_builtin_trainer(trainer):
        return
    if given:
        remember(spec_file)
    elif _mark(spec_file) not in _known():
        raise SpecError(
            f"{spec_file}: names a trainer of its own, {trainer}, whose code would run here; "
            f"if you trust it, add --trust-trainer (once)"
        )


def remember(spec_file: Path) -> None:
    """From now on this content is trusted; where that cannot be noted, it is asked for again."""
    known, mark = _known(), _mark(spec_file)
    if mark in known:
        return
    with contextlib.suppress(OSError):
        _place().parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(_place()) as file:
            file.write("".join(f"{k}\n" for k in (*known, mark)).encode())


def _mark(spec_file: Path) -> str:
    return hashlib.sha256(spec_file.read_bytes()).hexdigest()


def _known() -> list[str]:
    try:
        return _place().read_text(encoding="utf-8").split()
    except OSError:
        return []


def _place() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "caviar" / "trusted-specs"
