"""Which epoch of a run is best: `Objective.score` for whole columns, and the order it gives.

`Objective.score` is the definition. What stands here is its vector form (a test compares the two),
because to score the million epochs of a large run one by one takes seconds.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipelines.see.run import RunTables

__all__ = ["compute_losses", "compute_scores", "number_configs", "rank_epochs"]


def compute_losses(run: RunTables, epochs: pd.DataFrame) -> pd.Series:
    """The loss of each epoch, where smaller is better; inf for an epoch with a cause."""
    objective = run.objective
    sound = epochs[objective.metric].where(epochs["cause"].isna())
    return _to_loss(sound, maximize=objective.maximize)


def compute_scores(run: RunTables, epochs: pd.DataFrame) -> pd.DataFrame:
    """The scores of epochs as columns `loss` and `tie_breaker`; smaller is better in both.

    The tie-breaker is inf where the loss is, and 0 where the objective has none.
    """
    objective = run.objective
    loss = compute_losses(run, epochs)
    tie_breaker = pd.Series(0.0, index=epochs.index)
    if objective.tie_metric is not None:
        tie_breaker = _to_loss(epochs[objective.tie_metric], maximize=objective.tie_maximize)
    return pd.DataFrame({"loss": loss, "tie_breaker": tie_breaker.where(loss < np.inf, np.inf)})


def rank_epochs(run: RunTables) -> pd.DataFrame:
    """The sound epochs, best first: by the metric, then its tie-breaker, then the earlier one.

    In a run of finalists the configuration with the best mean over its seeds comes first.
    """
    if run.epochs.empty:
        return pd.DataFrame(columns=["trial", "epoch"])
    epochs = run.epochs[run.epochs["cause"].isna()]
    keys = compute_scores(run, epochs)
    if run.session.method == "finalists":
        best_losses = keys["loss"].groupby(epochs["trial"]).min()
        configs = number_configs(run)
        means = best_losses.reindex(configs.index).fillna(np.inf).groupby(configs).mean()
        keys.insert(0, "mean", epochs["trial"].map(configs).map(means))
    keys["seq"] = epochs["seq"]
    return epochs.loc[keys.sort_values(list(keys.columns)).index]


def number_configs(run: RunTables) -> pd.Series[int]:
    """By trial: the number of its configuration, from 0 in the order of the first trials.

    Trials with the same configuration have the same number.
    """
    trials = run.trials.set_index("trial")
    columns = [str(name) for name in trials if str(name).startswith("config_")]
    number = trials.groupby(columns, sort=False, dropna=False).ngroup() if columns else 0
    return pd.Series(number, index=trials.index)


def _to_loss(values: pd.Series[float], *, maximize: bool) -> pd.Series:
    finite = values.where(np.isfinite(values), -np.inf if maximize else np.inf)
    return -finite if maximize else finite
