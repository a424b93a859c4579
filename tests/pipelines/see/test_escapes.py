"""Text from data, trainers and the runs of others does nothing to the terminal."""

from __future__ import annotations

import ast
import io
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from test_bad_input import typed
from test_runs import searched

from orchestrator.search.events import TrialFailed
from orchestrator.search.objective import WORST, Objective
from pipelines.cli.output import log_to_stderr, print_lines, print_notes, print_problem
from pipelines.see.console import PlainConsole, make_plain_text
from pipelines.see.formatting import escape_controls
from pipelines.see.run import load_run
from pipelines.see.terminal import LineWatcher, PanelWatcher, SilentWatcher
from pipelines.see.watch import draw_panel

ROOT = Path(__file__).parents[3]
#: ESC sequences that set colours and the title of the window and clear the screen, C1 as one
#: character, bidirectional marks, and ends of lines.
HOSTILE = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202etxt\u2066\r\nnext\x85\u2028\x00\x7f"


def is_harmless(text: str) -> bool:
    return not set(text) & {character for character in HOSTILE if not character.isprintable()}


@given(text=st.text(st.characters()))
def test_what_a_terminal_would_act_on_is_written_as_an_escape(text: str) -> None:
    escaped = escape_controls(text)
    assert is_harmless(escaped)
    escaped.encode()  # no surrogate is left
    assert escape_controls(escaped) == escaped
    if text.isascii() and text.isprintable():
        assert escaped == text


def test_letters_of_all_scripts_and_tabs_stay_as_they_are() -> None:
    text = "a\tß é 数据 بيانات עברית हिन्दी 😀 [red] \\x1b"
    assert escape_controls(text) == text


def test_lines_notes_and_problems_are_printed_without_controls(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_lines([HOSTILE, "[red]x[/red]"])
    print_notes([HOSTILE])
    print_problem(HOSTILE)
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 3 and printed.err.count("\n") == 1
    assert "[red]x[/red]" in printed.out
    assert is_harmless(printed.out.replace("\n", "") + printed.err.replace("\n", ""))


@pytest.mark.parametrize("silent", [False, True])
def test_watchers_print_notes_and_events_on_one_line(
    silent: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = Objective(metric="validation_loss", maximize=False)
    watcher = SilentWatcher() if silent else LineWatcher(objective, WORST)
    watcher.note(HOSTILE)
    watcher.handle_entry(TrialFailed(trial=1, reason=HOSTILE), 1.0)
    printed = capsys.readouterr()
    text = printed.out + printed.err
    assert text.count("\n") == (1 if silent else 2)
    assert is_harmless(text.replace("\n", ""))


def draw(*renderables: Any) -> str:
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, color_system=None, width=200)
    for renderable in renderables:
        console.print(renderable)
    return file.getvalue()


def test_a_console_takes_no_text_for_markup_and_passes_no_control_on() -> None:
    table = Table.grid()
    table.add_row("[red]cell[/red] :smile:", HOSTILE)
    drawn = draw(table, f"[bold]{HOSTILE}", make_plain_text(f"[u]{HOSTILE}"))
    for text in ("[red]cell[/red] :smile:", "[bold]\\x1b[31m", "[u]\\x1b[31m"):
        assert text in drawn
    assert is_harmless(drawn.replace("\n", "").replace("\x1b[0m", ""))


def test_the_panels_of_search_and_watch_show_foreign_names_as_they_stand(tmp_path: Path) -> None:
    run = load_run(searched(tmp_path / "run", trials=5))
    foreign = replace(run, folder=Path(f"[red]{HOSTILE}".replace("\x00", "")))
    assert "[red]\\x1b" in draw(draw_panel(foreign))
    assert is_harmless(draw(draw_panel(foreign)).replace("\n", ""))
    watcher = PanelWatcher(run.objective, HOSTILE)
    watcher._console.file = file = io.StringIO()
    watcher.note(f"[red]{HOSTILE}")
    assert "[red]\\x1b" in file.getvalue()


def test_a_log_record_is_one_line_and_its_traceback_is_harmless(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("caviar.test")
    with log_to_stderr("info"):
        logger.info("first %s", HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logger.exception("second")
    lines = capsys.readouterr().err.splitlines()
    assert "first" in lines[0] and "next" in lines[0]
    assert "second" in lines[1] and len(lines) > 3
    assert all(map(is_harmless, lines))


def test_column_names_and_errors_with_escapes_reach_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hostile_trainer.py").write_text(
        "from toy_trainers import Toy\n\nclass Hostile(Toy):\n"
        f"    def epoch(self):\n        raise ValueError({HOSTILE!r} * 2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rows = "\n".join(f"{i},{i % 7},{i % 2}" for i in range(40))
    (tmp_path / "d.csv").write_bytes(f"a\x1b[31m,[red]b\x9b,y\x1b]0;t\x07\n{rows}\n".encode())
    spec = tmp_path / "spec.yaml"
    spec.write_text("trainer: hostile_trainer:Hostile\nspace: {floor: {linear: [0, 1]}}\n")
    run = tmp_path / "run"
    options = f"--spec {spec} --trust-trainer"
    typed(f"search wine --pool inline --trials 3 --out {run} {options}", monkeypatch)
    typed(f"why {run} 0", monkeypatch)
    typed(f"show {run}", monkeypatch)
    typed(f"search {tmp_path}/d.csv --pool inline --trials 3 --out {run}-2", monkeypatch)
    typed(f"plan {tmp_path}/d.csv --target a", monkeypatch)
    printed = capsys.readouterr()
    assert printed.out.count("ValueError") >= 2
    assert is_harmless((printed.out + printed.err).replace("\n", ""))


def test_only_the_edge_writes_to_the_standard_streams() -> None:
    edge = {"cli/output.py", "cli/streams.py", "see/terminal.py", "see/schema.py"}
    for path in (ROOT / "pipelines").rglob("*.py"):
        if path.relative_to(ROOT / "pipelines").as_posix() in edge:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in ("print", "typer.echo", "typer.secho"):
                assert "version(" in ast.unparse(node), path  # a text of our own
            assert called not in ("sys.stdout.write", "sys.stderr.write"), path
