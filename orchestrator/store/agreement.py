"""Whether the rows of a run's tables agree with each other, as far as this needs no spec.

Readers that build frames rely on it. The search checks more when it applies the entries
(`orchestrator.search.validation`), which takes the run's spec.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.errors import DamageError, RunError
from orchestrator.quote import quote
from orchestrator.search.events import EVENT_TYPES, Assigning, Kind, TrialEvent, TrialNote
from orchestrator.search.trial import AUDIT
from orchestrator.store.cells import check_cells
from orchestrator.store.event_rows import parse_session_details, rebuild_event

__all__ = ["check_agreement"]

#: Kinds of which a run has few events, with fields that are JSON. They are read whole.
_RARE_KINDS = [
    kind.value
    for kind, cls in EVENT_TYPES.items()
    if not issubclass(cls, TrialEvent) or issubclass(cls, TrialNote)
]
#: By column: the kinds of events that have a value in it.
_NEEDED = {
    "trial": [kind.value for kind, cls in EVENT_TYPES.items() if issubclass(cls, TrialEvent)],
    "start_epoch": [kind.value for kind, cls in EVENT_TYPES.items() if issubclass(cls, Assigning)],
    "stop_epoch": [kind.value for kind, cls in EVENT_TYPES.items() if issubclass(cls, Assigning)],
    "stage": [Kind.START.value, Kind.ZOOM.value],
    "seed": [Kind.START.value],
    "parents": [Kind.ZOOM.value],
}


def check_agreement(run: Path, events: pa.Table, epochs: pa.Table, trials: pa.Table) -> None:
    """Refuse tables whose rows contradict each other, or hold events that there are not.

    Args:
        run: The run's folder, for messages.
        events: The events in the order of `seq`.
        epochs: The epochs up to the same `seq`; without a column if the table has no part yet.
        trials: The trials; without a column if the table has no part yet.

    Raises:
        DamageError: Naming the first contradiction.
        RunError: If an event is of a kind that this version does not know.
    """
    for name, table in (("events", events), ("epochs", epochs), ("trials", trials)):
        if table.num_columns:
            check_cells(run / name / "part-*.parquet", table)
    _check_kinds(run, events)
    for name, kinds in _NEEDED.items():
        lacking = events.filter(pc.is_in(events["kind"], pa.array(kinds))).filter(
            pc.field(name).is_null()
        )
        if lacking.num_rows:
            row = lacking.slice(0, 1).to_pylist()[0]
            raise _damage(run, f"row {row['seq']} is a {row['kind']} without {name}")
    _check_rare_events(run, events)
    started = _check_starts(run, events)
    _check_epochs(run, epochs, started)
    _check_trials(run, trials, started)
    _check_objective(run, events, epochs)


def _damage(run: Path, problem: str) -> DamageError:
    return DamageError(
        f"{run}: {problem}; `caviar repair {shlex.quote(str(run))}` keeps all that fits together"
    )


def _check_kinds(run: Path, events: pa.Table) -> None:
    unknown = set(pc.unique(events["kind"]).to_pylist()) - {kind.value for kind in Kind}
    if unknown:
        raise RunError(
            f"{run}: needs events of the kinds that this version knows, got {quote(min(unknown))}; "
            f"use the version of caviar that wrote the run"
        )
    if events["kind"][0].as_py() != Kind.SESSION:
        raise _damage(run, "the events begin without a session")


def _check_rare_events(run: Path, events: pa.Table) -> None:
    for row in events.filter(pc.is_in(events["kind"], pa.array(_RARE_KINDS))).to_pylist():
        try:
            rebuild_event(row, metrics={})
        except RunError as e:
            raise _damage(run, f"row {row['seq']} is no event: {e}") from e


def _check_starts(run: Path, events: pa.Table) -> npt.NDArray[np.int64]:
    """The ids of the trials; each has one start, which is its first event."""
    about = events.filter(pc.field("trial").is_valid())
    trials, is_start = about["trial"].to_numpy(), pc.equal(about["kind"], "start").to_numpy()
    ids, first = np.unique(trials, return_index=True)
    if len(ids) != is_start.sum() or not is_start[first].all():
        wrong = [i for i, at in zip(ids, first, strict=True) if not is_start[at]]
        repeated = _find_repeated(trials[is_start])
        trial = wrong[0] if wrong else repeated
        raise _damage(run, f"trial {trial} has {'no' if wrong else 'more than one'} start")
    if not np.array_equal(ids, np.arange(len(ids))):
        missing = np.setdiff1d(np.arange(len(ids)), ids)[0]
        raise _damage(run, f"trial {missing} has no start, but later trials have")
    return ids


def _check_epochs(run: Path, epochs: pa.Table, started: npt.NDArray[np.int64]) -> None:
    if not epochs.num_rows:
        return
    trials, numbers = epochs["trial"].to_numpy(), epochs["epoch"].to_numpy()
    order = np.lexsort((numbers, trials))
    same = (np.diff(trials[order]) == 0) & (np.diff(numbers[order]) == 0)
    if same.any():
        at = order[np.flatnonzero(same)[0]]
        raise _damage(run, f"epoch {numbers[at]} of trial {trials[at]} is there twice")
    if not np.isin(trials, started).all():
        raise _damage(run, f"trial {np.setdiff1d(trials, started)[0]} has epochs without a start")


def _check_trials(run: Path, trials: pa.Table, started: npt.NDArray[np.int64]) -> None:
    if not trials.num_rows:
        return
    ids = trials["trial"].to_numpy()
    if len(np.unique(ids)) != len(ids):
        raise _damage(run, f"trial {_find_repeated(ids)} is twice in trials/")
    if not np.isin(ids, started).all():
        raise _damage(run, f"trial {np.setdiff1d(ids, started)[0]} is in trials/ without a start")
    counts = pc.fill_null(pc.list_value_length(trials["parents"]), 0)
    of_box = pc.and_(pc.is_valid(trials["zoom"]), pc.equal(counts, 0))
    of_audit = pc.and_(pc.equal(trials["stage"], AUDIT), pc.not_equal(counts, 1))
    without_parents = trials.filter(pc.or_(of_box, of_audit))["trial"]
    if len(without_parents):
        raise _damage(run, f"trial {without_parents[0]} lacks the trials that it comes from")


def _check_objective(run: Path, events: pa.Table, epochs: pa.Table) -> None:
    """Require numbers in the columns of the metrics that decide, which the last session names."""
    sessions = events.filter(pc.equal(events["kind"], Kind.SESSION.value))
    objective = parse_session_details(sessions["details"][-1].as_py()).objective
    if objective is None:
        raise _damage(run, "the last session does not say which metric decides")
    for name in (objective.metric, objective.tie_metric):
        if name is None or not epochs.num_columns:
            continue
        kind: Any = epochs.schema.field(name).type if name in epochs.column_names else None
        if not (kind and (pa.types.is_floating(kind) or pa.types.is_integer(kind))):
            raise _damage(run, f"epochs/ needs a column of numbers {quote(name)}, got {kind}")


def _find_repeated(ids: npt.NDArray[np.int64]) -> int:
    values, counts = np.unique(ids, return_counts=True)
    return int(values[counts > 1][0])
