"""The budget of a new run, until the first row of its log holds it.

A search that is killed in between leaves a run without a row. With this file, `caviar resume` goes
on with the budget that was typed.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import yaml

from orchestrator.errors import SpecError
from orchestrator.search.budget import Budget
from orchestrator.space.domains import is_number
from orchestrator.store.files import atomic_write, remove_file
from orchestrator.store.reading import list_parts
from orchestrator.store.run_files import FIRST_BUDGET
from pipelines.runs.yaml_text import read_yaml

__all__ = ["forget_first_budget", "keep_first_budget", "read_first_budget"]


def keep_first_budget(folder: Path, budget: Budget) -> None:
    """Write the budget that a new run was given into its folder."""
    with atomic_write(folder / FIRST_BUDGET) as file:
        file.write(yaml.safe_dump(budget.limits()).encode())


def read_first_budget(folder: Path) -> Budget | None:
    """Return the budget that a run without rows was given, or None if no valid file says it."""
    try:
        content = read_yaml(folder / FIRST_BUDGET)
        budget = Budget(**content)
    except (SpecError, TypeError):  # TypeError: another key
        return None
    return budget if all(map(_is_limit, content, content.values())) else None


def _is_limit(name: str, value: object) -> bool:
    is_kind = name == "seconds" or isinstance(value, int)
    return is_kind and is_number(value) and 0 < value < math.inf


def forget_first_budget(folder: Path) -> None:
    """Remove the file if the log has the budget; one that cannot be removed does no harm."""
    if (folder / FIRST_BUDGET).exists() and list_parts(folder / "events"):
        with contextlib.suppress(OSError):
            remove_file(folder / FIRST_BUDGET)
