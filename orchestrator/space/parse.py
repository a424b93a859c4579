"""One hyperparameter of a spec, `learning_rate: {log: [1e-4, 1]}`, as a `Parameter`."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import ClassVar

from orchestrator.errors import SpecError
from orchestrator.quote import quote, shorten
from orchestrator.space.domains import Choice, Domain, Fixed, Integer, Real, Value
from orchestrator.space.space import Parameter

__all__ = ["OLD_KEYS", "parse_parameter"]

MAX_NAME = 60  #: characters of a hyperparameter's name; it names columns and options

#: Keys of a hyperparameter in version 0.1, and their names now.
OLD_KEYS = {"usual": "start_at"}


class _Range:
    """The kinds of domain a spec can name, and what each is built from."""

    NUMBERS: ClassVar[dict[str, tuple[type[Real] | type[Integer], str]]] = {
        "linear": (Real, "linear"),
        "log": (Real, "log"),
        "reverse_log": (Real, "reverse_log"),
        "int": (Integer, "linear"),
        "int_log2": (Integer, "log2"),
    }
    KINDS = (*NUMBERS, "choice", "fixed")


#: Keys that a hyperparameter may have in a spec.
_KEYS = (*_Range.KINDS, "when", "per", "start_at")


def parse_parameter(name: str, written: object) -> Parameter:
    """The parameter that a name and a domain mean, as in `learning_rate: {log: [1e-4, 1]}`.

    Raises:
        SpecError: Naming the hyperparameter, and what its domain needs.
    """
    _check_name(name)
    if _is_value(written):
        return Parameter(name=name, domain=Fixed(value=written))  # type: ignore[arg-type] # is one
    example = f"write for example `{name}: {{log: [1e-4, 1e-1]}}`"
    if not isinstance(written, Mapping):
        raise SpecError(f"space.{name}: needs a value or a range, got {quote(written)}; {example}")
    written = {OLD_KEYS.get(key, key): value for key, value in written.items()}
    kinds = [key for key in written if key in _Range.KINDS]
    if extra := [key for key in written if key not in _KEYS]:
        close = difflib.get_close_matches(str(extra[0]), _KEYS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_Range.KINDS)}"
        raise SpecError(f"space.{name}: unknown key {quote(extra[0])}; {hint}")
    if len(kinds) != 1:
        raise SpecError(
            f"space.{name}: needs exactly one of {', '.join(_Range.KINDS)}, "
            f"got {', '.join(kinds) or 'none'}; {example}"
        )
    per = written.get("per")
    if per is not None and not isinstance(per, str):
        raise SpecError(f"space.{name}: per needs the name of a whole number, got {quote(per)}")
    try:
        domain = _parse_domain(kinds[0], written[kinds[0]])
    except SpecError as e:
        raise SpecError(f"space.{name}: {e}") from e
    when = _parse_condition(name, written.get("when", {}))
    try:
        return Parameter(
            name=name, domain=domain, when=when, per=per, start_at=written.get("start_at")
        )
    except SpecError as e:
        raise SpecError(f"space.{name}: {e}") from e


def _check_name(name: object) -> None:
    """Refuse a name that a constraint could not name: Python reads names in their NFKC form."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise SpecError(f"space: a name needs letters, digits and _, got {quote(name)}")
    if not name.isidentifier() or unicodedata.normalize("NFKC", name) != name:
        raise SpecError(f"space: a name needs plain letters, got {quote(name)}")
    if len(name) > MAX_NAME:
        raise SpecError(
            f"space: a name needs at most {MAX_NAME} characters, got {len(name):,}: {quote(name)}"
        )


def _parse_domain(kind: str, written: object) -> Domain:
    if kind == "fixed":
        if not _is_value(written):
            raise SpecError(f"fixed needs one value, and a finite one, got {quote(written)}")
        return Fixed(value=written)  # type: ignore[arg-type] # checked the line before
    if kind == "choice":
        if not isinstance(written, list) or not all(map(_is_value, written)):
            raise SpecError(f"choice needs a list of values, each finite, got {quote(written)}")
        if {type(v) for v in written} == {int, float}:
            written = [float(v) for v in written]  # [0, 0.1] are two numbers of one kind
        return Choice(options=tuple(written))
    if not isinstance(written, list) or len(written) != 2:
        raise SpecError(f"{kind} needs [low, high], got {quote(written)}")
    low, high = written
    build, scale = _Range.NUMBERS[kind]
    whole = build is Integer
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, int if whole else int | float):
            raise SpecError(f"{kind} needs two {'whole ' * whole}numbers, got {quote(written)}")
    if whole:
        return Integer(low=low, high=high, scale=scale)  # type: ignore[arg-type] # from the table
    return Real(low=float(low), high=float(high), scale=scale)  # type: ignore[arg-type] # same


def _parse_condition(name: str, written: object) -> dict[str, tuple[Value, ...]]:
    if not isinstance(written, Mapping):
        raise SpecError(f"space.{name}: when needs `{{optimizer: adam}}`, got {quote(written)}")
    conditions = {
        str(other): tuple(values) if isinstance(values, list) else (values,)
        for other, values in written.items()
    }
    for other, values in conditions.items():
        if not values or not all(map(_is_value, values)):
            raise SpecError(
                f"space.{name}: when.{shorten(other)} needs one value or a list of values, "
                f"got {quote(values)}"
            )
    return conditions


def _is_value(written: object) -> bool:
    if isinstance(written, float):
        return math.isfinite(written)  # a NaN differs from itself, so from the same spec read again
    return isinstance(written, bool | int | str)
