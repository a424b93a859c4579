"""Method sobol: a scrambled Sobol sequence of configurations, each trained to the end."""

from __future__ import annotations

from orchestrator.search.methods.base import Method

__all__ = ["SobolMethod"]


class SobolMethod(Method):
    """Like random search, without holes and clusters; the sequence stands in samplers/sobol.py."""

    default_sampler = "sobol"
    default_pruning = "none"
