"""A stranger's run: Hypothesis changes its tables or its model, and every command ends well.

A few examples in each run of the tests, always the same ones; `make test-fuzz` takes ten minutes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import SPEC
from hostile import (
    FILE_MUTATIONS,
    MODEL_FILES,
    MODEL_MUTATIONS,
    TABLE_MUTATIONS,
    mutate_file,
    mutate_model,
    mutate_table,
)
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from oracle import hash_files
from sweep import Server

import caviar
from caviar import CaviarError

_OFTEN = settings.get_current_profile_name() == "often"
fuzz = settings(
    max_examples=500 if _OFTEN else 5,
    derandomize=not _OFTEN,
    database=None,
    suppress_health_check=list(HealthCheck),
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if _OFTEN else 240)]
numbers = st.lists(st.integers(0, 2**16), min_size=3, max_size=3)
tables = st.sampled_from(["events", "epochs", "trials"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(None, tmp_path_factory.mktemp("fuzz") / "server")
    yield server
    server.close()


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a run that has ended, and a file that is no command's business."""
    place = tmp_path_factory.mktemp("whole")
    (place / "spec.yaml").write_text(SPEC)
    (place / "precious.txt").write_text("nothing may change this file")
    words = "search wine --spec spec.yaml --total-epochs 12 --out run --pool inline --quiet"
    code, _, errors = server.run(words, place)
    assert code == 0, errors
    return place


def check_every_command(server: Server, whole: Path, change: Callable[[Path], None]) -> None:
    """Change a copy of the run, then type all commands on it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "place"
        shutil.copytree(whole, place)
        change(place / "run")
        outside = {p: h for p, h in hash_outside(place).items() if not p.startswith("home")}
        code, output, errors = server.run("stranger:{}", place)
        assert code is not None, f"never ends: {errors.splitlines()[-1]}"
        assert code == 0, errors
        assert output == "[]\n"
        now = hash_outside(place)
        assert {p: now.get(p) for p in outside} == outside


def hash_outside(place: Path) -> dict[str, Any]:
    """The hash of each file that does not belong to the run."""
    return {p: h for p, h in hash_files(place).items() if not p.startswith("run/")}


@fuzz
@given(table=tables, change=st.sampled_from(sorted(TABLE_MUTATIONS)), numbers=numbers)
def test_a_run_with_a_changed_table_ends_in_a_result_or_one_line(
    server: Server, whole: Path, table: str, change: str, numbers: list[int]
) -> None:
    note(f"{change} of {table} with {numbers}")
    part = f"{table}/part-00000.parquet"
    check_every_command(server, whole, lambda run: mutate_table(run / part, change, numbers))


@fuzz
@given(table=tables, change=st.sampled_from(sorted(FILE_MUTATIONS)), numbers=numbers)
def test_a_run_with_a_strange_file_in_a_table_ends_in_a_result_or_one_line(
    server: Server, whole: Path, table: str, change: str, numbers: list[int]
) -> None:
    note(f"{change} of a part of {table} with {numbers}")
    part = f"{table}/part-00000.parquet"
    check_every_command(server, whole, lambda run: mutate_file(run / part, change, numbers))


@fuzz
@given(
    name=st.sampled_from(MODEL_FILES),
    change=st.sampled_from([*sorted(MODEL_MUTATIONS), *["change_structure"] * 8]),
    numbers=numbers,
)
def test_a_run_with_a_changed_model_ends_in_a_result_or_one_line(
    server: Server, whole: Path, name: str, change: str, numbers: list[int]
) -> None:
    note(f"{change} of best/{name} with {numbers}")
    check_every_command(
        server, whole, lambda run: mutate_model(run / "best" / name, change, numbers)
    )


def test_a_hyperparameter_that_no_network_can_have_is_named_when_the_model_is_loaded(
    server: Server, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "best"
    shutil.copytree(whole / "run" / "best", folder)
    content = yaml.safe_load((folder / "config.yaml").read_text())
    content["config"]["batch_size"] = ""
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(CaviarError, match="batch_size must be a whole number"):
        caviar.load_model(folder)
