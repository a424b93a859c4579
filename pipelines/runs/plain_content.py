"""The content of a spec as plain values, within limits, whether it came from YAML or from Python.

Everything behind this file relies on it: a content is made of dicts with texts as keys, lists,
texts, numbers, booleans and None; an integer fits into 64 bits, as in the columns of the tables; a
text can be written to a file and printed on a terminal. An alias of YAML (`*name`) makes the same
object appear several times. So the content is counted as it would be without aliases: nine levels
of nine aliases stand for 387,420,489 values ("billion laughs").
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from orchestrator.errors import SpecError
from orchestrator.quote import quote, shorten

__all__ = ["MAX_DEPTH", "MAX_VALUES", "copy_content"]

MAX_VALUES = 50_000  #: keys and values in one spec; 1,000 initial configurations have 33,000
MAX_DEPTH = 20  #: lists and mappings inside each other; what is read has at most 5
MAX_TEXT = 4_096  #: characters of one text, as many as a path may have

#: What YAML cannot hold unescaped: control characters, and halves of a pair (UTF-16's surrogates).
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # YAML 1.1, section 5.1
)


def copy_content(content: object, *, source: str) -> dict[str, Any]:
    """Copy a spec's content as plain values.

    Args:
        content: A mapping, as YAML or a user of Python gave it.
        source: The place it came from, for the messages.

    Raises:
        SpecError: If it is no mapping, is too large or too deep, or holds anything else.
    """
    if not isinstance(content, Mapping):
        raise SpecError(f"{source}: needs a mapping such as `max_epochs: 27`, got {quote(content)}")
    copied: dict[str, Any] = _Copier(source).copy(content, ())
    return copied


class _Copier:
    """Copies one content, and counts what it copies."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._values = 0

    def copy(self, value: object, path: tuple[str, ...]) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._refuse(path, f"the spec needs at most {MAX_VALUES:,} keys and values")
        if len(path) > MAX_DEPTH:
            raise self._refuse(path[:3], f"needs at most {MAX_DEPTH} levels of lists and mappings")
        if isinstance(value, Mapping):
            return {self._copy_key(k, path): self._copy_item(k, v, path) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._copy_item(i, item, path) for i, item in enumerate(value)]
        return self._copy_scalar(value, path)

    def _copy_item(self, key: object, value: object, path: tuple[str, ...]) -> Any:
        return self.copy(value, (*path, shorten(str(key))))

    def _copy_key(self, key: object, path: tuple[str, ...]) -> str:
        self._values += 1
        if not isinstance(key, str):
            raise self._refuse(
                path, f"a key needs to be a text, got {quote(key)}; put it in quotes"
            )
        return self._copy_text(key, path)

    def _copy_scalar(self, value: object, path: tuple[str, ...]) -> Any:
        """Copy a value; NumPy's numbers and other subclasses become Python's."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._copy_text(value, path)
        if isinstance(value, Integral):
            if not -(2**63) <= int(value) < 2**63:
                raise self._refuse(
                    path, f"an integer needs to fit into 64 bits, got {quote(value)}"
                )
            return int(value)
        if isinstance(value, Real):
            with contextlib.suppress(OverflowError):  # a fraction of large integers
                return float(value)
        raise self._refuse(
            path, f"needs a text, a number, true, false, a list or a mapping, got {quote(value)}"
        )

    def _copy_text(self, text: str, path: tuple[str, ...]) -> str:
        if len(text) > MAX_TEXT:
            raise self._refuse(
                path,
                f"a text needs at most {MAX_TEXT:,} characters, got {len(text):,}: {quote(text)}",
            )
        if match := _UNPRINTABLE.search(text):
            raise self._refuse(
                path, f"a text needs printable characters, got {quote(match[0])} in {quote(text)}"
            )
        return str.__str__(text)

    def _refuse(self, path: tuple[str, ...], problem: str) -> SpecError:
        return SpecError(f"{self._source}: {'.'.join(path)}{': ' if path else ''}{problem}")
