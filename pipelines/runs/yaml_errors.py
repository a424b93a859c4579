"""What PyYAML says about a text that is not YAML, in the words of this project."""

from __future__ import annotations

import re

import yaml

from orchestrator.quote import quote

__all__ = ["describe_yaml_error"]

#: Pattern in PyYAML's description -> what is wrong and what to type; the first match counts.
_PROBLEMS = {
    r"special characters": "a text needs printable characters",
    r"character '\\t'": "a tab cannot indent; write spaces",
    r"mapping values are not allowed": "a `:` is not expected here; put a text that has `: ` "
    "in quotes, or indent the line like its neighbours",
    r"could not find expected ':'": "a key needs a `:` behind it",
    r"expected ',' or '\]'": "a list needs `,` between its items and `]` at its end",
    r"expected ',' or '\}'": "a mapping needs `,` between its items and `}` at its end",
    r"found undefined alias": "an alias `*name` needs `&name` before it",
    r"found duplicate anchor": "an anchor `&name` needs a name that no other has",
    r"single document": "needs one document, got a second one; take the line `---` out",
    r"unexpected end of stream|quoted scalar": "a quoted text needs the same quote at its end",
    r"for merging": "`<<` needs an alias of a mapping, or a list of them",
    r"(constructor for the tag|tag handle|a tag)": "tags such as !!python/object are not read; "
    "write plain texts, numbers, lists and mappings",
    r"escape": "an unknown escape in a quoted text; write \\\\ for a backslash, or take '…'",
    r"expected <block end>": "the line needs the same indent as its neighbours",
}


def describe_yaml_error(error: Exception, text: str) -> tuple[int, int, str]:
    """Return line and column, both from 1, and what is wrong.

    Args:
        error: An error of PyYAML's, or one that PyYAML does not catch, such as ValueError.
        text: The text that it read.
    """
    line, column = _find_place(error, text)
    parts = (getattr(error, name, None) for name in ("context", "problem", "reason"))
    problem = " ".join(map(str, filter(None, parts))) or str(error)
    known = (said for pattern, said in _PROBLEMS.items() if re.search(pattern, problem))
    general = "cannot be read here; look for a missing quote, bracket, comma or space"
    return line, column, next(known, general) + _quote_character(error)


def _find_place(error: Exception, text: str) -> tuple[int, int]:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        return mark.line + 1, mark.column + 1
    position = getattr(error, "position", 0)
    return text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)


def _quote_character(error: Exception) -> str:
    if isinstance(error, yaml.reader.ReaderError) and isinstance(error.character, int):
        return f", got {quote(chr(error.character))}"
    return ""
