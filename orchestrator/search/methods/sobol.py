"""Method sobol: a scrambled Sobol sequence of configurations, each trained to the end."""

from __future__ import annotations

from orchestrator.search.methods.base import Method

__all__ = ["SobolMethod"]


class SobolMethod(Method):
    """Random search without holes and clusters, by the sequence of samplers/sobol.py."""

    default_sampler = "sobol"
    default_pruning = "none"
