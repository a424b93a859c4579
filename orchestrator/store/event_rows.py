"""The way between events and rows of the events table.

An event's fields are flattened into columns: a field in `_OWN_COLUMN` is the column of its name, a
value with fields of its own (budget, comparison, forecast) gives one column for each of them, and
every other field is JSON in the column `details`. A new field needs no change here if it reads the
same after JSON: mappings, lists, strings, numbers. Any other needs a row in `_FLATTEN` and
`_REBUILD`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, get_args, get_origin, get_type_hints

from orchestrator.errors import RunError
from orchestrator.quote import quote
from orchestrator.search.budget import Budget
from orchestrator.search.events import (
    EVENT_TYPES,
    Box,
    Comparison,
    EndDetails,
    Event,
    Forecast,
    Interval,
    Kind,
    SessionDetails,
)
from orchestrator.search.objective import Objective
from orchestrator.space.domains import is_number

__all__ = [
    "EVENT_COLUMN_NAMES",
    "flatten_event",
    "parse_box",
    "parse_end_details",
    "parse_intervals",
    "parse_json",
    "parse_session_details",
    "rebuild_event",
]

Row = Mapping[str, Any]

_BUDGET = {name: f"budget_{name}" for name in ("seconds", "trials", "epochs")}
_FORECAST = {"expected": "expected", "low": "expected_low", "high": "expected_high"}
_COMPARISON = ("rung", "rank", "peers", "cutoff")
#: Fields that have a column of their own name; `status` becomes a part of the column `reason`.
_OWN_COLUMN = frozenset(
    {
        "trial", "attempt", "stage", "zoom", "parents", "seed", "start_epoch", "stop_epoch",
        "epoch", "value", "reason", "status",
    }
)  # fmt: skip
#: All columns that `flatten_event` may write.
EVENT_COLUMN_NAMES = frozenset(
    {*_BUDGET.values(), *_FORECAST.values(), *_COMPARISON, "kind", "details", "box"}
) | (_OWN_COLUMN - {"status"})


# ---------------------------------------------------------------------- to a row


def flatten_event(event: Event) -> dict[str, Any]:
    """An event's columns, without those of its config, its unit coordinates and its metrics."""
    row: dict[str, Any] = {"kind": event.kind.value}
    for name, flatten in _PLANS[type(event)]:
        value = getattr(event, name)
        if value is None:
            continue
        if flatten is None:
            row[name] = value
        else:
            row.update(flatten(value))
    if others := {name: getattr(event, name) for name in _OTHERS[type(event)]}:
        row["details"] = json.dumps(others)
    if event.kind is Kind.END:
        row["reason"] = f"{row.pop('status')}: {event.reason}"
    return row


def _details(value: SessionDetails | EndDetails) -> dict[str, str]:
    return {"details": json.dumps(asdict(value))}


def _comparison_columns(c: Comparison) -> dict[str, Any]:
    return {"rung": c.rung, "rank": c.rank, "peers": c.peers, "cutoff": c.cutoff}


_FLATTEN: dict[str, Callable[[Any], dict[str, Any]]] = {
    "budget": lambda b: {column: getattr(b, name) for name, column in _BUDGET.items()},
    "comparison": _comparison_columns,
    "forecast": lambda f: {column: getattr(f, name) for name, column in _FORECAST.items()},
    "box": lambda box: {"box": json.dumps(box)},
    "details": _details,
    "traceback": lambda text: {"details": text},
    "intervals": lambda found: {"details": json.dumps({"intervals": found})} if found else {},
}


# ---------------------------------------------------------------------- from a row


def rebuild_event(row: Row, **wide: Any) -> Event:
    """The event in a row; the way back of `flatten_event`.

    Args:
        row: All columns of the events table; a column that is missing counts as null.
        wide: The fields with a column for each hyperparameter or metric: config, unit, metrics.

    Raises:
        RunError: If the row's kind is unknown, or a field that it needs is null.
    """
    try:
        cls = EVENT_TYPES[Kind(row["kind"])]
    except ValueError as e:
        raise RunError(f"row {row['seq']} of the events: {e}") from e
    values = _read_others(cls, row)
    for name in _NAMES[cls] - _OTHERS[cls]:
        value = wide.get(name) if name in wide else _REBUILD.get(name, _plain(name))(row)
        if value is not None:
            values[name] = value
    if missing := sorted(_NEEDED[cls] - values.keys()):
        raise RunError(f"row {row['seq']} of the events: {row['kind']} without {missing[0]}")
    if cls.kind is Kind.END:
        values["status"], _, values["reason"] = values["reason"].partition(": ")
    return cls(**values)


def _read_others(cls: type[Event], row: Row) -> dict[str, Any]:
    """The fields that are JSON in the column `details`; empty if the class has none."""
    if not _OTHERS[cls]:
        return {}
    return _select_fields(cls, parse_json(row.get("details")), _OTHERS[cls])


def _plain(name: str) -> Callable[[Row], Any]:
    return lambda row: row.get(name)


def _budget(row: Row) -> Budget:
    return Budget(**{name: row.get(column) for name, column in _BUDGET.items()})


def _comparison(row: Row) -> Comparison:
    return Comparison(**{name: row.get(name) for name in _COMPARISON})


def _forecast(row: Row) -> Forecast | None:
    if row.get("expected") is None:
        return None
    return Forecast(**{name: row[column] for name, column in _FORECAST.items()})


def _box(row: Row) -> Box | None:
    text = row.get("box")
    return parse_box(text) if text else None


def _parents(row: Row) -> tuple[int, ...] | None:
    parents: Iterable[int] | None = row.get("parents")
    return None if parents is None else tuple(parents)


def _parse_details(row: Row) -> SessionDetails | EndDetails:
    parse = parse_session_details if row["kind"] == Kind.SESSION else parse_end_details
    return parse(row.get("details"))


def parse_session_details(text: str | None) -> SessionDetails:
    """The details of a session's start; what the text does not say takes its default.

    Raises:
        RunError: If the text is no JSON of such details.
    """
    content = parse_json(text)
    if content.get("objective") is not None:
        objective = _require_mapping(content["objective"])
        if not isinstance(objective.get("metric"), str) or "maximize" not in objective:
            raise RunError("the details of a session need the name of a metric")
        content["objective"] = Objective(**_select_fields(Objective, objective))
    return SessionDetails(**_select_fields(SessionDetails, content))


def parse_end_details(text: str | None) -> EndDetails:
    """The details of a session's end; what the text does not say takes its default.

    Raises:
        RunError: If the text is no JSON of such details.
    """
    return EndDetails(**_select_fields(EndDetails, parse_json(text)))


def parse_intervals(text: str | None) -> dict[str, dict[str, Interval]]:
    """The intervals of a test event: split -> metric -> (low, high); empty if there are none.

    Raises:
        RunError: If the text is no JSON of intervals.
    """
    splits = _require_mapping(parse_json(text).get("intervals", {}))
    return {split: _parse_intervals(metrics) for split, metrics in splits.items()}


def parse_box(text: str) -> dict[str, Interval]:
    """The box of a zoom: dimension -> (low, high) in the unit cube.

    Raises:
        RunError: If the text is no JSON of a box.
    """
    box = _parse_intervals(parse_json(text))
    for name, ends in box.items():
        if not all(-1e-9 <= end <= 1 + 1e-9 for end in ends):  # rounding errors are smaller
            raise RunError(f"a side of a box needs ends from 0 to 1, got {ends} for {name}")
    return box


def parse_json(text: str | None) -> dict[str, Any]:
    """The JSON object in a cell; an empty one if the cell is null.

    Raises:
        RunError: If the text is no JSON, or no object.
    """
    try:
        return _require_mapping(json.loads(text or "{}"))
    except (ValueError, RecursionError) as e:  # RecursionError: nested thousands deep
        raise RunError(f"a cell needs JSON, got {quote(text)}") from e


def _require_mapping(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise RunError(f"a cell needs a JSON object, got {quote(value)}")


def _parse_intervals(content: object) -> dict[str, Interval]:
    intervals = {}
    for name, ends in _require_mapping(content).items():
        if not (isinstance(ends, list) and len(ends) == 2 and all(map(is_number, ends))):
            raise RunError(f"{name} needs two numbers, low and high, got {quote(ends)}")
        intervals[name] = (ends[0], ends[1])
    return intervals


def _select_fields(
    cls: type, content: Mapping[str, Any], names: Iterable[str] | None = None
) -> dict[str, Any]:
    """The values of a class's fields, from JSON; names that the class does not have are left out.

    Raises:
        RunError: If a value has another type than its field.
    """
    hints = _HINTS[cls]
    values = {name: content[name] for name in names or hints if name in content}
    for name, value in values.items():
        if not _has_type(value, hints[name]):
            raise RunError(f"{name} needs {hints[name]}, got {quote(value)}")
    return values


def _has_type(value: object, hint: Any) -> bool:
    """Whether a value from JSON has the type of a field: X | Y, a mapping, a class."""
    options = get_args(hint)
    if get_origin(hint) in (Mapping, dict):
        return isinstance(value, dict) and all(_has_type(v, options[1]) for v in value.values())
    if options:
        return any(_has_type(value, option) for option in options)
    if hint is float:
        return is_number(value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


_REBUILD: dict[str, Callable[[Row], Any]] = {
    "budget": _budget,
    "comparison": _comparison,
    "forecast": _forecast,
    "box": _box,
    "parents": _parents,
    "details": _parse_details,
    "status": lambda _: None,
    "traceback": lambda row: row.get("details"),
    "intervals": lambda row: parse_intervals(row.get("details")) or None,
}

#: By class: the types of its fields.
_HINTS = {
    cls: get_type_hints(cls)
    for cls in (SessionDetails, EndDetails, Objective, *EVENT_TYPES.values())
}
#: Fields that have a column for each hyperparameter or metric; the caller adds these columns.
_WIDE = ("config", "unit", "metrics")
_NAMES = {cls: {f.name for f in fields(cls)} for cls in EVENT_TYPES.values()}
#: Fields by class that are JSON in the column `details`.
_OTHERS = {cls: names - _OWN_COLUMN - _FLATTEN.keys() - {*_WIDE} for cls, names in _NAMES.items()}
_NEEDED = {
    cls: {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    for cls in EVENT_TYPES.values()
}
#: By class: each field and how it is flattened, None for a field that is one column.
_PLANS = {
    cls: tuple((name, _FLATTEN.get(name)) for name in names & (_OWN_COLUMN | _FLATTEN.keys()))
    for cls, names in _NAMES.items()
}
