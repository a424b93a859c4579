"""Reading the spec of a run, apart from its tables: this needs pydantic, the tables do not."""

from __future__ import annotations

from pathlib import Path

from pipelines.runs.spec import Spec, load_spec
from pipelines.runs.yaml_text import read_yaml
from pipelines.see.run import check_is_run

__all__ = ["read_run_spec"]


def read_run_spec(folder: Path) -> Spec:
    """The spec of a run.

    Raises:
        RunError: If there is no run in the folder.
        SpecError: If the spec cannot be read.
    """
    check_is_run(folder)
    path = folder / "spec.yaml"
    return load_spec(read_yaml(path), source=str(path))
