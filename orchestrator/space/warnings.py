"""Warnings about a space that is valid, but whose search would waste hours."""

from __future__ import annotations

import math
from collections import Counter

from orchestrator.space.domains import Choice, Fixed, Integer, Real
from orchestrator.space.space import Parameter, Space

__all__ = ["find_warnings"]

DECADES = 2  #: number of decades from which a linear scale causes a warning
NEAR_ONE = 0.9  #: value from which the distance to 1 matters, not the value


def find_warnings(space: Space) -> list[str]:
    """Describe each problem in one line: the parameter, the effect, and what to write instead."""
    warnings = []
    for p in space.parameters:
        warnings += _check_scale(p)
        warnings += _check_choice(p)
        warnings += _check_conditions(p, space)
    return warnings


def _check_scale(p: Parameter) -> list[str]:
    d = p.domain
    if not isinstance(d, Real | Integer) or d.scale != "linear":
        return []
    if d.low > 0 and math.log10(d.high / d.low) >= DECADES:
        tenth = 1 - (d.high / 10 - d.low) / (d.high - d.low)
        instead = "log" if isinstance(d, Real) else "int_log2"
        return [
            f"{p.name}: a linear scale over {math.log10(d.high / d.low):.1f} decades puts "
            f"{tenth:.0%} of the draws above {d.high / 10:g}; "
            f"write {{{instead}: [{d.low:g}, {d.high:g}]}}"
        ]
    if isinstance(d, Real) and d.low >= NEAR_ONE and d.high < 1 and (1 - d.low) / (1 - d.high) >= 5:
        return [
            f"{p.name}: near 1 a linear scale hardly ever tries the slowest averages "
            f"(1/(1 - {p.name}) runs from {1 / (1 - d.low):.0f} to {1 / (1 - d.high):.0f} steps); "
            f"write {{reverse_log: [{d.low:g}, {d.high:g}]}}"
        ]
    return []


def _check_choice(p: Parameter) -> list[str]:
    if not isinstance(p.domain, Choice):
        return []
    options = p.domain.options
    warnings = []
    if len(options) == 1:
        warnings.append(f"{p.name}: a choice of one is no choice; write {p.name}: {options[0]}")
    counts = Counter((type(o), o) for o in options)  # 1, 1.0 and true are three options
    for (_, option), count in counts.items():
        if count > 1:
            warnings.append(
                f"{p.name}: {option!r} stands {count} times in the choice, "
                f"so it is drawn more often; take the others out"
            )
    if "" in options:
        warnings.append(f"{p.name}: one of the options is empty; take it out or name it")
    return warnings


def _check_conditions(p: Parameter, space: Space) -> list[str]:
    warnings = []
    for other, values in p.when.items():
        domain = next(q.domain for q in space.parameters if q.name == other)
        if not any(_can_be(domain, value) for value in values):
            warnings.append(
                f"{p.name}: is never active, since {other} is never "
                f"{' or '.join(map(str, values))} ({other}: {domain})"
            )
    return warnings


def _can_be(domain: Real | Integer | Choice | Fixed, value: bool | int | float | str) -> bool:
    if isinstance(domain, Fixed):
        return domain.value == value
    return domain.contains(value)
