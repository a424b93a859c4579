"""Method random: independent uniform configurations, each trained to the end."""

from __future__ import annotations

from orchestrator.search.methods.base import Method

__all__ = ["RandomMethod"]


class RandomMethod(Method):
    """Random search; Bergstra & Bengio 2012, "Random Search for Hyper-Parameter Optimization",
    JMLR 13.
    """

    default_sampler = "random"
    default_pruning = "none"
