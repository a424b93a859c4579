"""Tune batch-norm networks: train many side by side, keep the best, every number in Parquet.

import caviar

result = caviar.search("digits", added=caviar.Added(trials=60), crew=caviar.Crew(pool="inline"))
run = caviar.load(result.folder)  # run.trials, run.epochs, run.events: pandas frames
model = caviar.load_model(result.folder / "best")
"""

from orchestrator.budget import Added
from orchestrator.errors import CaviarError, InputError
from pipelines.analysis import load, summary
from pipelines.launch import resume, search
from pipelines.model import load_model
from pipelines.workers import Crew

__all__ = [
    "Added",
    "CaviarError",
    "Crew",
    "InputError",
    "load",
    "load_model",
    "resume",
    "search",
    "summary",
]
