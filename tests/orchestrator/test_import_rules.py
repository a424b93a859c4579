"""The plan of the house, read off the source: who may import and call what."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator
import pipelines
import trainers

ROOT = Path(orchestrator.__file__).parents[1]
PACKAGES = {p.__name__: Path(p.__file__).parent for p in (orchestrator, trainers, pipelines)}
#: numpy's global generator: anything of np.random but what makes a generator of one's own
GENERATORS = {
    "BitGenerator", "Generator", "PCG64", "Philox", "SeedSequence", "default_rng",
}  # fmt: skip


def sources(*packages: str) -> list[Path]:
    found = [p for name in packages for p in sorted(PACKAGES[name].rglob("*.py"))]
    assert found
    return found


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(path: Path) -> Iterator[str]:
    """The whole names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports by whole names"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(path: Path) -> Iterator[str]:
    """The names that a file calls or mentions, with their dots: np.random.default_rng."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name | ast.Attribute):
            yield ast.unparse(node)


def files_that_import(module: str, *packages: str) -> set[str]:
    """Files that import a module or something below it, as paths from the root."""
    return {
        str(path.relative_to(ROOT))
        for path in sources(*packages)
        if any(name == module or name.startswith(f"{module}.") for name in imported(path))
    }


@pytest.mark.parametrize("upper", ["trainers", "pipelines", "caviar"])
def test_the_orchestrator_knows_nothing_of_those_above_and_beside_it(upper: str) -> None:
    assert files_that_import(upper, "orchestrator") == set()


def test_trainers_stand_on_numpy_and_themselves() -> None:
    for path in sources("trainers"):
        roots = {name.partition(".")[0] for name in imported(path)}
        more = {"sklearn"} if path.parent.name == "sklearn" else set()
        assert roots - sys.stdlib_module_names <= {"numpy", "trainers"} | more, path.name
    # Every worker imports the trainers, and scikit-learn would take it a second more.
    users = files_that_import("trainers.sklearn", "trainers")
    assert {path for path in users if not path.startswith("trainers/sklearn/")} == set()


def test_ray_is_known_to_one_folder_and_its_internals_to_one_file() -> None:
    importing = files_that_import("ray", *PACKAGES)
    assert {str(Path(file).parent) for file in importing} == {"orchestrator/runtime/ray"}
    mentioning = [path for path in sources(*PACKAGES) if "ray._private" in path.read_text()]
    assert [path.name for path in mentioning] == ["internals.py"]


def test_pydantic_stands_at_the_edge_of_one_file() -> None:
    assert files_that_import("pydantic", *PACKAGES) == {"pipelines/runs/spec.py"}


def test_a_runs_tables_are_written_by_one_file() -> None:
    writers = ("write_table", "ParquetWriter", "write_dataset", "write_to_dataset")
    found = {
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES)
        if any(name.rpartition(".")[2] in writers for name in called(path))
    }
    assert found == {"orchestrator/store/log.py"}


def opens_for_writing(path: Path) -> bool:
    """Whether a file calls `open` with a mode that writes."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "open":
            named = [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
            modes = [w.value for w in (*node.args, *named) if isinstance(w, ast.Constant)]
            if any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes):
                return True
    return False


def test_the_disk_is_changed_by_one_file() -> None:
    """Exempt are what fills the temporary folder of an export, and Ray's folder in /tmp.

    `export` makes the first durable; the second one is Ray's, and this process removes it.
    """
    changes = {
        "copyfile", "copytree", "hardlink_to", "makedirs", "mkdir", "mkdtemp", "mkstemp",
        "removedirs", "rmtree", "symlink_to", "touch", "unlink", "write_bytes", "write_text",
    }  # fmt: skip
    whole = {"os.remove", "os.rename", "os.replace", "shutil.move"}
    found = {
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES)
        if not path.match("pipelines/export/to_*.py") and not path.match("runtime/ray/cluster.py")
        if opens_for_writing(path)
        or any(name in whole or name.rpartition(".")[2] in changes for name in called(path))
    }
    assert found == {"orchestrator/store/files.py"}


@pytest.mark.parametrize("module", ["pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"])
def test_nobody_pickles(module: str) -> None:
    assert files_that_import(module, *PACKAGES) == set()


def test_nobody_draws_from_a_global_generator() -> None:
    assert files_that_import("random", *PACKAGES) == set()
    for path in sources(*PACKAGES):
        for name in called(path):
            parts = name.split(".")
            if parts[:2] in (["np", "random"], ["numpy", "random"]) and len(parts) > 2:
                assert parts[2].partition("(")[0] in GENERATORS, f"{path.name}: {name}"


def test_nobody_asks_for_the_hash_of_a_string_whose_answer_differs_by_process() -> None:
    for path in sources(*PACKAGES):
        assert "hash" not in set(called(path)), path.name


def search_and_all_that_it_imports() -> set[Path]:
    """The files of orchestrator that `Search` needs, directly or through others."""
    waiting, found = ["orchestrator.search.search"], set()
    while waiting:
        path = module_file(waiting.pop())
        if path is not None and path not in found:
            found.add(path)
            waiting += [name for name in imported(path) if name.startswith("orchestrator.")]
    return found


def module_file(name: str) -> Path | None:
    """The file of a module's name; None for a name inside a module."""
    places = (ROOT / f"{name.replace('.', '/')}.py", ROOT / name.replace(".", "/") / "__init__.py")
    return next((place for place in places if place.is_file()), None)


def test_the_search_and_all_that_it_imports_know_no_clock_and_no_files() -> None:
    files = search_and_all_that_it_imports()
    assert {"search.py", "space.py", "trial.py", "advisor.py"} <= {path.name for path in files}
    for path in files:
        roots = {module.partition(".")[0] for module in imported(path)}
        clocks_and_files = {"time", "datetime", "os", "pathlib", "io", "socket", "threading"}
        assert not roots & clocks_and_files, path
        assert "open" not in set(called(path)), path
