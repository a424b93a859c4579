"""Every file operation of every command that writes: killed there, cut short, or failing.

`make test` tries a seeded sample of the points, `make test-faults` all of them. The commands, and
what a user types after a fault, stand in tests/faults/commands.py; what must hold then in
tests/faults/oracle.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from commands import COMMANDS, Command
from summary import read_table
from sweep import Point, Sweep, build_library, sample

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]
SAMPLE = 2  #: points of a command in `make test`
SERVERS = 2  #: processes that try points at the same time


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    scratch = tmp_path_factory.mktemp("sweep")
    library = build_library(scratch)
    if library is None:
        pytest.skip("needs Linux and a C compiler: the library that breaks file operations is C")
    sweep = Sweep(library, scratch, SERVERS)
    yield sweep
    sweep.close()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_that_is_broken_at_any_file_operation_leaves_a_run_that_goes_on(
    command: Command, sweep: Sweep, request: pytest.FixtureRequest
) -> None:
    template = sweep.prepare(command)
    points = sweep.list_points(command, template)
    tried = points if request.config.getoption("--often") else sample(points, SAMPLE, seed=0)
    whole = Point(0, "no fault", "none")  # the check itself finds nothing where nothing was broken
    bad = sweep.find_problems(command, template, [whole, *tried])
    lines = [f"{point}\n    {'; '.join(problems)}" for point, problems in bad]
    assert not bad, f"{len(bad)} of {len(tried)} points of {command.name}:\n" + "\n".join(lines)
    # Other versions of Python and pyarrow need a few operations more, or fewer.
    assert read_table()[command.name] == pytest.approx(points[-1].number, rel=0.25, abs=3)


def test_the_table_of_the_sweep_has_every_command() -> None:
    assert list(read_table()) == [command.name for command in COMMANDS]
