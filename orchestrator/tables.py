"""The three tables of a run: their columns, and the way between rows and values.

A schema is complete from part 0: readers silently drop a column that first appears in a later part.
So every hyperparameter and metric has its typed column from the start, null where there is nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

from orchestrator.errors import SpecError
from orchestrator.events import Event, Kind
from orchestrator.search import Observation
from orchestrator.space import Choice, Config, Dimension, Fixed, Integer, Real, Space, Value
from orchestrator.trial import WORST, Objective, Report

__all__ = ["SCHEMA_VERSION", "Tables"]

SCHEMA_VERSION = 2  #: 2: what the model expected

_NUMBER = {float: pa.float64(), int: pa.int64()}
_VALUE = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}

#: Every field of an event that is one column of its own.
_EVENT_COLUMNS = {
    "kind": pa.string(),
    "trial": pa.int64(),
    "attempt": pa.int32(),
    "stage": pa.string(),
    "zoom": pa.int32(),
    "parents": pa.list_(pa.int64()),
    "seed": pa.int64(),
    "start_epoch": pa.int32(),
    "stop_epoch": pa.int32(),
    "epoch": pa.int32(),
    "value": pa.float64(),
    "rung": pa.int32(),
    "rank": pa.int64(),
    "peers": pa.int64(),
    "cutoff": pa.float64(),
    "expected": pa.float64(),
    "expected_low": pa.float64(),
    "expected_high": pa.float64(),
    "budget_seconds": pa.float64(),
    "budget_trials": pa.int64(),
    "budget_epochs": pa.int64(),
    "reason": pa.string(),
    "details": pa.string(),
}
assert _EVENT_COLUMNS.keys() | {"box", "config", "unit", "metrics"} == {
    f.name for f in fields(Event)
}

_EPOCH_COLUMNS = {
    "trial": pa.int64(),
    "epoch": pa.int32(),
    "attempt": pa.int32(),
    "worker": pa.int32(),
    "epoch_seconds": pa.float64(),
    "last": pa.bool_(),
    "cause": pa.string(),
}
_TRIAL_COLUMNS = {
    "trial": pa.int64(),
    "status": pa.string(),
    "stage": pa.string(),
    "zoom": pa.int32(),
    "parents": pa.list_(pa.int64()),
    "seed": pa.int64(),
    "attempts": pa.int32(),
    "epochs": pa.int32(),
    "best_epoch": pa.int32(),
    "started_at_seconds": pa.float64(),
    "ended_at_seconds": pa.float64(),
    "epoch_seconds": pa.float64(),
    "reason": pa.string(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The schemas of one run's tables, which depend on its space and its trainer's metrics."""

    space: Space
    metrics: Mapping[str, type]  #: as the trainer declares them
    objective: Objective

    def __post_init__(self) -> None:
        """Refuse a metric that would take the place of one of the log's own columns."""
        own = {"seq", "at_seconds", *_EPOCH_COLUMNS, *_TRIAL_COLUMNS}
        prefixes = ("config_", "unit_", "test_")
        for name in self.metrics:
            if name in own or name.startswith(prefixes):
                raise SpecError(
                    f"metric {name!r} has the name of one of the log's own columns; "
                    f"call it for example validation_{name}"
                )

    @property
    def events(self) -> pa.Schema:
        """One row an event."""
        return _schema(
            {"seq": pa.int64(), "at_seconds": pa.float64()}
            | _EVENT_COLUMNS
            | {"box": pa.string()}
            | self._tests()
            | self._configs()
            | self._units()
        )

    @property
    def epochs(self) -> pa.Schema:
        """One row a trial and epoch."""
        return _schema(
            {"seq": pa.int64(), "at_seconds": pa.float64()} | _EPOCH_COLUMNS | self._metrics()
        )

    @property
    def trials(self) -> pa.Schema:
        """One row a trial: what it was, what became of it, its best epoch."""
        return _schema(
            _TRIAL_COLUMNS | self._metrics() | self._tests() | self._configs() | self._units()
        )

    def event_row(self, seq: int, at_seconds: float, event: Event) -> dict[str, Any]:
        """An event as a row."""
        row: dict[str, Any] = {name: getattr(event, name) for name in _EVENT_COLUMNS}
        row["seq"], row["at_seconds"] = seq, at_seconds
        row["kind"] = event.kind.value
        row["box"] = None if event.box is None else json.dumps(event.box)
        row |= event.metrics or {}
        row |= self.config_columns(event.config or {})
        row |= {f"unit_{name}": u for name, u in (event.unit or {}).items()}
        return row

    def event(self, row: Mapping[str, Any]) -> Event:
        """The event in a row; the way back of `event_row`."""
        plain = {name: row[name] for name in _EVENT_COLUMNS if name not in ("kind", "parents")}
        tests = {name: row[name] for name in self._tests() if row[name] is not None}
        config = self.config_of(row)
        units = {d.name: row[f"unit_{d.name}"] for d in self.space.dimensions}
        return Event(
            kind=Kind(row["kind"]),
            parents=None if row["parents"] is None else tuple(row["parents"]),
            box=None
            if row["box"] is None
            else {name: (low, high) for name, (low, high) in json.loads(row["box"]).items()},
            config=config or None,
            unit={name: u for name, u in units.items() if u is not None} if config else None,
            metrics=tests or None,
            **plain,
        )

    def epoch_row(self, seq: int, observation: Observation) -> dict[str, Any]:
        """A report as a row."""
        r = observation.report
        return {
            "seq": seq,
            "at_seconds": observation.at_seconds,
            "trial": r.trial,
            "epoch": r.epoch,
            "attempt": r.attempt,
            "worker": r.worker,
            "epoch_seconds": r.seconds,
            "last": r.last,
            "cause": r.cause or None,
            **r.metrics,
        }

    def observation(self, row: Mapping[str, Any]) -> Observation:
        """The report in a row; the way back of `epoch_row`."""
        metrics = {name: row[name] for name in self.metrics}
        return Observation(
            at_seconds=row["at_seconds"],
            report=Report(
                trial=row["trial"],
                attempt=row["attempt"],
                epoch=row["epoch"],
                metrics=metrics,
                score=WORST if row["cause"] else self.objective.score(metrics),
                seconds=row["epoch_seconds"],
                worker=row["worker"],
                cause=row["cause"] or "",
                last=row["last"],
            ),
        )

    def config_columns(self, config: Config) -> dict[str, Value]:
        """A config as typed columns."""
        names = self.space.names
        return {f"config_{k}": _written(names[k], value) for k, value in config.items()}

    def config_of(self, row: Mapping[str, Any]) -> Config:
        """The config in a row."""
        values = {name: row[f"config_{name}"] for name in self.space.names}
        return {
            name: _read(self.space.names[name], value)
            for name, value in values.items()
            if value is not None
        }

    def _configs(self) -> dict[str, pa.DataType]:
        return {f"config_{name}": _config_type(d) for name, d in self.space.names.items()}

    def _units(self) -> dict[str, pa.DataType]:
        return {f"unit_{d.name}": pa.float64() for d in self.space.dimensions}

    def _metrics(self) -> dict[str, pa.DataType]:
        return {name: _NUMBER[kind] for name, kind in self.metrics.items()}

    def _tests(self) -> dict[str, pa.DataType]:
        names = [n.removeprefix("validation_") for n in self.metrics if n.startswith("validation_")]
        return {f"test_{name}": pa.float64() for name in names}


def _schema(columns: Mapping[str, pa.DataType]) -> pa.Schema:
    version = {"caviar_schema_version": str(SCHEMA_VERSION)}
    return pa.schema(list(columns.items()), metadata=version)


def _config_type(d: Dimension) -> pa.DataType:
    domain = d.parameter.domain
    if isinstance(domain, Real):
        return pa.float64()
    if isinstance(domain, Integer):
        return pa.int64()
    kinds = {type(v) for v in _values(domain)}
    return _VALUE[kinds.pop()] if len(kinds) == 1 else pa.string()


def _mixed(d: Dimension) -> bool:
    """A choice of several kinds stands in a text column, as JSON: 1 and "1" stay two options."""
    domain = d.parameter.domain
    return isinstance(domain, Choice) and len({type(v) for v in domain.options}) > 1


def _values(domain: Choice | Fixed) -> Iterable[Value]:
    return domain.options if isinstance(domain, Choice) else (domain.value,)


def _written(d: Dimension, value: Value) -> Value:
    return json.dumps(value) if _mixed(d) else value


def _read(d: Dimension, value: Value) -> Value:
    if not _mixed(d):
        return value
    read: Value = json.loads(str(value))
    return read
