"""Pruning rules: they decide which trials go on, wait, or are given up.

Each rule has a file of its own and one row in `PRUNERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.search.pruning.asha import Asha
from orchestrator.search.pruning.base import Pruner
from orchestrator.search.pruning.hyperband import Hyperband
from orchestrator.search.pruning.median import Median
from orchestrator.search.pruning.none import NoPruning
from orchestrator.search.spec import SearchSpec

__all__ = ["PRUNERS", "PRUNINGS"]

#: Name in a spec -> function that builds the rule from the spec's `search` section.
PRUNERS: dict[str, Callable[[SearchSpec], Pruner]] = {
    "asha": lambda spec: Asha(rungs=spec.rungs, eta=spec.eta),
    "hyperband": lambda spec: Hyperband(rungs=spec.rungs, eta=spec.eta),
    "median": lambda spec: Median(max_epochs=spec.rungs[-1]),
    "none": lambda spec: NoPruning(max_epochs=spec.rungs[-1]),
}
#: All names that a spec may use; `shares` needs the model of method caviar.
PRUNINGS = ("shares", *PRUNERS)
