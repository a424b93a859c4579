"""A run's folder that came from somebody else: its links lead nowhere, its pipes do not hang."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from test_runs import searched

import caviar
from orchestrator.errors import CaviarError, RunError
from pipelines.cli import app
from pipelines.data.model import load_model

PLACES = (
    "spec.yaml", "run.lock", "events", "events/part-00000.parquet", "events/part-00001.parquet",
    "epochs", "epochs/part-00000.parquet", "trials", "trials/part-00000.parquet",
    "checkpoints", "checkpoints/states-000009.safetensors", "best", "best/config.yaml",
    "best/model.safetensors", "best/preprocessing.json", ".repaired", "damaged-1",
)  # fmt: skip
COMMANDS = (
    "show RUN", "watch RUN", "why RUN 0", "report RUN", "compare RUN OTHER", "replay RUN",
    "repair RUN", "resume RUN --trials 1 --pool inline --quiet",
    "search wine --trials 1 --pool inline --quiet --out RUN", "export RUN --to csv --out NEW",
    "search wine --like RUN --trials 1 --pool inline --quiet --out NEW",
    "finalists RUN --pool inline --out NEW", "audit RUN --total-epochs 50 --pool inline --out NEW",
    "predict RUN wine --out NEW.parquet",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("whole") / "run", trials=4)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "other")
    return Path(shutil.copytree(whole, tmp_path / "run"))


def run_command(text: str, run: Path) -> None:
    places = {
        "RUN": run, "OTHER": run.with_name("other"), "NEW": run.with_name("new"),
        "NEW.parquet": run.with_name("new.parquet"),
    }  # fmt: skip
    app([str(places.get(word, word)) for word in text.split()], standalone_mode=False)


def read_all(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def replace_by_link(path: Path, victim: Path) -> None:
    """Move what is at the path to `victim`, so that the link leads to valid content."""
    if path.exists():
        shutil.move(path, victim)
    else:
        victim.mkdir() if path.suffix == "" else victim.write_bytes(b"precious")
    path.symlink_to(victim)


@pytest.mark.parametrize("place", PLACES)
def test_every_command_refuses_a_run_with_a_link_in_one_line(
    place: str, run: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim" / "content"
    victim.parent.mkdir()
    replace_by_link(run / place, victim)
    before = read_all(tmp_path)
    for command in COMMANDS:
        with pytest.raises(CaviarError, match="is a link, and a run's files") as caught:
            run_command(command, run)
        assert "\n" not in str(caught.value) and str(run / place) in str(caught.value)
    assert read_all(tmp_path) == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", [place for place in PLACES if "." in place[1:]])
def test_no_command_hangs_on_a_named_pipe(place: str, run: Path) -> None:
    (run / place).unlink(missing_ok=True)
    os.mkfifo(run / place)
    for command in COMMANDS:
        with pytest.raises(CaviarError, match="got a pipe or device"):
            run_command(command, run)


def test_a_link_that_leads_to_nothing_is_refused_too(run: Path, tmp_path: Path) -> None:
    (run / "spec.yaml").unlink()
    (run / "spec.yaml").symlink_to(tmp_path / "made-by-us")
    for command in COMMANDS:
        with pytest.raises(CaviarError, match="is a link"):
            run_command(command, run)
    assert not (tmp_path / "made-by-us").exists()


def test_the_folder_of_a_run_itself_may_be_a_link(run: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(run)
    caviar.resume(link, trials=1, pool="inline")
    assert len(caviar.load(run).trials) == 5


@pytest.mark.parametrize("command", ["report RUN", "export RUN --to csv"])
@pytest.mark.parametrize("name", [".report.html.tmp", "report.html", "trials.csv"])
def test_a_result_never_goes_through_a_link(
    command: str, name: str, run: Path, tmp_path: Path
) -> None:
    (run / name).unlink(missing_ok=True)
    victim = tmp_path / "victim"
    (run / name).symlink_to(victim)
    with suppress(RunError):  # the export refuses a result that exists already
        run_command(command, run)
    assert not victim.exists()

    victim.write_text("precious")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(victim)
    with suppress(RunError):
        run_command(command, run)
    assert victim.read_text() == "precious"


def make_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("make", [make_link, os.mkfifo])
@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "preprocessing.json"])
def test_a_model_alone_is_checked_as_well(
    make: Callable[[Path], None], name: str, run: Path
) -> None:
    (run / "best" / name).unlink()
    make(run / "best" / name)
    with pytest.raises(RunError, match=name):
        load_model(run / "best")


@pytest.mark.parametrize("command", ["finalists", "audit"])
def test_a_folder_beside_the_run_that_no_user_named_is_not_taken_where_it_is_a_link(
    command: str, run: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    run.with_name(f"run-{command}").symlink_to(victim)
    with pytest.raises(RunError, match="is a link"):
        app([command, str(run)], standalone_mode=False)
    assert list(victim.iterdir()) == []
