"""One hyperparameter of a spec, `learning_rate: {log: [1e-4, 1]}`, as a `Parameter`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import ClassVar

from orchestrator.errors import SpecError
from orchestrator.space.domains import Choice, Domain, Fixed, Integer, Real, Value
from orchestrator.space.space import Parameter

__all__ = ["OLD_KEYS", "parse_parameter"]

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
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise SpecError(f"space: a name needs letters, digits and _, got {name!r}")
    if _is_value(written):
        return Parameter(name=name, domain=Fixed(value=written))  # type: ignore[arg-type] # is one
    example = f"write for example `{name}: {{log: [1e-4, 1e-1]}}`"
    if not isinstance(written, Mapping):
        raise SpecError(f"space.{name}: needs a value or a range, got {written!r}; {example}")
    written = {OLD_KEYS.get(key, key): value for key, value in written.items()}
    kinds = [key for key in written if key in _Range.KINDS]
    if extra := [key for key in written if key not in _KEYS]:
        close = difflib.get_close_matches(str(extra[0]), _KEYS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_Range.KINDS)}"
        raise SpecError(f"space.{name}: unknown key {extra[0]!r}; {hint}")
    if len(kinds) != 1:
        raise SpecError(
            f"space.{name}: needs exactly one of {', '.join(_Range.KINDS)}, "
            f"got {', '.join(kinds) or 'none'}; {example}"
        )
    per = written.get("per")
    if per is not None and not isinstance(per, str):
        raise SpecError(f"space.{name}: per needs the name of a whole number, got {per!r}")
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


def _parse_domain(kind: str, written: object) -> Domain:
    if kind == "fixed":
        if not _is_value(written):
            raise SpecError(f"fixed needs one value, got {written!r}")
        return Fixed(value=written)  # type: ignore[arg-type] # checked the line before
    if kind == "choice":
        if not isinstance(written, list) or not all(map(_is_value, written)):
            raise SpecError(f"choice needs a list of values, got {written!r}")
        if {type(v) for v in written} == {int, float}:
            written = [float(v) for v in written]  # [0, 0.1] are two numbers of one kind
        return Choice(options=tuple(written))
    if not isinstance(written, list) or len(written) != 2:
        raise SpecError(f"{kind} needs [low, high], got {written!r}")
    low, high = written
    build, scale = _Range.NUMBERS[kind]
    whole = build is Integer
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, int if whole else int | float):
            raise SpecError(f"{kind} needs two {'whole ' * whole}numbers, got {written!r}")
    if whole:
        return Integer(low=low, high=high, scale=scale)  # type: ignore[arg-type] # from the table
    return Real(low=float(low), high=float(high), scale=scale)  # type: ignore[arg-type] # same


def _parse_condition(name: str, written: object) -> dict[str, tuple[Value, ...]]:
    if not isinstance(written, Mapping):
        raise SpecError(f"space.{name}: when needs `{{optimizer: adam}}`, got {written!r}")
    return {
        str(other): tuple(values) if isinstance(values, list) else (values,)
        for other, values in written.items()
    }


def _is_value(written: object) -> bool:
    return isinstance(written, bool | int | float | str)
