"""Where the values of the best configuration lie in the ranges that were searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.space.domains import Choice
from pipelines.see.configs import select_by_prefix
from pipelines.see.run import RunTables
from pipelines.see.summary import describe_best

__all__ = ["PlacedValue", "locate_best_values"]

BORDER = 0.05  #: fraction at each end of a range, on the range's scale, that counts as its border


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedValue:
    """Where a value lies in the range that it was searched in."""

    name: str
    value: Any
    unit: float  #: coordinate of the value in [0, 1] on the range's own scale
    domain: str  #: the range in words
    border: str  #: the border that the value is near: low | high, or empty


def locate_best_values(run: RunTables) -> list[PlacedValue]:
    """The searched values of the best configuration, each in its range; a choice has no border."""
    best = describe_best(run)
    if best is None:
        return []
    dimensions = {d.name: d for d in run.space.dimensions}
    trial = run.trials.set_index("trial").loc[best["trial"]]
    placed = []
    for name, u in select_by_prefix(trial, "unit_").items():
        domain = dimensions[name].domain
        near = "low" if u < BORDER else "high" if u > 1 - BORDER else ""
        placed.append(
            PlacedValue(
                name=name,
                value=best["config"][name],
                unit=u,
                domain=str(domain),
                border="" if isinstance(domain, Choice) else near,
            )
        )
    return placed
