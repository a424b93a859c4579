"""Runs that another version of caviar recorded: they can be read, and nothing more.

This version would append rows of another schema to their tables, and its search takes other
decisions from the same reports than the one that began the run.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from orchestrator.errors import RunError
from orchestrator.store.reading import read_schema_versions
from orchestrator.store.run_files import check_run_files
from orchestrator.store.tables import SCHEMA_VERSION

__all__ = ["check_same_version_decided", "check_version_can_write"]


def check_version_can_write(run: Path) -> None:
    """Refuse to write to a run that another version recorded; call it before any file is changed.

    Raises:
        RunError: If a table of the run has another schema than this version writes.
    """
    check_run_files(run)
    versions = read_schema_versions(run)
    if any(version > SCHEMA_VERSION for version in versions):
        raise RunError(
            f"{run}: was recorded by a newer version of caviar (schema {max(versions)}, this "
            f"version writes {SCHEMA_VERSION}); use that version"
        )
    if any(version < SCHEMA_VERSION for version in versions):
        raise RunError(
            f"{run}: was recorded by an older version of caviar and can be read but not "
            f"continued; begin a new run that starts from its best configurations: "
            f"caviar search DATA --like {shlex.quote(str(run))}"
        )


def check_same_version_decided(run: Path) -> None:
    """Refuse to take the decisions of a run again that another version took.

    Raises:
        RunError: If a table of the run has another schema than this version writes.
    """
    check_run_files(run)
    others = read_schema_versions(run) - {SCHEMA_VERSION}
    if others:
        raise RunError(
            f"{run}: another version of caviar took its decisions (schema {max(others)}, this "
            f"version writes {SCHEMA_VERSION}), so this one cannot take them again; replay the run "
            f"with the version that recorded it"
        )
