"""An Optuna storage, as optuna-dashboard opens it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial
from sqlalchemy.engine import URL

from orchestrator.search.trial import Status
from orchestrator.space.domains import Choice, Integer
from orchestrator.space.space import Dimension
from pipelines.see.configs import read_trial_config
from pipelines.see.epochs import group_curves
from pipelines.see.ranking import rank_epochs
from pipelines.see.run import RunTables, resolve_status
from pipelines.see.summary import describe_best

__all__ = ["format_url", "write"]

STATES = {
    Status.COMPLETED: TrialState.COMPLETE,
    Status.PAUSED: TrialState.PRUNED,
    Status.PRUNED: TrialState.PRUNED,
    Status.DIVERGED: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,
    Status.RUNNING: TrialState.RUNNING,
    Status.STOPPED: TrialState.PRUNED,  # as a paused trial: a resume continues it
}


def format_url(out: Path) -> str:
    """Write the URL of the database, with the characters escaped that a URL must not have."""
    return str(URL.create("sqlite", database=str(out)))


def write(run: RunTables, out: Path) -> None:
    """Write a study with the run's name, its trials, their intermediate values and distributions.

    Optuna has no scale for values near 1 (1 - 10^r): such a hyperparameter is written as
    `1 - NAME`, on a logarithmic scale.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    o = run.objective
    study = optuna.create_study(
        study_name=run.folder.resolve().name,
        storage=format_url(out),
        direction="maximize" if o.maximize else "minimize",
    )
    study.set_user_attr("metric", o.metric)
    top = describe_best(run)
    if top is not None:  # ours may be paused or pruned; Optuna's own best is a completed one
        study.set_user_attr("caviar_best_trial", top["trial"])
        study.set_user_attr("caviar_best_epoch", top["epoch"])
    firsts = rank_epochs(run).drop_duplicates("trial").set_index("trial")
    curves = group_curves(run)
    dimensions = run.space.dimensions
    for _, row in run.trials.iterrows():
        trial, status = int(row["trial"]), resolve_status(run, row["status"])
        state = STATES[status]
        config = read_trial_config(run, trial)
        named = [(d, config[d.name]) for d in dimensions if d.name in config]
        curve = curves.get(trial)
        value = float(firsts[o.metric][trial]) if trial in firsts.index else None
        study.add_trial(
            create_trial(
                state=TrialState.FAIL if state is TrialState.COMPLETE and value is None else state,
                value=value if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
                params=dict(_convert_value(d, v) for d, v in named),
                distributions={_convert_value(d, v)[0]: _make_distribution(d) for d, v in named},
                user_attrs={"caviar": trial, "stage": str(row["stage"]), "status": status.value},
                intermediate_values={}
                if curve is None
                else {
                    int(epoch): float(v)
                    for epoch, v in zip(curve["epoch"], curve[o.metric], strict=True)
                    if math.isfinite(v)
                },
            )
        )


def _is_reverse_log(d: Dimension) -> bool:
    return getattr(d.domain, "scale", "") == "reverse_log"


def _convert_value(d: Dimension, value: Any) -> tuple[str, Any]:
    return (f"1 - {d.name}", 1 - value) if _is_reverse_log(d) else (d.name, value)


def _make_distribution(d: Dimension) -> BaseDistribution:
    domain = d.domain
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    if isinstance(domain, Integer):
        return IntDistribution(domain.low, domain.high, log=domain.scale == "log2")
    if _is_reverse_log(d):
        return FloatDistribution(1 - domain.high, 1 - domain.low, log=True)
    return FloatDistribution(domain.low, domain.high, log=domain.scale == "log")
