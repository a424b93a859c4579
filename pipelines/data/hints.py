"""Names in messages: short lists, and the names that a misspelt one resembles."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

__all__ = ["find_similar", "format_names"]


def format_names(names: Sequence[str], most: int = 5) -> str:
    """Format names in quotes: at most `most` of them, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def find_similar(name: str, options: Sequence[str]) -> list[str]:
    """Find the options that look like `name`, the most similar first; case does not matter."""
    by_lower = {option.lower(): option for option in options}
    return [by_lower[m] for m in difflib.get_close_matches(name.lower(), by_lower, cutoff=0.6)]
