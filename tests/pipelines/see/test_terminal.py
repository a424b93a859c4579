"""What a person sees: a panel on a terminal, plain lines in a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import SpecError
from pipelines.see.formatting import format_duration, format_number, parse_duration

COMMAND = [sys.executable, "-m", "pipelines.cli"]


def on_a_terminal(folder: Path, *words: str) -> str:
    """All that the command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(
        [*COMMAND, *words], cwd=folder, env=environment, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other side has closed
                break
            if not piece:
                break
            seen += piece
    os.close(ours)
    assert process.returncode == 0
    return seen.decode()


@pytest.mark.slow
def test_on_a_terminal_one_panel_refreshes_and_is_gone_at_the_end(tmp_path: Path) -> None:
    seen = on_a_terminal(tmp_path, *"search wine --pool inline --time 2s --out run".split())
    panel, _, closing_events = seen.rpartition("best by validation accuracy")
    for row in ("best", "stage", "trials", "workers", "time"):
        assert re.search(rf"│ {row} ", panel), row
    assert "left" in panel
    assert closing_events
    assert "╭" not in closing_events


def test_into_a_pipe_go_plain_lines_without_colours(tmp_path: Path, caviar: Any) -> None:
    told = caviar(*"search wine --pool inline --trials 30 --out run".split())
    assert told.stderr == ""
    assert "\x1b" not in told.stdout
    assert "\r" not in told.stdout
    events = [line for line in told.stdout.splitlines() if re.match(r" +\d+\.\ds  ", line)]
    assert 3 <= len(events) <= 60
    assert "budget in all: 30 trials" in events[0]
    assert any("best validation accuracy" in line for line in events)


def test_quiet_says_nothing_but_the_last_words(tmp_path: Path, caviar: Any) -> None:
    told = caviar(*"search wine --pool inline --trials 5 --quiet --out run".split())
    assert told.stdout.startswith("best by validation accuracy")
    for part in ("test", "trials   5", "was not training", "pandas.read_parquet", "select * from"):
        assert part in told.stdout
    shown = caviar("show", "run")
    assert shown.stdout == told.stdout


@given(hours=st.integers(0, 99), minutes=st.integers(0, 59), seconds=st.integers(1, 59))
def test_times_are_read_as_people_write_them(hours: int, minutes: int, seconds: int) -> None:
    whole = 3600 * hours + 60 * minutes + seconds
    assert parse_duration(f"{whole}s") == parse_duration(str(whole)) == whole
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == whole


@pytest.mark.parametrize("text", ["", "s", "soon", "-5s", "0s", "5x", "1h-5m", "5 s s", "nan"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SpecError, match="60s, 10m or 2h"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.02, "20 ms"), (0.5, "500 ms"), (4.25, "4.2 s"), (59, "59 s"), (125, "2 min 5 s"),
     (600, "10 min"), (3720, "1 h 2 min")],
)  # fmt: skip
def test_times_are_told_for_people(seconds: float, told: str) -> None:
    assert format_duration(seconds) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.97223, "0.9722"), (52310.44, "52310"), (3.1e-5, "3.1e-05"), (3.0, "3"), (27, "27"),
     ("adam", "adam"), (float("nan"), "nan"), (float("inf"), "inf"), (0.0, "0")],
)  # fmt: skip
def test_numbers_are_told_in_four_digits(value: object, told: str) -> None:
    assert format_number(value) == told
