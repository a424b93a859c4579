"""Method grid: every combination of a few values of each hyperparameter, for comparison."""

from __future__ import annotations

from orchestrator.search.methods.base import Method

__all__ = ["GridMethod"]


class GridMethod(Method):
    """The combinations stand in samplers/grid.py; `search.grid_levels` says how many values."""

    default_sampler = "grid"
    default_pruning = "none"
