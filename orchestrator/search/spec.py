"""How a space is searched, as a frozen value: the `search` section of a spec.

A field is declared here alone: its type, its limits (as annotations) and its default. What reads a
spec from a file builds its checks from these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt, MaxLen

from orchestrator.space.domains import Config

__all__ = ["ChosenByMethod", "InBytes", "RegisteredName", "SearchSpec", "Seed"]


@dataclass(frozen=True, slots=True)
class ChosenByMethod:
    """Marks a field that the method decides where a spec leaves it out."""


@dataclass(frozen=True, slots=True)
class InBytes:
    """Marks a number of bytes, which a spec may also give as `2 GB`."""


@dataclass(frozen=True, slots=True)
class RegisteredName:
    """Marks a name out of a registry: METHODS, SAMPLERS or PRUNINGS, which import this file."""


MAX_CONFIGS = 1_000  #: initial configurations of one run; the spec that lists them has 400 kB

Seed = Annotated[int, Ge(0), Lt(2**63)]
Rung = Annotated[int, Ge(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec:
    """How the space is searched."""

    #: the search method, one of METHODS
    method: Annotated[str, RegisteredName()] = "caviar"
    #: what draws the configurations of the coarse stage
    sampler: Annotated[str, RegisteredName(), ChosenByMethod()] = "sobol"
    #: values of each hyperparameter in a grid
    grid_levels: Annotated[int, Ge(1), Le(1_000)] = 3
    #: which rule decides at a rung
    pruning: Annotated[str, RegisteredName(), ChosenByMethod()] = "shares"
    #: about 1/eta of a rung is promoted, with asha and hyperband
    eta: Annotated[int, Ge(2), Le(1_000_000)] = 3
    #: epochs at which trials are compared; the last one is max_epochs
    rungs: Annotated[tuple[Rung, ...], ChosenByMethod()] = (1, 4, 10, 27)
    #: share of the budget that draws from the whole space; the zooms share the rest
    coarse_share: Annotated[float, Gt(0), Le(1)] = 0.4
    #: number of boxes in the fine stage; 0 = coarse stage only
    zooms: Annotated[int, Ge(0), Le(1_000), ChosenByMethod()] = 2
    #: configurations to try first
    initial_configs: Annotated[tuple[Config, ...], MaxLen(MAX_CONFIGS)] = ()
    #: seeds of the initial configurations, in order; drawn where the list ends
    initial_seeds: tuple[Seed, ...] = ()
    #: share of the epochs that trains on trials that pruning left behind
    audit: Annotated[float, Ge(0), Le(0.5)] = 0.0
    #: a train_loss above this counts as diverged
    explode_above: Annotated[float, Gt(0)] = 1e4
    #: how often an assignment whose worker was lost is tried again
    retries: Annotated[int, Ge(0), Le(1_000)] = 2
    #: bytes that the checkpoints of paused trials may take
    state_budget: Annotated[int, Ge(0), Le(10**18), InBytes()] = 2_000_000_000
    #: whether results are taken in the order of assignments, not of their arrival
    deterministic: bool = False
    #: assignments that are out at a time in a deterministic run
    max_in_flight: Annotated[int, Ge(1), Le(10_000)] = 8
