"""Search methods: they choose the next configuration and the next trial to promote.

Each method has a file of its own and one row in `METHODS`. `base.Method` documents the calls that a
method receives.
"""

from __future__ import annotations

from orchestrator.errors import SpecError
from orchestrator.search.methods.asha import AshaMethod
from orchestrator.search.methods.audit import AuditMethod
from orchestrator.search.methods.base import Method, Setup
from orchestrator.search.methods.caviar import CaviarMethod
from orchestrator.search.methods.finalists import FinalistsMethod
from orchestrator.search.methods.grid import GridMethod
from orchestrator.search.methods.hyperband import HyperbandMethod
from orchestrator.search.methods.median import MedianMethod
from orchestrator.search.methods.random import RandomMethod
from orchestrator.search.methods.sobol import SobolMethod

__all__ = ["METHODS", "Method", "Setup", "make_method"]

#: Name in a spec -> class. The spec's sampler, pruning and zooms replace the class's defaults.
METHODS: dict[str, type[Method]] = {
    "caviar": CaviarMethod,
    "asha": AshaMethod,
    "hyperband": HyperbandMethod,
    "median": MedianMethod,
    "random": RandomMethod,
    "sobol": SobolMethod,
    "grid": GridMethod,
    "finalists": FinalistsMethod,
    "audit": AuditMethod,
}


def make_method(setup: Setup) -> Method:
    """Build the method that the spec names, in its initial state.

    Raises:
        SpecError: If there is no such method, or one of its parts cannot be built.
    """
    name = setup.spec.method
    if name not in METHODS:
        raise SpecError(f"search.method needs one of {' | '.join(METHODS)}, got {name!r}")
    return METHODS[name](setup)
