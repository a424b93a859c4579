"""What all tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("caviar", deadline=None, print_blob=True)
#: With --often, tests that fuzz try this many examples each, other ones in each run (10 min).
settings.register_profile("often", settings.get_profile("caviar"), max_examples=10_000)
settings.load_profile("caviar")

# What starts the tests in the background may have had these signals ignored, and their processes
# would inherit it; the product leaves an ignored signal ignored, as nohup asks for.
for _number, _action in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _action)


def pytest_configure(config: pytest.Config) -> None:
    """Load the profile before the tests are imported, which read it."""
    if config.getoption("--often"):
        settings.load_profile("often")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test-faults` gives it."""
    parser.addoption("--often", action="store_true", help="kill 25 times, not a few")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often a test kills what it kills."""
    return 25 if request.config.getoption("--often") else 4


@pytest.fixture(autouse=True, scope="session")
def own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Which specs are trusted is noted in a place of the tests' own, also by their processes."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


Caviar = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = [sys.executable, "-m", "pipelines.cli"]


@pytest.fixture
def caviar(tmp_path: Path) -> Caviar:
    """The command in a process of its own, typed in an empty folder."""

    def run(*words: str, code: int = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONWARNINGS": "default", "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        told = f"caviar {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == code, told
        return done

    return run
