"""Method grid: every combination of a few values of each hyperparameter, for comparison."""

from __future__ import annotations

from orchestrator.search.methods.base import Method

__all__ = ["GridMethod"]


class GridMethod(Method):
    """Combinations of samplers/grid.py; `search.grid_levels` sets the number of values."""

    default_sampler = "grid"
    default_pruning = "none"
