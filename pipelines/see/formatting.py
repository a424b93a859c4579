"""Durations and shares as people type them, and numbers as people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.errors import SpecError
from orchestrator.quote import quote

__all__ = [
    "escape_controls",
    "format_duration",
    "format_number",
    "format_with_interval",
    "parse_duration",
    "parse_share",
]

MAX_SECONDS = 100 * 365 * 86400  #: longest duration: 100 years; threads wait at most 292 years
#: Characters that act on a terminal instead of being shown: control characters (ESC, and the codes
#: 0x80 to 0x9f, among them), separators of lines, and marks that change the direction of writing.
#: Surrogates alone cannot be written at all.
_CONTROLS = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str, option: str = "--time") -> float:
    """Parse 60s, 10m, 2h or 1h30m into seconds; a bare number is seconds.

    Raises:
        SpecError: If the text is none of these, or the duration is not above 0 or over 100 years.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)([smhd]))+|\d+(?:\.\d+)?", text.strip())
    terms = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    total = sum(float(number) * _UNITS[unit or "s"] for number, unit in terms) if parts else 0.0
    if not total > 0:
        raise SpecError(f"{option} needs something like 60s, 10m or 2h, got {quote(text)}")
    if total > MAX_SECONDS:
        raise SpecError(f"{option} needs at most {MAX_SECONDS:,} seconds, got {quote(text)}")
    return total


def parse_share(text: str, option: str) -> float:
    """Parse 5% or 0.05 into a fraction.

    Raises:
        SpecError: If the text is neither, or the fraction is not between 0 and a half.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= share <= 0.5:
        raise SpecError(f"{option} needs something like 5%, at most 50%, got {quote(text)}")
    return share


def format_duration(seconds: float) -> str:
    """Write seconds for a person: 20 ms, 4.2 s, 59 s, 2 min 5 s, 1 h 2 min."""
    if 0 < seconds < 1:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_number(value: object) -> str:
    """Write a number in four digits (0.9722, 52310, 3.1e-05), and anything else as it is."""
    if isinstance(value, float):
        value += 0.0  # -0.0 is 0
        return f"{value:.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
    return str(value)


def format_with_interval(value: float, interval: Sequence[float] | None) -> str:
    """Write a number and, where it is known, its interval."""
    if interval is None:
        return format_number(value)
    return f"{format_number(value)} ({format_number(interval[0])} to {format_number(interval[1])})"


def escape_controls(text: str) -> str:
    r"""Write a text in one line that does nothing to a terminal: ESC becomes \x1b, a newline \n.

    Error texts, names of columns and reasons come from data, trainers and the runs of others.
    """
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
