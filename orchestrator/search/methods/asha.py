"""Method asha: random configurations, asynchronous successive halving (pruning/asha.py)."""

from __future__ import annotations

from orchestrator.search.methods.base import Method

__all__ = ["AshaMethod"]


class AshaMethod(Method):
    """Asynchronous successive halving; Li et al. 2020, arXiv:1810.05934."""

    default_sampler = "random"
    default_pruning = "asha"
