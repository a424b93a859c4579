"""The three tables of a run: their columns, and the way between rows and values.

A schema is complete from part 0: readers silently drop a column that first appears in a later part.
So every hyperparameter and metric has its typed column from the start, null where there is nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from orchestrator.errors import InvalidEntry, RunError, SpecError
from orchestrator.search.events import Event, Kind, ModelTested, TrialFailed, TrialStarted
from orchestrator.search.messages import Observation, Report
from orchestrator.search.objective import WORST, Objective
from orchestrator.search.trial import Status
from orchestrator.space.domains import Choice, Config, Fixed, Integer, Real, Value
from orchestrator.space.space import Dimension, Space
from orchestrator.store.event_rows import EVENT_COLUMN_NAMES, flatten_event, rebuild_event

__all__ = [
    "FIXED_COLUMNS",
    "SCHEMA_VERSION",
    "Column",
    "Tables",
    "list_space_columns",
    "read_config",
]

#: Number of the schema. 1: the first schema. 2: with the columns `expected`, `expected_low` and
#: `expected_high`, which hold what the model expected. 3: the columns of 2; version 0.2 of caviar
#: decides differently from 0.1, so it does not continue the runs of 0.1.
SCHEMA_VERSION = 3

#: Longest reason or traceback in a cell, in characters. Trainers write these texts, and readers
#: refuse a cell of more than 16 MiB.
TEXT_LIMIT = 1_000_000

_NUMBER = {float: pa.float64(), int: pa.int64()}
_VALUE = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


class Column(NamedTuple):
    """The type of a column and its meaning in words, from which docs/schema.md is written."""

    type: pa.DataType
    meaning: str


_SEQ = {
    "seq": Column(
        pa.int64(),
        "position of the row in the order in which the driver recorded events and reports, counted "
        "over events and epochs together",
    ),
    "at_seconds": Column(
        pa.float64(), "seconds since the run began; breaks between sessions do not count"
    ),
}
#: The columns of the events table, apart from the box, test metrics and configurations.
_EVENT_COLUMNS = {
    "kind": Column(pa.string(), "what happened: " + ", ".join(Kind)),
    "trial": Column(pa.int64(), "number of the trial that the event is about, from 0"),
    "attempt": Column(
        pa.int32(),
        "number of the trial's assignment, from 1; reports of an earlier assignment are dropped",
    ),
    "stage": Column(
        pa.string(), "where the trial's configuration came from: coarse, fine, given, audit"
    ),
    "zoom": Column(
        pa.int32(),
        "number of the box that the configuration was drawn from, or of the new box, from 1",
    ),
    "parents": Column(
        pa.list_(pa.int64()),
        "the trials that the box lies around; for an audit, the trial that it repeats",
    ),
    "seed": Column(pa.int64(), "seed of the trial's own random numbers, the same in every attempt"),
    "start_epoch": Column(
        pa.int32(), "the epoch that the assignment goes on from; 0: from scratch"
    ),
    "stop_epoch": Column(pa.int32(), "the epoch that the assignment ends with"),
    "epoch": Column(pa.int32(), "the trial's last epoch at the time of the decision"),
    "value": Column(pa.float64(), "the trial's loss that was judged; smaller is better"),
    "rung": Column(pa.int32(), "epoch of the rung at which the trial was compared"),
    "rank": Column(pa.int64(), "place of the trial at this rung, from 1"),
    "peers": Column(pa.int64(), "number of trials with a value at this rung, this trial included"),
    "cutoff": Column(pa.float64(), "the loss that the trial had to reach; null: no fixed cutoff"),
    "expected": Column(
        pa.float64(), "the loss that the model expected at the last epoch (its median)"
    ),
    "expected_low": Column(
        pa.float64(), "one standard deviation of the model's prediction below `expected`"
    ),
    "expected_high": Column(
        pa.float64(), "one standard deviation of the model's prediction above `expected`"
    ),
    "budget_seconds": Column(
        pa.float64(), "budget of the whole run in seconds, from this session on"
    ),
    "budget_trials": Column(pa.int64(), "budget of the whole run in trials, from this session on"),
    "budget_epochs": Column(
        pa.int64(), "budget of the whole run in epochs of all trials, from this session on"
    ),
    "reason": Column(pa.string(), "why the event happened, in words"),
    "details": Column(
        pa.string(),
        "JSON of a session (workers, versions), of its end, or of a test (intervals of the "
        "metrics); for a failure, the traceback",
    ),
}
_BOX = {"box": Column(pa.string(), "JSON: for each dimension [low, high] in the unit cube")}
assert _EVENT_COLUMNS.keys() | _BOX.keys() == EVENT_COLUMN_NAMES

_EPOCH_COLUMNS = {
    "trial": Column(pa.int64(), "number of the trial, from 0"),
    "epoch": Column(pa.int32(), "number of the epoch within the trial, from 1"),
    "attempt": Column(pa.int32(), "number of the assignment that trained the epoch, from 1"),
    "worker": Column(pa.int32(), "number of the worker that trained the epoch, from 0"),
    "epoch_seconds": Column(pa.float64(), "seconds that the epoch took, evaluation included"),
    "last": Column(pa.bool_(), "whether the assignment ended with this epoch"),
    "cause": Column(
        pa.string(),
        "why the worker ended the trial here: which metric was not finite, or exploded; null for a "
        "sound epoch",
    ),
}
_TRIAL_COLUMNS = {
    "trial": Column(pa.int64(), "number of the trial, from 0"),
    "status": Column(pa.string(), "state of the trial: " + ", ".join(Status)),
    "stage": Column(
        pa.string(), "where the trial's configuration came from: coarse, fine, given, audit"
    ),
    "zoom": Column(
        pa.int32(), "number of the box that the configuration was drawn from, from 1; null: no box"
    ),
    "parents": Column(
        pa.list_(pa.int64()),
        "the trials that the box lies around; for an audit, the trial that it repeats",
    ),
    "seed": Column(pa.int64(), "seed of the trial's own random numbers"),
    "attempts": Column(pa.int32(), "number of assignments that the trial has had"),
    "epochs": Column(pa.int32(), "number of epochs that the trial was trained"),
    "best_epoch": Column(
        pa.int32(), "the trial's best epoch, from 1; the metrics of this row are of that epoch"
    ),
    "started_at_seconds": Column(
        pa.float64(), "seconds from the begin of the run to the begin of the trial"
    ),
    "ended_at_seconds": Column(
        pa.float64(),
        "seconds from the begin of the run to the last report of the trial or decision about it",
    ),
    "epoch_seconds": Column(pa.float64(), "seconds of all epochs of the trial together"),
    "reason": Column(pa.string(), "why the last decision about the trial was taken, in words"),
}
#: By table: the columns that every run has, whatever its space and its trainer.
FIXED_COLUMNS: Mapping[str, Mapping[str, Column]] = {
    "events": _SEQ | _EVENT_COLUMNS | _BOX,
    "epochs": _SEQ | _EPOCH_COLUMNS,
    "trials": _TRIAL_COLUMNS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The schemas of one run's tables, which depend on its space and its trainer's metrics."""

    space: Space
    metrics: Mapping[str, type]  #: by metric, the type of its values
    objective: Objective

    def __post_init__(self) -> None:
        """Refuse a metric that would take the place of one of the log's own columns."""
        taken = FIXED_COLUMNS["epochs"].keys() | FIXED_COLUMNS["trials"].keys()
        prefixes = ("config_", "unit_", "test_")
        for name in self.metrics:
            if name in taken or name.startswith(prefixes):
                raise SpecError(
                    f"metric {name!r} has the name of one of the log's own columns; "
                    f"call it for example validation_{name}"
                )

    @property
    def columns(self) -> dict[str, dict[str, Column]]:
        """By table: its columns in their order."""
        tests, of_space = self._tests(), list_space_columns(self.space)
        return {
            "events": {**FIXED_COLUMNS["events"], **tests, **of_space},
            "epochs": {**FIXED_COLUMNS["epochs"], **self._metrics()},
            "trials": {**FIXED_COLUMNS["trials"], **self._metrics(), **tests, **of_space},
        }

    @property
    def events(self) -> pa.Schema:
        """Schema of the events table, which has one row for each event."""
        return _schema(self.columns["events"])

    @property
    def epochs(self) -> pa.Schema:
        """Schema of the epochs table, which has one row for each epoch of each trial."""
        return _schema(self.columns["epochs"])

    @property
    def trials(self) -> pa.Schema:
        """Schema of the trials table, which has one row for each trial with its best epoch."""
        return _schema(self.columns["trials"])

    def event_row(self, seq: int, at_seconds: float, event: Event) -> dict[str, Any]:
        """Write an event as a row."""
        row = {"seq": seq, "at_seconds": at_seconds, **flatten_event(event)}
        if isinstance(event, TrialStarted):
            row |= self.config_columns(event.config)
            row |= {f"unit_{name}": u for name, u in (event.unit or {}).items()}
        elif isinstance(event, ModelTested):
            row |= event.metrics
        elif isinstance(event, TrialFailed) and "details" in row:
            row["details"] = _to_text(row["details"])
        row["reason"] = _to_text(row["reason"])
        return row

    def entry(self, row: Mapping[str, Any]) -> Event | Observation:
        """Read the event or the report in a row, which may come from a foreign machine.

        Raises:
            InvalidEntry: If the row holds none.
        """
        with _reading_row(row):
            return self.event(row) if "kind" in row else self.observation(row)

    def start(self, row: Mapping[str, Any], *, stop_epoch: int) -> TrialStarted:
        """Make the start of a trial from its row in the trials table.

        Raises:
            InvalidEntry: If the row holds no trial.
        """
        with _reading_row(row):
            return TrialStarted(
                trial=row["trial"],
                stage=row["stage"],
                zoom=row["zoom"],
                parents=None if row["parents"] is None else tuple(row["parents"]),
                config=self.read_trial_config(row),
                unit=self._read_units(row),
                seed=row["seed"],
                stop_epoch=stop_epoch,
            )

    def event(self, row: Mapping[str, Any]) -> Event:
        """Read the event in a row, which `event_row` has written.

        Raises:
            RunError: If the row holds no whole event.
        """
        wide: dict[str, Any] = {}
        if row["kind"] == Kind.START:
            wide["config"], wide["unit"] = self.read_trial_config(row), self._read_units(row)
        elif row["kind"] == Kind.TEST:
            metrics = {name: row[name] for name in self._test_names()}
            wide["metrics"] = {name: v for name, v in metrics.items() if v is not None}
        return rebuild_event(row, **wide)

    def epoch_row(self, seq: int, observation: Observation) -> dict[str, Any]:
        """Write a report as a row."""
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
            "cause": _to_text(r.cause) if r.cause else None,
            **r.metrics,
        }

    def observation(self, row: Mapping[str, Any]) -> Observation:
        """Read the report in a row, which `epoch_row` has written."""
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
        """Write a configuration as typed columns."""
        names = self.space.names
        return {f"config_{k}": _to_cell(names[k], value) for k, value in config.items()}

    def read_trial_config(self, row: Mapping[str, Any]) -> Config:
        """Read the configuration in a row."""
        return read_config(self.space, row)

    def _read_units(self, row: Mapping[str, Any]) -> dict[str, float]:
        units = {d.name: row[f"unit_{d.name}"] for d in self.space.dimensions}
        return {name: u for name, u in units.items() if u is not None}

    def _metrics(self) -> dict[str, Column]:
        return {
            name: Column(_NUMBER[kind], f"{name} as the trainer reports it after an epoch")
            for name, kind in self.metrics.items()
        }

    def _tests(self) -> dict[str, Column]:
        where = "of the best model on the test split, which no decision has seen"
        return {
            name: Column(pa.float64(), f"{name.removeprefix('test_')} {where}")
            for name in self._test_names()
        }

    def _test_names(self) -> list[str]:
        return [
            f"test_{name.removeprefix('validation_')}"
            for name in self.metrics
            if name.startswith("validation_")
        ]


def list_space_columns(space: Space) -> dict[str, Column]:
    """The columns of a space: a value for each hyperparameter, a coordinate for each dimension."""
    configs = {
        f"config_{name}": Column(
            _config_type(d), f"value of {name}; null where the hyperparameter is not active"
        )
        for name, d in space.names.items()
    }
    units = {
        f"unit_{d.name}": Column(
            pa.float64(),
            f"position of {d.name} in its range, from 0 to 1 on the scale of the range",
        )
        for d in space.dimensions
    }
    return configs | units


def read_config(space: Space, row: Mapping[str, Any]) -> Config:
    """Read the configuration in the `config_…` columns; inactive hyperparameters are None there."""
    values = {name: row[f"config_{name}"] for name in space.names}
    return {
        name: _from_cell(space.names[name], value)
        for name, value in values.items()
        if value is not None
    }


@contextmanager
def _reading_row(row: Mapping[str, Any]) -> Iterator[None]:
    """Turn what goes wrong while a row is read into an InvalidEntry with the row's number."""
    try:
        yield
    except (RunError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
        words = " ".join(str(e).split()) or type(e).__name__
        raise InvalidEntry(f"no entry of a log ({words[:200]})", seq=row.get("seq")) from e


def _schema(columns: Mapping[str, Column]) -> pa.Schema:
    version = {"caviar_schema_version": str(SCHEMA_VERSION)}
    return pa.schema([(name, c.type) for name, c in columns.items()], metadata=version)


def _config_type(d: Dimension) -> pa.DataType:
    domain = d.parameter.domain
    if isinstance(domain, Real):
        return pa.float64()
    if isinstance(domain, Integer):
        return pa.int64()
    kinds = {type(v) for v in _values(domain)}
    return _VALUE[kinds.pop()] if len(kinds) == 1 else pa.string()


def _to_text(text: str) -> str:
    """A text that a cell can hold: not too long, and without surrogates, which UTF-8 lacks."""
    if len(text) > TEXT_LIMIT:
        text = f"{text[:TEXT_LIMIT]} … ({len(text) - TEXT_LIMIT} more characters)"
    return text.encode(errors="backslashreplace").decode()


def _is_mixed(d: Dimension) -> bool:
    """Whether a choice has options of several types; as JSON text, 1 differs from "1"."""
    domain = d.parameter.domain
    return isinstance(domain, Choice) and len({type(v) for v in domain.options}) > 1


def _values(domain: Choice | Fixed) -> Iterable[Value]:
    return domain.options if isinstance(domain, Choice) else (domain.value,)


def _to_cell(d: Dimension, value: Value) -> Value:
    return json.dumps(value) if _is_mixed(d) else value


def _from_cell(d: Dimension, value: Value) -> Value:
    if not _is_mixed(d):
        return value
    parsed: Value = json.loads(str(value))
    return parsed
