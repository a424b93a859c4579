"""Which trainers may run code here: those that the user has allowed.

Every path to a user's trainer goes through `load_spec_trainer`. The user allows a trainer once,
with --trust-trainer, or `trust_trainer=True` in Python. What is remembered is the digest of its
file's path, its code and the modules that it imports from its folder: other code asks again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from orchestrator.errors import SpecError
from orchestrator.quote import quote, shorten
from orchestrator.runtime.find_trainer import find_trainer_code
from orchestrator.runtime.trainer import Trainer, load_trainer
from orchestrator.runtime.trainer_code import TrainerCode
from orchestrator.store.files import atomic_write, make_folder
from pipelines.data.builtin_trainers import is_builtin_trainer
from pipelines.runs.spec import Spec

__all__ = ["check_trust", "load_spec_trainer"]

MAX_PATH = 1000  #: characters of a path that a message shows
MAX_REGISTRY_BYTES = 10_000_000  #: 150,000 digests
_allowed: set[str] = set()  # digests that were allowed in this process, if no file can hold them


def load_spec_trainer(spec: Spec) -> tuple[type[Trainer], TrainerCode | None]:
    """Load the trainer of a spec; the workers need its code, which is None for a built-in trainer.

    Raises:
        SpecError: If it cannot be loaded, or if the user has not allowed its code.
    """
    code = check_trust(spec, granted=False)
    return load_trainer(spec.trainer, code), code


def check_trust(spec: Spec, *, granted: bool) -> TrainerCode | None:
    """Read the code of a spec's trainer, and refuse it if the user has not allowed it.

    Args:
        spec: The spec of a run, or of a run to be.
        granted: Whether the user allows the trainer now; it is then remembered.

    Raises:
        SpecError: If the code is not allowed or cannot be read, or if the spec has a folder of
            modules but no trainer of the user's.
    """
    if is_builtin_trainer(spec.trainer):
        if spec.modules is not None:
            raise SpecError(
                f"modules: {quote(spec.modules)} needs a trainer of your own, got {spec.trainer}, "
                f"which is built in; remove the line `modules` from the spec"
            )
        return None
    code = find_trainer_code(spec.trainer, _list_folders(spec))
    if granted:
        _remember(code.digest)
    elif code.digest not in (_allowed | _read_digests()):
        raise SpecError(
            f"{shorten(code.file, MAX_PATH)}: the code of trainer {spec.trainer} would run here, "
            f"and it is new or has changed; if you trust it, add --trust-trainer "
            f"(once; trust_trainer=True in Python)"
        )
    return code


def _list_folders(spec: Spec) -> list[Path]:
    """The folders in which a user's trainer is searched: that of its spec, and this one."""
    return [*([Path(spec.modules)] if spec.modules else []), Path.cwd()]


def _remember(digest: str) -> None:
    """Allow this code from now on; if that cannot be recorded, the next command asks again."""
    _allowed.add(digest)
    digests = _read_digests()
    if digest in digests:
        return
    with contextlib.suppress(OSError, RuntimeError):
        make_folder(_registry().parent)
        with atomic_write(_registry(), mode=0o600) as file:
            file.write("".join(f"{line}\n" for line in sorted({*digests, digest})).encode())


def _read_digests() -> set[str]:
    """The digests in the registry; none if another user could have written them."""
    try:
        descriptor = os.open(_registry(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="ascii") as file:
            return set(file.read().split()) if _is_private(os.fstat(descriptor)) else set()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: there is no home folder
        return set()


def _is_private(status: os.stat_result) -> bool:
    """Whether this is a regular file of a sane size that this user alone can write to."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and status.st_size <= MAX_REGISTRY_BYTES
    )


def _registry() -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # ignored as the XDG specification says: it may be a foreign folder
        state = Path.home() / ".local" / "state"
    if not state.is_absolute():
        raise RuntimeError(f"HOME needs an absolute path, got {state}")
    return state / "caviar" / "trusted-trainers"
