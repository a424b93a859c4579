"""How messages quote what a user wrote: on one line, and cut to a length that a terminal shows.

A value of a spec may be of any size: a list of 100,000 items, an integer of 5,000 digits (which
Python refuses to print), a structure that contains itself. Quoting takes the same short time for
each of them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from itertools import islice

__all__ = ["get_first_line", "join_names", "quote", "shorten"]

MAX_LENGTH = 60  #: characters of a value that a message quotes
MAX_NAMES = 40  #: names that a message lists


class _ShortRepr(reprlib.Repr):
    """Writes the beginning of a value as Python does."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxstring = self.maxlong = self.maxother = MAX_LENGTH
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 16

    def repr_int(self, x: int, level: int) -> str:
        """Write an integer; of one with more than 60 digits, their number."""
        if x.bit_length() < 200:
            return repr(x)
        return f"an integer of about {x.bit_length() * 0.30103:.0f} digits"


_REPR = _ShortRepr()


def quote(value: object) -> str:
    """Write a value as Python does, cut to `MAX_LENGTH` characters."""
    return shorten(_REPR.repr(value))


def shorten(text: str, length: int = MAX_LENGTH) -> str:
    """Cut a text to this many characters, and escape what a terminal cannot print."""
    beginning = text[: length + 1]
    if not beginning.isprintable():
        beginning = repr(beginning)[1:-1]
    return beginning if len(beginning) <= length else f"{beginning[: length - 2]} …"


def join_names(names: Iterable[object], separator: str = ", ", *, most: int = MAX_NAMES) -> str:
    """Join names for a message: at most `most` of them, each of them cut."""
    first = [shorten(str(name)) for name in islice(names, most + 1)]
    more = f"{separator}…" if len(first) > most else ""
    return separator.join(first[:most]) + more


def get_first_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its class if it has no message."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
