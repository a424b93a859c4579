"""What pydantic says about a spec, in the words of this project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.quote import quote, shorten

__all__ = ["describe_spec_error", "name_place"]

#: Type of pydantic's error -> what is needed, with the parts of its context in braces.
_NEEDS = {
    "greater_than": "needs a number above {gt}",
    "greater_than_equal": "needs at least {ge}",
    "less_than": "needs a number below {lt}",
    "less_than_equal": "needs at most {le}",
    "finite_number": "needs a finite number",
    "string_too_long": "needs at most {max_length} characters",
    "too_long": "needs at most {max_length} items",
    "literal_error": "needs {expected}",
    "string_pattern_mismatch": "needs package.module:Class",
    "one_of": "needs one of {names}",
    "size": "needs a number of bytes, such as 2 GB",
}
#: First part of an error's type, such as int_parsing -> what is needed.
_KINDS = {
    "int": "needs a whole number",
    "float": "needs a number",
    "bool": "needs true or false",
    "string": "needs a text",
    "tuple": "needs a list",
    "list": "needs a list",
    "dict": "needs a mapping",
    "mapping": "needs a mapping",
    "model": "needs a mapping",
}
#: Kinds that a value of a configuration may have; pydantic adds the one it tried to the place.
_UNION = {"bool", "int", "float", "str"}


def describe_spec_error(error: Mapping[str, Any]) -> str:
    """Write an error of pydantic's as one line: the place, what it needs, what it got."""
    place: Sequence[int | str] = error["loc"]
    if place and place[-1] in _UNION and len(place) > 3:
        need, place = "needs a text, a number, true or false", place[:-1]
    else:
        need = _describe_need(error)
    return f"{name_place(place)}: {need}, got {quote(error['input'])}"


def name_place(place: Sequence[int | str]) -> str:
    """Write a place in a spec, as in search.rungs.0."""
    return ".".join(shorten(str(part)) for part in place)


def _describe_need(error: Mapping[str, Any]) -> str:
    kind = str(error["type"])
    if kind in _NEEDS:
        context = dict(_format_context(error.get("ctx", {})))
        return _NEEDS[kind].format_map(context)
    return _KINDS.get(kind.partition("_")[0], "needs another value")


def _format_context(context: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in context.items():
        yield name, format(value, {int: ",", float: "g"}.get(type(value), ""))
