"""The files of best/ are used only where config.yaml describes them."""

from __future__ import annotations

import itertools
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from test_runs import searched

import caviar
from orchestrator.errors import RunError
from pipelines.data import best_folder
from pipelines.data.best_folder import read_best, write_best
from pipelines.data.model import load_model
from pipelines.export import export

RECORDINGS = Path(__file__).parents[2] / "recordings"
NAMES = ("preprocessing.json", "model.safetensors")


def write(folder: Path, number: int) -> None:
    """Write a model whose files and config all hold one number."""
    text = str(number).encode()
    write_best(folder, {NAMES[0]: b"same", NAMES[1]: text * 999}, {"trial": number})


def read(folder: Path) -> int:
    """Read a model, and check that its files belong together."""
    best = read_best(folder, NAMES)
    number = best.content["trial"]
    assert best.files[NAMES[1]] == str(number).encode() * 999
    assert best.has_digests
    assert set(best.content) == {"trial"}
    return int(number)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs with other models."""
    base = tmp_path_factory.mktemp("pair")
    return searched(base / "a", trials=3), searched(base / "b", trials=3, seed=1)


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessing.json", "config.yaml"])
def test_a_model_with_a_file_of_another_one_is_refused_by_every_loader(
    name: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(pair[0], tmp_path / "run")
    content = (pair[1] / "best" / name).read_bytes()
    if name == "preprocessing.json":  # the same data, so the same file
        content += b" "
    (run / "best" / name).write_bytes(content)
    for load in (
        lambda: load_model(run / "best"),
        lambda: caviar.load_model(run / "best"),
        lambda: caviar.load(run).predict("wine"),
        lambda: export(run, to="onnx"),
    ):
        with pytest.raises(RunError, match="parts of two models are mixed") as caught:
            load()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["run-0.1", "run-0.2"])
def test_a_model_without_digests_loads_with_a_note(name: str) -> None:
    (note,) = load_model(RECORDINGS / name / "best").notes
    assert "without digests" in note


def test_a_model_with_digests_has_no_note(pair: tuple[Path, Path]) -> None:
    assert load_model(pair[0] / "best").notes == ()


def test_a_writer_that_stops_at_any_write_leaves_the_old_model_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, models = best_folder.atomic_write, set()
    for writes in itertools.count():
        folder = tmp_path / str(writes)
        write(folder, 1)
        left = writes

        def fail(path: Path) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError("the disk is gone")
            return original(path)

        with monkeypatch.context() as patch:
            patch.setattr(best_folder, "atomic_write", fail)
            try:
                write(folder, 2)
            except OSError:
                models.add(read(folder))
            else:
                break
        write(folder, 3)
        assert read(folder) == 3
    assert models == {1, 2}
    assert "previous" not in (folder / "config.yaml").read_text()


@pytest.mark.parametrize("digests", [True, False])
def test_a_reader_beside_a_writer_never_meets_a_mixture(digests: bool, tmp_path: Path) -> None:
    folder, ended = tmp_path / "best", threading.Event()
    write(folder, 0)
    if not digests:  # as an older version wrote it
        (folder / "config.yaml").write_text("trial: 0\n")

    def write_all() -> None:
        for number in range(1, 100):
            write(folder, number)
        ended.set()

    writer = threading.Thread(target=write_all)
    writer.start()
    last = 0
    while not ended.is_set():
        best = read_best(folder, NAMES)
        number = best.content["trial"]
        assert best.files[NAMES[1]] == str(number).encode() * 999
        assert last <= number
        last = number
    writer.join()
    assert read(folder) == 99


@pytest.mark.parametrize(
    "config",
    ["", "7", "sha256: 7", "sha256: {}", "sha256: {model.safetensors: 7}\nprevious: [1]",
     "a: [", "\0", "trainer: 7", "trial: {}\nepoch: 1", "[" * 9_000],
)  # fmt: skip
def test_a_damaged_config_is_refused_in_one_line(
    config: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    best = shutil.copytree(pair[0] / "best", tmp_path / "best")
    (best / "config.yaml").write_text(config)
    with pytest.raises(RunError) as caught:
        load_model(best)
    assert "\n" not in str(caught.value)
