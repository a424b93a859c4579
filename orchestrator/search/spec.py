"""How a space is searched, as a frozen value: the `search` section of a spec."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.space.domains import Config

__all__ = ["SearchSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec:
    """How the space is searched."""

    method: str = "caviar"  #: one of METHODS
    sampler: str = "sobol"  #: of the coarse stage: sobol | random | grid | none
    grid_levels: int = 3  #: values of each hyperparameter, for the grid
    pruning: str = "shares"  #: shares | asha | hyperband | median | none
    eta: int = 3  #: about 1/eta of a rung goes on, with asha and hyperband
    rungs: tuple[int, ...] = (1, 4, 10, 27)  #: epochs to compare at; the last is max_epochs
    coarse_share: float = 0.4  #: of the budget, for the whole space; the zooms share the rest
    zooms: int = 2  #: boxes of the fine stage; 0 = coarse only
    initial_configs: tuple[Config, ...] = ()  #: configurations to try first
    initial_seeds: tuple[int, ...] = ()  #: of their random numbers, in order; drawn where missing
    audit: float = 0.0  #: share of the epochs for training on what pruning left behind
    explode_above: float = 1e4  #: a train_loss beyond it counts as diverged
    retries: int = 2  #: of an assignment whose worker was lost
    state_budget_bytes: int = 2_000_000_000  #: for the states of trials that wait
    deterministic: bool = False  #: whether results are taken in by assignment, not by arrival
    max_in_flight: int = 8  #: assignments that are out at a time, where they are
