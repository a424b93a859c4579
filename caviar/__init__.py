"""Tune batch-norm networks: train many side by side, keep the best, every number in Parquet.

import caviar

options = caviar.ExecutionOptions(pool="inline")
result = caviar.search("digits", added=caviar.Budget(trials=60), crew=options)
run = caviar.load(result.folder)  # run.trials, run.epochs, run.events: pandas frames
model = caviar.load_model(result.folder / "best")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.errors import CaviarError, InputError
    from orchestrator.search.budget import Budget
    from pipelines.data.model import load_model
    from pipelines.runs.execution import ExecutionOptions
    from pipelines.runs.launch import resume, search
    from pipelines.see.run import load_run as load
    from pipelines.see.summary import summarize_run as summary

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

#: By public name: its module and its name there. A name is imported when it is first asked for, so
#: that reading a run's tables imports neither the search nor a trainer.
_EXPORTS = {
    "Budget": ("orchestrator.search.budget", "Budget"),
    "CaviarError": ("orchestrator.errors", "CaviarError"),
    "ExecutionOptions": ("pipelines.runs.execution", "ExecutionOptions"),
    "InputError": ("orchestrator.errors", "InputError"),
    "load": ("pipelines.see.run", "load_run"),
    "load_model": ("pipelines.data.model", "load_model"),
    "resume": ("pipelines.runs.launch", "resume"),
    "search": ("pipelines.runs.launch", "search"),
    "summary": ("pipelines.see.summary", "summarize_run"),
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value  # the next access finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _EXPORTS.keys())
