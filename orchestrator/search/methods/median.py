"""Method median: random configurations, and the median stopping rule (pruning/median.py)."""

from __future__ import annotations

from orchestrator.search.methods.base import Method

__all__ = ["MedianMethod"]


class MedianMethod(Method):
    """Median stopping rule; Golovin et al. 2017, "Google Vizier", KDD, section 3.2.2."""

    default_sampler = "random"
    default_pruning = "median"
