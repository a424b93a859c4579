"""Tune batch-norm networks: train many side by side, keep the best, every number in Parquet.

import caviar

run = caviar.search("data.csv", target="price", time="60s", workers=4)
run.trials, run.epochs, run.events    # pandas frames
run.best                              # the best epoch with its configuration and metrics
run.predict("new.csv")                # by the best model
run = run.resume(time="60s")
run = caviar.load("runs/data-20261128-1200")

What is heavy is imported when it is needed: `caviar.load` imports neither the search nor a trainer.
"""

from caviar._run import Run, compare, load, load_model
from caviar._search import resume, search
from orchestrator.errors import CaviarError, InputError

__all__ = [
    "CaviarError",
    "InputError",
    "Run",
    "compare",
    "load",
    "load_model",
    "resume",
    "search",
]
