"""The configurations of a run's trials, read back from the columns of its tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.store.tables import read_config
from pipelines.see.ranking import rank_epochs
from pipelines.see.run import RunTables

__all__ = ["iterate_configs_by_rank", "read_trial_config", "select_by_prefix"]


def iterate_configs_by_rank(run: RunTables) -> Iterator[dict[str, Any]]:
    """The configurations of the trials with a result, the one of the best result first."""
    return (read_trial_config(run, trial) for trial in rank_epochs(run)["trial"].unique())


def read_trial_config(run: RunTables, trial: int) -> dict[str, Any]:
    """The configuration of a trial."""
    (row,) = run.trials[run.trials["trial"] == trial].to_dict("records")
    values = select_by_prefix(row, "config_")
    return dict(read_config(run.space, {f"config_{n}": values.get(n) for n in run.space.names}))


def select_by_prefix(row: Any, prefix: str) -> dict[str, Any]:
    """The cells of a row whose column begins with a prefix, by the rest of the name; no nulls."""
    return {
        name.removeprefix(prefix): value.item() if isinstance(value, np.generic) else value
        for name, value in row.items()
        if name.startswith(prefix) and not pd.isna(value)
    }
