"""The code of a user's trainer is read once; what was read is what runs."""

from __future__ import annotations

import os
import pickle
import py_compile
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray  # noqa: F401 # when it is imported first, it adds folders to sys.path
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import SpecError
from orchestrator.runtime import find_trainer
from orchestrator.runtime.find_trainer import find_trainer_code
from orchestrator.runtime.trainer import load_trainer
from orchestrator.runtime.trainer_code import SourceFile, TrainerCode

TRAINER = 'class Mine:\n    metrics = {"validation_loss": (float, "min")}\n'


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """No test changes sys.path; modules that it has loaded are forgotten."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    assert sys.path == path


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def read(folder: Path, trainer: str = "mine:Mine") -> TrainerCode:
    return find_trainer_code(trainer, [folder])


def load(code: TrainerCode, trainer: str = "mine:Mine") -> Any:
    return load_trainer(trainer, pickle.loads(pickle.dumps(code)))  # as a worker receives it


# ---------------------------------------------------------------------- what belongs to the code

MINE = """
import json, numpy, helpers.deep
from layers import dense
from importlib import import_module
def later():
    import lazy
    return import_module("by_text")
"""


def test_the_code_is_the_module_and_what_it_imports_from_its_folder(tmp_path: Path) -> None:
    used = "helpers/__init__ helpers/deep helpers/beside layers/dense lazy by_text".split()
    unused = "unrelated json numpy helpers/unrelated".split()
    write(tmp_path, {f"{name}.py": "" for name in used + unused})
    write(tmp_path, {"mine.py": MINE + TRAINER, "helpers/deep.py": "from . import beside"})
    assert set(read(tmp_path).modules) == {
        "mine", "helpers", "helpers.deep", "helpers.beside", "layers", "layers.dense", "lazy",
        "by_text",
    }  # fmt: skip


def test_each_byte_and_each_path_of_the_code_changes_the_digest_and_other_files_do_not(
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        write(folder, {"mine.py": "import helper\n" + TRAINER, "helper.py": "A = 1"})
    digest = read(here).digest
    assert digest != read(there).digest
    write(here, {"other.py": "B = 1"})
    assert read(here).digest == digest
    write(here, {"helper.py": "A = 2"})
    assert read(here).digest != digest


def test_a_link_to_trusted_code_from_another_folder_is_other_code(tmp_path: Path) -> None:
    here = write(tmp_path / "here", {"mine.py": TRAINER})
    there = tmp_path / "there"
    there.mkdir()
    (there / "mine.py").symlink_to(here / "mine.py")  # what it reads beside itself differs
    (tmp_path / "same").symlink_to(here)
    assert read(there).digest != read(here).digest == read(tmp_path / "same").digest


def test_another_class_of_a_trusted_file_is_other_code(tmp_path: Path) -> None:
    write(tmp_path, {"mine.py": TRAINER})
    one, other = (find_trainer_code(f"mine:{name}", [tmp_path]) for name in ("Mine", "Other"))
    assert one.digest != other.digest


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_digest_does_not_depend_on_the_order_of_reading(order: list[str]) -> None:
    files = {n: SourceFile(path=n, source=n.encode(), is_package=False) for n in order}
    digests = {
        TrainerCode(path="a:T", file="a", modules=modules, installed=False).digest
        for modules in (files, dict(sorted(files.items())))
    }
    assert len(digests) == 1


def test_reading_the_code_runs_none_of_it(tmp_path: Path) -> None:
    touch = f"open({str(tmp_path / 'it ran')!r}, 'w')\n"
    names = ("pkg/__init__.py", "pkg/sub/__init__.py", "pkg/sub/mine.py", "helper.py")
    write(tmp_path, dict.fromkeys(names, touch + "import helper"))
    code = read(tmp_path, "pkg.sub.mine:Mine")
    assert set(code.modules) == {"pkg", "pkg.sub", "pkg.sub.mine", "helper"}
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    "name",
    ["", *". .mine mine. a..b .. mine.absent absent 1 __main__ ../mine a/b os json.no".split()],
)
def test_a_name_without_a_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    write(tmp_path, {"mine.py": TRAINER, "__main__.py": TRAINER})
    with pytest.raises(SpecError, match=r"package\.module:Class") as refused:
        read(tmp_path, f"{name}:Mine")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        *(b"def", b"\0", b"\xff", b"# coding: nonsense\n"),
        *(b"(" * 10_000, b"-" * 200_000 + b"1", b"x" + b".x" * 200_000),
    ],
)
def test_a_file_that_is_not_python_is_refused_in_one_line(source: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(source)
    with pytest.raises(SpecError, match=r"mine\.py: needs a module in Python: .") as refused:
        read(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_trainer_that_imports_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_trainer, "MAX_BYTES", 10_000)
    write(tmp_path, {"mine.py": "import helper\n" + TRAINER, "helper.py": "#" * 10_000})
    with pytest.raises(SpecError, match="more than 500 modules or 10,000 bytes"):
        read(tmp_path)


def test_what_is_no_file_is_no_module(tmp_path: Path) -> None:
    write(tmp_path, {"mine.py": "import helper, pipe\n" + TRAINER})
    (tmp_path / "helper.py").symlink_to("/dev/zero")  # it never ends
    os.mkfifo(tmp_path / "pipe.py")  # to open it waits for a writer
    (tmp_path / "folder.py").mkdir()
    assert set(read(tmp_path).modules) == {"mine"}
    for name in ("helper", "pipe", "folder"):
        with pytest.raises(SpecError, match=f"no module {name}"):
            read(tmp_path, f"{name}:Mine")


# ---------------------------------------------------------------------- what runs


def test_the_bytes_that_were_read_run_whatever_the_folder_holds_later(tmp_path: Path) -> None:
    mine = "from helper import A\n" + TRAINER + "    a = A"
    write(tmp_path, {"mine.py": mine, "helper.py": "A = 1"})
    code = read(tmp_path)
    write(tmp_path, {"mine.py": "raise RuntimeError", "helper.py": "raise RuntimeError"})
    assert load(code).a == 1
    for file in tmp_path.iterdir():
        file.unlink()
    assert load(code).a == 1


def test_compiled_files_beside_the_code_are_never_loaded(tmp_path: Path) -> None:
    touch = f"open({str(tmp_path / 'it ran')!r}, 'w')\n"
    guarded = "try:\n    import compiled\nexcept ImportError:\n    pass\n"
    write(tmp_path, {"mine.py": guarded + "import helper\n" + TRAINER, "helper.py": ""})
    write(tmp_path, {f"{n}.py": touch for n in ("evil", "conftest", "sitecustomize")})
    (tmp_path / "evil.pth").write_text(f"import evil\n{tmp_path}\n")
    cached = [
        tmp_path / "__pycache__" / f"{name}.{sys.implementation.cache_tag}.pyc"
        for name in ("mine", "helper")
    ]
    never_compared = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for file in (tmp_path / "compiled.pyc", *cached):
        py_compile.compile(
            str(tmp_path / "evil.py"), cfile=str(file), invalidation_mode=never_compared
        )
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    assert load(read(tmp_path)).__module__ == "mine"
    assert not (tmp_path / "it ran").exists()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == before


def test_a_module_that_was_not_read_cannot_be_imported_from_the_folder(tmp_path: Path) -> None:
    hidden = """
    def here():
        return importlib.import_module("hid" + "den")
    def below():
        return importlib.import_module("pkg.hid" + "den")
"""
    write(tmp_path, {f"{name}.py": "" for name in ("pkg/__init__", "pkg/hidden", "hidden")})
    write(tmp_path, {"mine.py": "import pkg, importlib\n" + TRAINER + hidden})
    trainer = load(read(tmp_path))
    for import_hidden in (trainer.here, trainer.below):
        with pytest.raises(ModuleNotFoundError):
            import_hidden()


def test_a_sibling_never_takes_the_place_of_an_installed_package(tmp_path: Path) -> None:
    names = "numpy ray json random orchestrator pipelines trainers caviar".split()
    mine = f"import {', '.join(names)}\n{TRAINER}    modules = ({', '.join(names)})"
    write(tmp_path, {"mine.py": mine, **{f"{name}.py": "raise RuntimeError" for name in names}})
    code = read(tmp_path)
    assert set(code.modules) == {"mine"}
    assert load(code).modules == tuple(sys.modules[name] for name in names)
    for name in names[4:]:
        with pytest.raises(SpecError, match="has no attribute 'Mine'"):
            load(read(tmp_path, f"{name}:Mine"), f"{name}:Mine")


def test_relative_imports_and_packages_work_as_they_do_elsewhere(tmp_path: Path) -> None:
    mine = "from . import B, deep\nfrom ..other import A\n" + TRAINER
    mine += "    all = A, B, deep.C, __package__"
    write(tmp_path, {"pkg/__init__.py": "B = 1", "pkg/other.py": "A = 2"})
    write(tmp_path, {"pkg/sub/__init__.py": "from .. import B", "pkg/sub/deep.py": "C = 3"})
    write(tmp_path, {"pkg/sub/mine.py": mine})
    trainer = load(read(tmp_path, "pkg.sub.mine:Mine"), "pkg.sub.mine:Mine")
    assert trainer.all == (2, 1, 3, "pkg.sub")


def test_two_codes_of_one_name_in_one_process_are_not_mixed(tmp_path: Path) -> None:
    mine = "from helper import A\n" + TRAINER + "    a = A"
    codes = [
        read(write(tmp_path / str(number), {"mine.py": mine, "helper.py": f"A = {number}"}))
        for number in (1, 2)
    ]
    for _ in range(2):
        assert [load(code).a for code in codes] == [1, 2]


def test_a_traceback_shows_the_line_of_the_code(tmp_path: Path) -> None:
    write(tmp_path, {"mine.py": TRAINER + "    def fail():\n        return 1 / 0  # here\n"})
    code = read(tmp_path)
    (tmp_path / "mine.py").unlink()  # as on another host
    with pytest.raises(ZeroDivisionError) as raised:
        load(code).fail()
    assert "return 1 / 0  # here" in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("error", ["1 / 0", "raise SystemExit(3)", "raise OSError('a\\nb')"])
def test_a_module_that_raises_at_its_import_is_one_line(error: str, tmp_path: Path) -> None:
    write(tmp_path, {"mine.py": f"{error}\n{TRAINER}"})
    with pytest.raises(SpecError, match="mine:Mine: cannot be imported: ") as refused:
        load(read(tmp_path))
    assert "\n" not in str(refused.value)


# ---------------------------------------------------------------------- installed packages


def test_an_installed_package_is_imported_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"sklearn/linear_model/_ridge.py": "raise RuntimeError"})
    code = read(tmp_path, "sklearn.linear_model._ridge:Ridge")
    assert code.installed
    assert not Path(code.file).is_relative_to(tmp_path)
    with pytest.raises(SpecError, match="needs `metrics`"):
        load(code, "sklearn.linear_model._ridge:Ridge")
    assert Path(code.file).samefile(sys.modules["sklearn.linear_model._ridge"].__file__ or "")


def test_a_folder_on_the_path_that_shadows_an_installed_package_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"iniconfig/__init__.py": "", "iniconfig/mine.py": TRAINER})
    for name in [n for n in sys.modules if n.partition(".")[0] == "iniconfig"]:
        monkeypatch.delitem(sys.modules, name)
    with monkeypatch.context() as shadowed:
        shadowed.syspath_prepend(str(tmp_path))
        code = find_trainer_code("iniconfig.mine:Mine", [])
    assert not code.installed
    assert code.file == str(tmp_path.resolve() / "iniconfig" / "mine.py")


def test_a_folder_beside_an_installed_namespace_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, foreign = tmp_path / "installed", tmp_path / "foreign"
    write(installed, {"shared/real.py": TRAINER})
    write(foreign, {"shared/mine.py": TRAINER})
    monkeypatch.setattr(find_trainer, "_list_installation_places", lambda: {installed.resolve()})
    with monkeypatch.context() as both:
        both.setattr(sys, "path", [str(foreign), str(installed), *sys.path])
        assert find_trainer_code("shared.real:Mine", []).installed
        with pytest.raises(SpecError, match=r"no file defines a module shared\.mine"):
            find_trainer_code("shared.mine:Mine", [])
