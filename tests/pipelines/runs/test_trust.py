"""Nothing that is read can make this program run code, or write outside its folder."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_runs import INLINE, TOYS, searched, toy_spec

import caviar as caviar_api
import orchestrator
from orchestrator.errors import SpecError
from pipelines.cli import main
from pipelines.runs import launch, trust
from pipelines.runs.execution import make_budget
from pipelines.runs.new_spec import SearchRequest, load_space_spec, validate_before_start
from pipelines.runs.repair import repair, replay_run
from pipelines.runs.trust import check_trust, load_spec_trainer
from pipelines.runs.warm_start import select_warm_start
from pipelines.see.page import write_page
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec

CODE = """
import pathlib
pathlib.Path({marker!r}).touch()
from toy_trainers import Toy as Mine
"""
TOY = "from toy_trainers import Toy as Mine\n"
SHOWS_PATH = """
import sys, pathlib
pathlib.Path(__file__).with_name("path.txt").write_text("\\n".join(sys.path))
"""


def write_folder(folder: Path, name: str, content: str) -> Path:
    folder.mkdir()
    (folder / name).write_text(content)
    return folder


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[[str], str]:
    """What a command says that is refused; it is typed in this process, which is faster."""

    def type_words(words: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["caviar", *words.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err
        assert ended.value.code == 2, said
        assert said.count("\n") == 1
        return said

    return type_words


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A spec of somebody else's, and the file its code would make."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", TOYS, prepend=os.pathsep)
    monkeypatch.syspath_prepend(TOYS)
    monkeypatch.setattr(trust, "_allowed", set())
    marker = tmp_path / "it ran"
    (tmp_path / "mine.py").write_text(CODE.format(marker=str(marker)))
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({"trainer": "mine:Mine", "space": {"floor": 0.5}}))
    return spec, marker


@pytest.mark.parametrize("command", ["search wine --pool inline --trials 2", "plan wine"])
def test_a_trainer_in_a_spec_runs_only_when_it_is_trusted(
    command: str, foreign: tuple[Path, Path], caviar: Any
) -> None:
    spec, marker = foreign
    told = caviar(*command.split(), "--spec", str(spec), code=2).stderr
    assert told.count("\n") == 1
    assert "mine:Mine" in told and "--trust-trainer" in told
    assert not marker.exists()
    caviar(*command.split(), "--spec", str(spec), "--trust-trainer")
    assert marker.exists()
    marker.unlink()
    caviar(*command.split(), "--spec", str(spec))  # once is enough


def test_a_run_made_here_is_trusted_and_one_from_elsewhere_is_not(
    foreign: tuple[Path, Path], tmp_path: Path, caviar: Any, refused: Callable[[str], str]
) -> None:
    spec, marker = foreign
    out = tmp_path / "run"
    words = f"search wine --pool inline --trials 3 --spec {spec} --trust-trainer --out {out}"
    caviar(*words.split())
    caviar("resume", str(out), "--trials", "2", "--pool", "inline")
    caviar("replay", str(out))
    shutil.rmtree(tmp_path / "state")  # another person's machine
    marker.unlink()
    for command in (f"resume {out} --pool inline", f"replay {out}", f"repair {out}"):
        assert "--trust-trainer" in refused(command)
    assert not marker.exists()
    caviar("replay", str(out), "--trust-trainer")
    assert marker.exists()


def test_code_that_differs_from_the_trusted_code_is_asked_for_again(
    foreign: tuple[Path, Path], tmp_path: Path
) -> None:
    spec_file, _ = foreign
    spec = load_space_spec(spec_file, seed=None)
    check_trust(spec, granted=True)
    check_trust(spec, granted=False)
    spec_file.write_text(spec_file.read_text() + "seed: 1\n")  # another spec of the same code
    check_trust(load_space_spec(spec_file, seed=None), granted=False)
    shutil.copytree(tmp_path, tmp_path / "elsewhere")  # the same spec and code in another place
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text() + "\n")
    for file in (spec_file, tmp_path / "elsewhere" / "spec.yaml"):
        with pytest.raises(SpecError, match="--trust-trainer"):
            check_trust(load_space_spec(file, seed=None), granted=False)


def test_a_changed_module_beside_the_trainer_is_asked_for_again(
    foreign: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("from helper import Mine")
    (tmp_path / "helper.py").write_text("from toy_trainers import Toy as Mine")
    spec = load_space_spec(foreign[0], seed=None)
    check_trust(spec, granted=True)
    check_trust(spec, granted=False)
    (tmp_path / "helper.py").write_text("")
    with pytest.raises(SpecError, match="--trust-trainer"):
        check_trust(spec, granted=False)


def test_a_module_of_the_same_name_in_the_working_directory_is_other_code(
    foreign: tuple[Path, Path], tmp_path: Path, refused: Callable[[str], str]
) -> None:
    marker = foreign[1]
    mine = write_folder(tmp_path / "mine", "mine.py", TOY)
    spec = {"trainer": "mine:Mine", "modules": str(mine), "space": {"floor": 0.5}}
    request = SearchRequest(source="wine", spec=spec, trust_trainer=True)
    run = launch.search(
        request, out=tmp_path / "run", budget=make_budget(None, 2, None), options=INLINE
    ).folder
    shutil.rmtree(mine)
    for words in (f"resume {run} --trials 2 --pool inline", f"replay {run}", f"repair {run}"):
        assert str(tmp_path / "mine.py") in refused(words)
    assert not marker.exists()


def test_no_command_that_loads_a_trainer_runs_one_that_is_not_trusted(
    foreign: tuple[Path, Path], tmp_path: Path, caviar: Any, refused: Callable[[str], str]
) -> None:
    spec, marker = foreign
    run, copy = tmp_path / "run", tmp_path / "copy"
    words = f"search wine --pool inline --trials 3 --spec {spec} --trust-trainer --out {run}"
    caviar(*words.split(), "--mirror", str(copy))
    marker.unlink()
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text() + "\n")
    inline = "--pool inline --quiet"
    for command in (
        f"search wine --spec {spec} --trials 1 {inline} --out {run}",
        f"resume {run} --trials 1 {inline}",
        f"resume {tmp_path / 'new'} --mirror {copy} {inline}",
        f"finalists {run} {inline}",
        f"audit {run} --total-epochs 27 {inline}",
        f"replay {run}",
        f"repair {run}",
        f"plan wine --spec {spec}",
    ):
        assert "--trust-trainer" in refused(command), command
    refused(f"predict {run} wine --out p.parquet")  # it has no model of a built-in trainer
    load_run(run)
    write_page([run], tmp_path / "report.html")
    select_warm_start([run], read_run_spec(run).parameters())
    assert not marker.exists()
    resumed = f"resume {tmp_path / 'new'} --mirror {copy} {inline} --trials 1 --trust-trainer"
    caviar(*resumed.split())
    assert marker.exists()


@pytest.mark.parametrize("named", [True, False])
def test_modules_without_a_trainer_of_the_users_is_refused(
    named: bool, foreign: tuple[Path, Path], tmp_path: Path, refused: Callable[[str], str]
) -> None:
    content: dict[str, Any] = {"modules": str(tmp_path), "space": {}}
    if named:
        content["trainer"] = "caviar.trainers:BatchNormClassifier"
        content["space"] = {"learning_rate": 0.01}
    foreign[0].write_text(yaml.safe_dump(content))
    for command in ("search wine --pool inline --trials 1", "plan wine"):
        assert "remove the line `modules`" in refused(f"{command} --spec {foreign[0]}")
    del content["modules"]
    foreign[0].write_text(yaml.safe_dump(content))
    validate_before_start(SearchRequest(source="wine", spec=foreign[0]))


def test_a_run_of_a_built_in_trainer_with_modules_is_refused_and_they_are_not_searched(
    foreign: tuple[Path, Path], tmp_path: Path
) -> None:
    run = searched(tmp_path / "run", trials=2)
    spec = run / "spec.yaml"
    spec.write_text(spec.read_text().replace("modules: null", f"modules: {tmp_path}"))
    path = list(sys.path)
    for act in (launch.resume, repair, replay_run):
        with pytest.raises(SpecError, match="remove the line `modules`"):
            act(run)
    assert sys.path == path


def test_python_asks_as_the_command_line_does(foreign: tuple[Path, Path], tmp_path: Path) -> None:
    spec, _ = foreign
    (tmp_path / "mine.py").write_text(TOY)
    plain: dict[str, Any] = {"trials": 1, "pool": "inline"}
    by_mapping = {**yaml.safe_load(spec.read_text()), "modules": str(tmp_path)}
    for written in (spec, by_mapping):
        with pytest.raises(SpecError, match="trust_trainer=True"):
            caviar_api.search("wine", spec=written, out=tmp_path / "run", **plain)
    run = caviar_api.search("wine", spec=spec, out=tmp_path / "run", trust_trainer=True, **plain)
    run = run.resume(**plain)
    (tmp_path / "mine.py").write_text(TOY + "\n")
    for refused in (lambda: run.resume(**plain), lambda: caviar_api.resume(run.folder, **plain)):
        with pytest.raises(SpecError, match="trust_trainer=True"):
            refused()
    run = run.resume(trust_trainer=True, **plain)
    assert len(caviar_api.resume(run.folder, **plain).trials) == 4


def test_code_that_changes_between_the_question_and_the_load_does_not_run(
    foreign: tuple[Path, Path], tmp_path: Path
) -> None:
    spec_file, marker = foreign
    spec = load_space_spec(spec_file, seed=None)
    code = check_trust(spec, granted=True)
    assert code is not None
    (tmp_path / "mine.py").write_text(f"open({str(marker)!r}, 'w')")
    with pytest.raises(SpecError, match="--trust-trainer"):
        load_spec_trainer(spec)
    (tmp_path / "mine.py").unlink()
    with pytest.raises(SpecError, match="no module mine"):
        load_spec_trainer(spec)
    assert not marker.exists()


def test_a_home_that_cannot_be_written_only_means_to_type_it_again(
    foreign: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    spec = load_space_spec(foreign[0], seed=None)
    check_trust(spec, granted=True)
    check_trust(spec, granted=False)  # the rest of this command
    monkeypatch.setattr(trust, "_allowed", set())  # the next command
    with pytest.raises(SpecError):
        check_trust(spec, granted=False)


def test_a_relative_state_folder_is_not_read(
    foreign: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load_space_spec(foreign[0], seed=None)
    check_trust(spec, granted=True)  # writes the file that a foreign folder may bring along
    monkeypatch.setattr(trust, "_allowed", set())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    with pytest.raises(SpecError, match="--trust-trainer"):
        check_trust(spec, granted=False)


def test_our_own_trainer_needs_no_trust(tmp_path: Path) -> None:
    spec = read_run_spec(searched(tmp_path / "run", trials=2))
    assert check_trust(spec, granted=False) is None


def write_traps(folder: Path) -> Path:
    """Modules that Ray or Python would import if this folder were on their path."""
    trap = f"open({str(folder / 'trap')!r}, 'w')\nraise ImportError"
    for name in ("cython", "starlette", "sitecustomize", "colorama", "threadpoolctl", "random"):
        (folder / f"{name}.py").write_text(trap)
    (folder / "mine.py").write_text(TOY + SHOWS_PATH)
    return folder / "trap"


def test_the_working_directory_is_not_searched_for_modules(
    foreign: tuple[Path, Path], tmp_path: Path, caviar: Any
) -> None:
    (tmp_path / "mine.py").write_text(TOY + SHOWS_PATH)
    caviar("plan", "wine", "--spec", str(foreign[0]), "--trust-trainer")
    assert not {str(tmp_path), "", "."} & set((tmp_path / "path.txt").read_text().splitlines())


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_workers_import_nothing_from_the_working_directory_or_a_folder_of_modules(
    foreign: tuple[Path, Path], tmp_path: Path
) -> None:
    trap = write_traps(tmp_path)
    words = f"search wine --trials 2 --workers 1 --spec {foreign[0]} --trust-trainer"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipelines.cli", *words.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not trap.exists()
    path = (tmp_path / "path.txt").read_text().splitlines()  # of the last process: a worker
    assert any("workers" in place for place in path)
    assert not {str(tmp_path), "", "."} & set(path)


def test_nothing_read_is_unpickled_or_evaluated() -> None:
    root = Path(orchestrator.__file__).parents[1]
    for package in ("orchestrator", "trainers", "pipelines", "caviar"):
        for path in (root / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {"pickle", "cloudpickle", "marshal", "shelve", "dill"} & set(names), path
                if isinstance(node, ast.Call):
                    assert ast.unparse(node.func) not in {
                        "eval", "exec", "compile", "yaml.load", "yaml.unsafe_load",
                    }, f"{path}: {ast.unparse(node)}"  # fmt: skip
                    allow = [k for k in node.keywords if k.arg == "allow_pickle"]
                    assert all(ast.unparse(k.value) == "False" for k in allow), path


def test_names_in_a_run_cannot_lead_out_of_its_folder(tmp_path: Path, caviar: Any) -> None:
    spec = toy_spec(tmp_path, "Toy", space={"../../escaped": {"linear": [0, 1]}})
    told = caviar("search", "wine", "--spec", str(spec), "--trust-trainer", "--pool", "inline",
                  code=2).stderr  # fmt: skip
    assert "a name needs letters, digits and _" in told
