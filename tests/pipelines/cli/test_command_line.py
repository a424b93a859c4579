"""The command line as a whole: its log, its version, its words for Python's arguments."""

from __future__ import annotations

import ast
import logging
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main
from test_bad_input import typed

from pipelines.cli import COMMANDS, app
from pipelines.cli.output import word_for_command_line

ROOT = Path(__file__).parents[3]
SEARCH = "search wine --pool inline --trials 3 --max-epochs 3 --json"


def test_the_log_is_silent_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CAVIAR_LOG", raising=False)
    assert typed(f"{SEARCH} --out {tmp_path / 'run'}", monkeypatch) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_log_of_level_debug_tells_of_each_report_and_of_the_session(
    by_environment: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = f"{SEARCH} --out {tmp_path / 'run'}"
    if by_environment:
        monkeypatch.setenv("CAVIAR_LOG", "debug")
    else:
        words = f"--log-level debug {words}"
    assert typed(words, monkeypatch) == 0
    log = capsys.readouterr().err.splitlines()
    assert all(re.search(r" (DEBUG|INFO|WARNING) +caviar\.[\w.]+: ", line) for line in log)
    reports = [line for line in log if re.search(r"worker 0: trial \d+, epoch \d+ in ", line)]
    assert len(reports) >= 3
    assert any("session starts: a session of 1 workers" in line for line in log)
    assert any("session ends: finished" in line for line in log)
    assert logging.getLogger("caviar").handlers == [
        h for h in logging.getLogger("caviar").handlers if isinstance(h, logging.NullHandler)
    ]


def test_a_log_of_level_info_leaves_single_reports_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(f"--log-level info {SEARCH} --out {tmp_path / 'run'}", monkeypatch) == 0
    log = capsys.readouterr().err
    assert "session ends: finished" in log
    assert "DEBUG" not in log and " epoch 1 in " not in log


def test_a_level_that_there_is_not_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("--log-level loud space", monkeypatch) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "--log-level" in message and "debug" in message


def test_a_mirror_that_cannot_be_written_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestrator.store.mirror_store import MirrorStore

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(MirrorStore, "stage", fail)
    words = f"--log-level warning {SEARCH} --mirror {tmp_path / 'copy'} --out {tmp_path / 'run'}"
    assert typed(words, monkeypatch) == 0
    log = capsys.readouterr().err
    assert re.search(r"WARNING +caviar\.runs\.logged_watcher: the mirror .*the disk is gone", log)


def test_the_version_is_the_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("--version", monkeypatch) == 0
    assert capsys.readouterr().out == f"caviar {version('caviar')}\n"


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == project["version"]
    assert headings == sorted(headings, reverse=True)


@pytest.mark.parametrize(
    ("python", "command_line"),
    [
        ("`time` needs something like 60s", "--time needs something like 60s"),
        ('add to it with `time="60s"`', "add to it with --time 60s"),
        ("got `workers=3`", "got --workers 3"),
        ("needs `trials` or `epochs`", "needs --trials or --total-epochs"),
        ("leave out `deterministic=True`", "leave out --deterministic"),
        ("`caviar resume run` goes on", "`caviar resume run` goes on"),
        ("write `mirror_x` or `learning_rate=3`", "write `mirror_x` or `learning_rate=3`"),
    ],
)
def test_pythons_arguments_are_options_on_the_command_line(python: str, command_line: str) -> None:
    assert word_for_command_line(python) == command_line


def test_every_command_has_a_help_of_one_sentence_and_a_name_of_its_own() -> None:
    names = [command.__name__ for _, command in COMMANDS]
    assert len(set(names)) == len(names)
    for _, command in COMMANDS:
        assert command.__doc__ and command.__doc__.endswith(".")


def test_no_package_prints_but_the_progress_of_a_session() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in ("orchestrator", "trainers", "pipelines", "caviar")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert found <= {"pipelines/see/terminal.py", "pipelines/see/schema.py"}


@pytest.mark.parametrize("package", ["search", "space", "store"])
def test_the_orchestrator_names_no_option_of_the_command_line(package: str) -> None:
    command = typer.main.get_command(app)
    options = {
        option
        for one in [command, *command.commands.values()]
        for parameter in one.params
        for option in parameter.opts
        if option.startswith("--")
    }
    assert {"--time", "--out", "--mirror", "--total-epochs"} <= options
    for path in (ROOT / "orchestrator" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = set(re.findall(r"--[a-z][a-z-]*", node.value))
                assert not found & options, (path, node.value)


def test_a_file_that_is_no_part_of_a_table_is_a_note_on_standard_error(
    tmp_path: Path, caviar: Any
) -> None:
    shutil.copytree(ROOT / "tests" / "recordings" / "run-0.2", tmp_path / "run")
    shutil.copy(tmp_path / "run/epochs/part-00000.parquet", tmp_path / "run/epochs/copy.parquet")
    done = caviar("show", "run")
    assert done.stderr.count("\n") == 1
    assert re.match(r"note: run/epochs: only part-00000\.parquet.* not copy\.parquet", done.stderr)


def test_a_working_directory_that_was_removed_is_no_error(tmp_path: Path) -> None:
    code = "import os, runpy, sys; os.rmdir(os.getcwd()); sys.argv = ['caviar', '--version']; "
    code += "runpy.run_module('pipelines.cli', run_name='__main__')"
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "gone", capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
