"""Paths as Python users give them."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.errors import SpecError

__all__ = ["make_path"]


def make_path(argument: str, value: object) -> Path:
    """Make a path of an argument.

    Raises:
        SpecError: If it is neither text nor a path, is empty, or is no path of a file system: one
            with a NUL, or with a name of more than 255 bytes.
    """
    from orchestrator.quote import quote

    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        raise SpecError(f"`{argument}` needs a path, got {quote(value)}")
    path = Path(value)
    if any(len(part.encode(errors="surrogatepass")) > 255 for part in path.parts):
        raise SpecError(f"`{argument}` needs names of at most 255 bytes, got {quote(str(value))}")
    return path
