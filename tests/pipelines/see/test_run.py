"""Loading a run: what it imports, and when it reads the spec."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import caviar
from orchestrator.errors import RunError, SpecError
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec

RECORDED = Path(__file__).parents[2] / "recordings" / "run-0.2"
HEAVY = {
    "orchestrator.search.search", "orchestrator.search.surrogate", "orchestrator.runtime",
    "trainers", "pydantic", "scipy", "sklearn", "ray", "rich", "plotly", "typer",
}  # fmt: skip


def modules_after(code: str) -> set[str]:
    """The modules that a fresh Python has imported after it has run some code."""
    listing = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", f"{code}\n{listing}", str(RECORDED)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("what", ["trials", "epochs", "events", "objective", "status", "audit"])
def test_reading_a_runs_tables_imports_nothing_heavy(what: str) -> None:
    modules = modules_after(f"import sys, caviar; caviar.load(sys.argv[1]).{what}")
    assert "pipelines.see.run" in modules
    assert not modules & HEAVY


def test_the_space_is_read_when_it_is_asked_for() -> None:
    modules = modules_after("import sys, caviar; caviar.load(sys.argv[1]).space")
    assert "pydantic" in modules
    assert not modules & {"trainers", "ray", "rich", "plotly", "typer"}


def test_the_space_is_that_of_the_spec() -> None:
    run = load_run(RECORDED)
    assert run.space is run.space
    assert run.space.names.keys() == read_run_spec(RECORDED).parameters().names.keys()


def test_a_spec_that_cannot_be_read_does_not_hide_the_tables(tmp_path: Path) -> None:
    folder = shutil.copytree(RECORDED, tmp_path / "run")
    (folder / "spec.yaml").write_text("max_epochs: [")
    run = load_run(folder)
    assert len(run.trials) == len(load_run(RECORDED).trials)
    with pytest.raises(SpecError, match=r"spec\.yaml, line 1, column 14: not YAML"):
        _ = run.space


def test_a_folder_without_a_spec_is_no_run(tmp_path: Path) -> None:
    for read in (load_run, read_run_spec):
        with pytest.raises(RunError, match="needs the folder of a run"):
            read(tmp_path)


def test_every_public_name_is_listed_and_can_be_imported() -> None:
    assert set(caviar.__all__) <= set(dir(caviar))
    for name in caviar.__all__:
        assert getattr(caviar, name) is not None
    assert caviar.load(RECORDED).trials.equals(load_run(RECORDED).trials)


def test_importing_caviar_alone_imports_none_of_its_parts_but_the_errors() -> None:
    modules = modules_after("import caviar")
    parts = {m for m in modules if m.startswith(("orchestrator", "pipelines", "trainers"))}
    assert parts == {"orchestrator", "orchestrator.errors"}
