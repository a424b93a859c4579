"""Method audit: trials that another run's pruning left behind, trained to the end."""

from __future__ import annotations

from orchestrator.search.methods.base import Method

__all__ = ["AuditMethod"]


class AuditMethod(Method):
    """Only initial configurations, which `caviar audit` takes from another run."""

    default_sampler = "none"
    default_pruning = "none"
