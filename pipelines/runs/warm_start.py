"""A warm start: the best configurations of other runs are tried first.

They are written into the new run's spec, as if a person had listed them, so the new run does not
need the other runs any more. The start events of these trials have the stage `given`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from orchestrator.errors import SpecError
from orchestrator.space.domains import Config, Value
from orchestrator.space.space import Space
from pipelines.see.configs import iterate_configs_by_rank
from pipelines.see.run import RunTables, load_run

__all__ = ["select_best_configs", "select_warm_start"]

BEST = 5  #: configurations taken from each run


def select_warm_start(runs: Sequence[Path], space: Space) -> tuple[Config, ...]:
    """The best configurations of other runs that this space has, one run's after the other's.

    Hyperparameters that the space does not have are left out, so that the spaces may differ.

    Raises:
        RunError: If one of them is no run.
        SpecError: If nothing of a run fits into the space.
    """
    configs: list[Config] = []
    for folder in runs:
        best = select_best_configs(load_run(folder), space, BEST)
        if not best:
            raise SpecError(
                f"`like={folder}`: none of its configurations fits into this space "
                f"({', '.join(space.names)}); leave it out, or search a space like that run's"
            )
        configs += best
    return tuple(_distinct(configs))


def select_best_configs(run: RunTables, space: Space, most: int) -> list[Config]:
    """The best configurations of a run that a space has, no two alike."""
    fitting = (c for c in map(space.project_config, iterate_configs_by_rank(run)) if c is not None)
    return list(islice(_distinct(fitting), most))


def _distinct(configs: Iterable[Config]) -> Iterator[Config]:
    """Yield each configuration once, at its first place."""
    seen: set[tuple[tuple[str, Value], ...]] = set()
    for config in configs:
        key = tuple(config.items())  # in the space's order
        if key not in seen:
            seen.add(key)
            yield config
