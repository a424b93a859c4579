"""Moving files of a run aside: nothing that a person might miss is deleted."""

from __future__ import annotations

import warnings
from pathlib import Path

from orchestrator.errors import RunWarning
from orchestrator.quote import join_names
from orchestrator.store.files import make_folder, move
from orchestrator.store.reading import TABLES, list_strays

__all__ = ["find_last_number", "move_strays_aside"]


def find_last_number(run: Path) -> int:
    """The N of the last folder damaged-N of a run, or 0 if there is none."""
    names = [path.name.removeprefix("damaged-") for path in run.glob("damaged-*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def move_strays_aside(run: Path) -> Path | None:
    """Move what is not a part out of the tables' folders; other tools would read it as rows.

    The caller holds the run's lock. A warning names the files and their new folder.

    Returns:
        The new folder, or None if there was no such file.
    """
    strays = [path for name in TABLES for path in list_strays(run / name)]
    if not strays:
        return None
    place = run / f"damaged-{find_last_number(run) + 1}"
    for path in strays:
        make_folder(place / path.parent.name)
        move(path, place / path.parent.name / path.name)
    names = join_names((f"{path.parent.name}/{path.name}" for path in strays), most=3)
    warnings.warn(
        f"{run}: {names} {'is no part' if len(strays) == 1 else 'are no parts'} of a "
        f"table; moved to {place}",
        RunWarning,
        stacklevel=1,
    )
    return place
