"""Method hyperband: random configurations in brackets of successive halving."""

from __future__ import annotations

from orchestrator.search.methods.base import Method

__all__ = ["HyperbandMethod"]


class HyperbandMethod(Method):
    """Brackets of pruning/hyperband.py; Li et al. 2018, JMLR 18, arXiv:1603.06560."""

    default_sampler = "random"
    default_pruning = "hyperband"
