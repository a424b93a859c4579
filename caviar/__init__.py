"""Tune batch-norm networks: train many side by side, keep the best, every number in Parquet.

import caviar

options = caviar.ExecutionOptions(pool="inline")
result = caviar.search("digits", added=caviar.Budget(trials=60), crew=options)
run = caviar.load(result.folder)  # run.trials, run.epochs, run.events: pandas frames
model = caviar.load_model(result.folder / "best")
"""

from orchestrator.errors import CaviarError, InputError
from orchestrator.search.budget import Budget
from pipelines.data.model import load_model
from pipelines.runs.execution import ExecutionOptions
from pipelines.runs.launch import resume, search
from pipelines.see.run import load, summary

__all__ = [
    "Budget",
    "CaviarError",
    "ExecutionOptions",
    "InputError",
    "load",
    "load_model",
    "resume",
    "search",
    "summary",
]
