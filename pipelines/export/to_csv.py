"""Export the trials table to one CSV file, with a row for each trial."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pipelines.see.run import RunTables

__all__ = ["write"]


def write(run: RunTables, out: Path) -> None:
    """Write the trials, by id; parents are JSON."""
    trials = run.trials.copy()
    if "parents" in trials:
        trials["parents"] = [
            json.dumps(list(map(int, p))) if np.iterable(p) else None for p in trials["parents"]
        ]
    trials.to_csv(out, index=False)
