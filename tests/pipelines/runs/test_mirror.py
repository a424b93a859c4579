"""A run goes on from its mirror as if the first folder had never been lost."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from pyarrow import fs
from pyarrow.fs import FSSpecHandler
from test_runs import check_tables, searched

import caviar
from orchestrator.errors import RunError
from orchestrator.store import log, mirror, mirror_store
from orchestrator.store.mirror import Mirror, restore
from orchestrator.store.mirror_store import MirrorStore
from orchestrator.store.snapshot import list_run_files
from pipelines.data.model import load_model, read_best_identity
from pipelines.runs.repair import repair
from pipelines.see.run import load_run
from pipelines.see.summary import summarize_run

RECORDED = Path(__file__).parents[2] / "recordings" / "run-0.2"
RESTORING = ("atomic_write", "move", "make_folder", "remove_folder")
KNOWN = ["trial", "epoch", "validation_log_loss"]


@pytest.mark.parametrize("as_uri", [True, False])
def test_a_lost_folder_comes_back_from_its_mirror(as_uri: bool, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    mirror = copy.as_uri() if as_uri else str(copy)
    folder = tmp_path / "run"
    caviar.search("wine", out=folder, trials=12, pool="inline", mirror=mirror)
    before = load_run(folder)
    assert {p.name for p in copy.iterdir()} == {"spec.yaml", "events", "epochs", "trials", "best"}
    shutil.rmtree(folder)
    caviar.resume(folder, trials=5, pool="inline", mirror=mirror)
    check_tables(folder)
    after = load_run(folder)
    pd.testing.assert_frame_equal(
        after.epochs[KNOWN].head(len(before.epochs)), before.epochs[KNOWN]
    )
    assert len(after.trials) == 17
    best = summarize_run(after)["best"]
    assert load_model(folder / "best").trial == best["trial"]
    pd.testing.assert_frame_equal(load_run(copy).trials, after.trials)  # and the copy kept up


@pytest.mark.parametrize("behind", ["events", "epochs"])
def test_a_copy_that_was_broken_off_between_two_files_is_still_a_run(
    behind: str, tmp_path: Path
) -> None:
    folder, copy = searched(tmp_path / "run", trials=8), tmp_path / "copy"
    Mirror(folder, str(copy), failed=pytest.fail).close()
    old = (copy / behind / "part-00000.parquet").read_bytes()
    caviar.resume(folder, trials=8, pool="inline")
    Mirror(folder, str(copy), failed=pytest.fail).close()
    (copy / behind / "part-00000.parquet").write_bytes(old)
    again = tmp_path / "again"
    caviar.resume(again, trials=3, pool="inline", mirror=str(copy))
    check_tables(again)
    assert load_run(again).status == "finished"
    assert len(load_run(again).trials) >= 11


def test_it_keeps_up_while_the_run_goes_on_and_says_once_when_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MIRROR_SECONDS", 0.02)
    run, copy, told = tmp_path / "run", tmp_path / "copy", []
    (run / "events").mkdir(parents=True)
    kept = Mirror(run, str(copy), failed=told.append)
    for content in (b"1", b"22"):
        (run / "events" / "part-00000.parquet").write_bytes(content)
        deadline = time.monotonic() + 5
        while (
            not (copy / "events" / "part-00000.parquet").exists()
            or (copy / "events" / "part-00000.parquet").read_bytes() != content
            or (copy / ".update").exists()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    shutil.rmtree(copy)
    copy.write_text("a file where the folder was")
    (run / "events" / "part-00000.parquet").write_bytes(b"333")
    while not told:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(told) == 1 and str(copy) in told[0]
    copy.unlink()
    kept.close()
    assert (copy / "events" / "part-00000.parquet").read_bytes() == b"333"


# ---------------------------------------------------------------------- every operation fails


class FailingFiles(FSSpecHandler):
    """A folder as a store of objects that is lost at its n-th operation that changes something.

    Nothing is atomic here: the object that is being written is cut off.
    """

    def __init__(self, base: Path, operations: float = float("inf")) -> None:
        super().__init__(LocalFileSystem())
        self.base, self.left, self.count = base, operations, 0

    def step(self) -> bool:
        self.count += 1
        self.left -= 1
        if self.left < 0:
            raise OSError("the store is lost")
        return self.left < 1

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        cut_off = self.step()
        stream = super().open_output_stream(path, metadata)
        if cut_off:
            stream.write(b"cut off")
            stream.close()
            raise OSError("the store is lost")
        return stream

    def create_dir(self, path: str, recursive: bool) -> None:
        self.step()
        super().create_dir(path, recursive)

    def delete_file(self, path: str) -> None:
        self.step()
        super().delete_file(path)

    def delete_dir(self, path: str) -> None:
        self.step()
        super().delete_dir(path)


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run at two moments, with another best model, and its mirror at the first one."""
    base = tmp_path_factory.mktemp("states")
    first, second, copy = base / "first", base / "second", base / "copy"
    caviar.search("wine", out=first, trials=4, pool="inline", seed=3)
    Mirror(first, str(copy), failed=pytest.fail).close()
    (copy / "best" / "gone").write_text("a file that the run has no more")
    shutil.copytree(first, second)
    for _session in range(10):
        caviar.resume(second, trials=4, pool="inline")
        if read_best_identity(second / "best") != read_best_identity(first / "best"):
            return [first, second, copy]
    raise AssertionError(f"no other best model after {_session + 1} sessions")


def read_all_bytes(folder: Path) -> dict[Path, bytes]:
    """By path: the content of each file below a folder."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a run that a mirror holds."""
    return {path: (folder / path).read_bytes() for path in list_run_files(folder)}


@pytest.mark.parametrize("local", [True, False])
def test_a_mirror_that_stops_at_any_operation_is_the_run_as_it_was_before_or_after(
    local: bool, states: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, copy = states
    seen = set()
    for operations in itertools.count():
        place = shutil.copytree(copy, tmp_path / f"copy-{operations}")
        with monkeypatch.context() as patch:
            handler = stop_after(operations, place, patch, local=local)
            failures: list[str] = []
            try:
                Mirror(second, str(place), failed=failures.append).close()
            except RunError as e:  # the store was lost before the session began
                failures.append(str(e))
        restored = tmp_path / f"restored-{operations}"
        restore(str(place), restored)
        files = read_files(restored)
        files.pop("best/gone", None)
        assert files in (read_files(first), read_files(second))
        assert (
            load_model(restored / "best").trial
            == load_model((first if files == read_files(first) else second) / "best").trial
        )
        seen.add(files == read_files(second))
        Mirror(second, str(place), failed=pytest.fail).close()  # the next one brings it up to date
        assert read_files(place) == read_files(second)
        assert not (place / ".update").exists()
        if not failures:
            break
    assert seen == {True, False}
    assert operations > 15, handler


def stop_after(
    operations: int, place: Path, patch: pytest.MonkeyPatch, *, local: bool
) -> FailingFiles:
    """Let the mirror's store be lost after so many operations."""
    handler = FailingFiles(place, operations)
    if not local:
        patch.setattr(
            mirror_store, "_open_file_system", lambda _: (fs.PyFileSystem(handler), str(place))
        )
        return handler
    fail_at_steps(mirror_store, ("atomic_write", "move", "make_folder"), handler, patch)
    return handler


def fail_at_steps(
    module: ModuleType, names: tuple[str, ...], steps: FailingFiles, patch: pytest.MonkeyPatch
) -> None:
    """Make functions of a module count as operations of the store."""

    def change(original: Any) -> Any:
        def function(*words: Any) -> Any:
            steps.step()
            return original(*words)

        return function

    for name in names:
        patch.setattr(module, name, change(getattr(module, name)))


def test_each_copy_during_a_search_is_a_run_that_needs_no_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MIRROR_SECONDS", 0.01)
    monkeypatch.setattr(log, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(log, "PART_ROWS", 25)  # many parts
    commit, states = MirrorStore.commit, []

    def commit_and_copy(store: MirrorStore, paths: Any) -> None:
        commit(store, paths)
        states.append(shutil.copytree(tmp_path / "copy", tmp_path / f"state-{len(states)}"))

    monkeypatch.setattr(MirrorStore, "commit", commit_and_copy)
    caviar.search(
        "wine", out=tmp_path / "run", trials=20, pool="inline", mirror=str(tmp_path / "copy")
    )
    rows = []
    for state in states:
        assert repair(state).endswith("nothing to repair")
        rows.append(len(load_run(state).epochs) if (state / "events").exists() else 0)
        if (state / "best" / "config.yaml").exists():  # the first model is being written
            load_model(state / "best")
    assert rows == sorted(rows)
    assert rows[-1] == len(load_run(tmp_path / "run").epochs)
    assert len(set(rows)) > 1


# ---------------------------------------------------------------------- whose mirror is it


def test_a_search_does_not_replace_the_mirror_of_a_lost_run(tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    caviar.search("wine", out=run, trials=6, pool="inline", mirror=str(copy))
    shutil.rmtree(run)
    before = read_all_bytes(copy)
    for folder in (run, tmp_path / "other"):
        with pytest.raises(RunError, match=f"`caviar resume {folder}` with `mirror={copy}`"):
            caviar.search("wine", out=folder, trials=2, pool="inline", mirror=str(copy))
        assert not folder.exists()
    with pytest.raises(RunError, match=r"the mirror .* holds one"):
        caviar.search("digits", out=run, trials=2, pool="inline", mirror=str(copy))
    assert read_all_bytes(copy) == before


def test_the_mirror_of_a_run_that_was_stopped_before_its_first_row_is_replaced(
    tmp_path: Path,
) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    copy.mkdir()
    (copy / "spec.yaml").write_text("{}")
    caviar.search("wine", out=run, trials=2, pool="inline", mirror=str(copy))
    assert len(load_run(copy).trials) == 2


@pytest.mark.parametrize("seed", [0, 1])
def test_the_mirror_of_another_run_is_refused_also_with_the_same_spec(
    seed: int, tmp_path: Path
) -> None:
    run, copy = searched(tmp_path / "run", trials=3), tmp_path / "copy"
    caviar.search("wine", out=tmp_path / "o", trials=3, pool="inline", seed=seed, mirror=str(copy))
    before = read_all_bytes(copy)
    with pytest.raises(RunError, match="holds another run; give another place"):
        caviar.resume(run, trials=1, pool="inline", mirror=str(copy))
    assert read_all_bytes(copy) == before


def test_a_mirror_with_rows_that_the_run_does_not_have_is_refused(tmp_path: Path) -> None:
    run, copy, old = tmp_path / "run", tmp_path / "copy", tmp_path / "old"
    caviar.search("wine", out=run, trials=3, pool="inline", mirror=str(copy))
    shutil.copytree(run, old)
    caviar.resume(run, trials=3, pool="inline", mirror=str(copy))
    before = read_all_bytes(copy)
    for behind_or_beside in (lambda: None, lambda: caviar.resume(old, trials=9, pool="inline")):
        behind_or_beside()
        with pytest.raises(RunError, match=f"lacks rows .* `caviar resume {old}-restored` with"):
            caviar.resume(old, trials=1, pool="inline", mirror=str(copy))
        assert read_all_bytes(copy) == before
    caviar.resume(tmp_path / "old-restored", trials=1, pool="inline", mirror=str(copy))


def test_a_run_without_an_id_is_known_by_its_rows(tmp_path: Path) -> None:
    run = shutil.copytree(RECORDED, tmp_path / "run")
    Mirror(run, str(tmp_path / "copy"), failed=pytest.fail).close()
    Mirror(run, str(tmp_path / "copy"), failed=pytest.fail).close()
    other = shutil.copytree(RECORDED, tmp_path / "other")
    part = other / "events" / "part-00000.parquet"
    table = pq.read_table(part)
    later = pc.add(table["at_seconds"], 0.001)
    at = table.column_names.index("at_seconds")
    pq.write_table(table.set_column(at, table.schema.field(at), later), part)
    with pytest.raises(RunError, match="lacks rows"):
        Mirror(other, str(tmp_path / "copy"), failed=pytest.fail)


def test_another_writer_of_a_mirror_is_noticed_while_the_run_goes_on(tmp_path: Path) -> None:
    run, copy = searched(tmp_path / "run", trials=3), tmp_path / "copy"
    twin = shutil.copytree(run, tmp_path / "twin")
    failures: list[str] = []
    first = Mirror(run, str(copy), failed=failures.append)
    caviar.resume(twin, trials=2, pool="inline", mirror=str(copy))
    before = read_all_bytes(copy)
    first.close()
    assert len(failures) == 1 and "lacks rows" in failures[0]
    assert read_all_bytes(copy) == before


def test_a_mirror_in_a_place_with_other_files_or_in_the_run_is_refused(tmp_path: Path) -> None:
    run, home = searched(tmp_path / "run", trials=3), tmp_path / "home"
    (home / "best").mkdir(parents=True)
    (home / "best" / "letter").write_text("dear")
    with pytest.raises(RunError, match="with other files"):
        Mirror(run, str(home), failed=pytest.fail)
    assert (home / "best" / "letter").read_text() == "dear"
    for inside in (run, run / "best"):
        with pytest.raises(RunError, match="outside of the run's folder"):
            Mirror(run, str(inside), failed=pytest.fail)


@pytest.mark.parametrize("content", [b"", b"no table", "epochs", "links"])
def test_a_mirror_that_cannot_be_read_is_refused_in_one_line(
    content: bytes | str, tmp_path: Path
) -> None:
    run, copy = searched(tmp_path / "run", trials=3), tmp_path / "copy"
    Mirror(run, str(copy), failed=pytest.fail).close()
    part = copy / "events" / "part-00000.parquet"
    part.unlink()
    if content == "links":
        part.symlink_to(run / "events" / "part-00000.parquet")
    elif isinstance(content, str):
        shutil.copy(copy / content / part.name, part)
    else:
        part.write_bytes(content)
    before = read_all_bytes(copy)
    with pytest.raises(RunError) as caught:
        caviar.resume(run, trials=1, pool="inline", mirror=str(copy))
    assert "\n" not in str(caught.value)
    assert read_all_bytes(copy) == before


# ---------------------------------------------------------------------- restoring


def test_a_restore_that_stops_at_any_operation_leaves_no_run_or_a_whole_one(
    states: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second, _ = states
    copy = tmp_path / "copy"
    Mirror(second, str(copy), failed=pytest.fail).close()
    for operations in itertools.count():
        run = tmp_path / f"run-{operations}"
        with monkeypatch.context() as patch:
            steps = FailingFiles(copy, operations)
            fail_at_steps(mirror, RESTORING, steps, patch)
            with contextlib.suppress(RunError):
                restore(str(copy), run)
        if (run / "spec.yaml").exists():
            assert read_files(run) == read_files(second)
        else:
            restore(str(copy), run)
            assert read_files(run) == read_files(second)
            assert {p.name for p in run.iterdir()} == {p.name for p in copy.iterdir()} | {
                "run.lock"
            }
        if steps.left >= 0:
            break
    assert operations > 15


def test_a_restore_takes_a_folder_that_is_empty_and_refuses_one_that_is_not(
    states: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, run = states[2], tmp_path / "run"
    run.mkdir()
    monkeypatch.chdir(run)
    restore(str(copy), Path())
    assert read_files(run) == read_files(copy)
    (tmp_path / "letters" / "best").mkdir(parents=True)
    with pytest.raises(RunError, match="needs a new or empty folder"):
        restore(str(copy), tmp_path / "letters")
    assert (tmp_path / "letters" / "best").exists()


@pytest.mark.parametrize("uri", ["nowhere://bucket/run", "s3://"])
def test_a_place_that_cannot_be_is_said_in_one_line(uri: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="`mirror` needs"):
        Mirror(tmp_path, uri, failed=pytest.fail)


def test_a_place_without_a_run_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="needs the copy of a run"):
        restore(str(tmp_path / "empty"), tmp_path / "run")
    with pytest.raises(RunError, match="`mirror` needs"):
        restore(str(tmp_path / "nowhere"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_a_restore_refuses_keeps_every_file(tmp_path: Path) -> None:
    copy, home = tmp_path / "copy", tmp_path / "home"
    caviar.search("wine", out=tmp_path / "run", trials=2, pool="inline", mirror=str(copy))
    for name in ("best/.x.tmp/d", ".trash.tmp/f", ".a.tmp", "run.lock", ".profile"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("keep")
    before = read_all_bytes(home)
    with pytest.raises(RunError, match="needs a new or empty folder"):
        caviar.resume(home, pool="inline", mirror=str(copy))
    assert read_all_bytes(home) == before


def test_a_mirror_whose_hidden_folder_is_a_link_is_refused(tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    other.mkdir()
    (other / "commit.json").write_text('{"files": []}')
    copy.mkdir()
    (copy / ".update").symlink_to(other)
    with pytest.raises(RunError, match="is a link"):
        caviar.search("wine", out=tmp_path / "run", trials=2, pool="inline", mirror=str(copy))
    assert (other / "commit.json").exists()
