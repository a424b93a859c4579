"""Pruning rules: who goes on, who waits, who is given up. One file a rule, one row here."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.search.pruning.asha import Asha
from orchestrator.search.pruning.base import Pruner
from orchestrator.search.pruning.hyperband import Hyperband
from orchestrator.search.pruning.median import Median
from orchestrator.search.pruning.none import NoPruning
from orchestrator.search.spec import SearchSpec

__all__ = ["PRUNERS", "PRUNINGS"]

#: Name in a spec -> how the rule is built from the spec's `search` section.
PRUNERS: dict[str, Callable[[SearchSpec], Pruner]] = {
    "asha": lambda spec: Asha(rungs=spec.rungs, eta=spec.eta),
    "hyperband": lambda spec: Hyperband(rungs=spec.rungs, eta=spec.eta),
    "median": lambda spec: Median(max_epochs=spec.rungs[-1]),
    "none": lambda spec: NoPruning(max_epochs=spec.rungs[-1]),
}
#: All names that a spec may give; `shares` asks the model of method caviar.
PRUNINGS = ("shares", *PRUNERS)
