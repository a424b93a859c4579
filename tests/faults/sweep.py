"""Every kill point of a command, one after another: list its file operations, then break each."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

from commands import SPEC, Command
from oracle import hash_files

__all__ = ["Point", "Server", "Sweep", "build_library", "sample"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES)
MIRROR_NOTE = "the mirror "  #: beginning of a line that is no error: the run goes on without a copy
HANG_SECONDS = 30  #: a command of half a second that takes longer hangs, also on a busy host


def build_library(folder: Path) -> Path | None:
    """The library that breaks file operations; None without a C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "inject.so"
    source = str(HERE / "inject.c")
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Werror"]
    subprocess.run([compiler, *flags, "-o", str(library), source, "-ldl"], check=True)
    return library


@dataclass(frozen=True, slots=True)
class Point:
    """A fault that is tried: the number of a file operation, and what happens there."""

    number: int  #: number of the operation within its command, from 1
    operation: str  #: name and path of the operation
    kind: str  #: before, after, torn, once, always
    error: int = 0  #: errno of an operation that fails

    def __str__(self) -> str:
        error = f" {errno.errorcode[self.error]}" if self.error else ""
        return f"{self.number} {self.kind}{error}: {self.operation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the server is asked to run."""

    words: str
    place: str  #: the working directory
    output: str  #: file for standard output
    errors: str  #: file for standard error
    environment: dict[str, str]
    seconds: float = HANG_SECONDS


class Server:
    """A process of server.py, with the library loaded where there is one."""

    def __init__(self, library: Path | None, scratch: Path) -> None:
        scratch.mkdir(parents=True)
        self._scratch = scratch
        paths = os.pathsep.join([str(ROOT), str(HERE)])
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")],
            env=os.environ
            | ({"LD_PRELOAD": str(library)} if library else {})
            | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, words: str, place: Path, **environment: str) -> tuple[int | None, str, str]:
        """The exit code, standard output and standard error of a command."""
        output, errors = self._scratch / "output", self._scratch / "errors"
        home = str(place / "home")
        request = Request(
            words=words,
            place=str(place),
            output=str(output),
            errors=str(errors),
            environment={"HOME": home, "XDG_STATE_HOME": home, **environment},
        )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(request)) + "\n")
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())
        return code, output.read_text(errors="replace"), errors.read_text(errors="replace")

    def close(self) -> None:
        self._process.communicate()


class Sweep:
    """Breaks a command at its points, on several servers at a time."""

    def __init__(self, library: Path, scratch: Path, servers: int) -> None:
        self._scratch, self._places = scratch, 0
        self._servers = [Server(library, scratch / f"server-{n}") for n in range(servers)]
        self._idle: SimpleQueue[Server] = SimpleQueue()
        for server in self._servers:
            self._idle.put(server)

    def close(self) -> None:
        for server in self._servers:
            server.close()

    @contextmanager
    def _server(self) -> Iterator[Server]:
        server = self._idle.get()
        try:
            yield server
        finally:
            self._idle.put(server)

    def prepare(self, command: Command) -> Path:
        """The folder that the command starts from."""
        place = self._scratch / command.name.replace(" ", "_").replace(",", "")
        (place / "home").mkdir(parents=True)
        (place / "spec.yaml").write_text(SPEC)
        (place / "precious.txt").write_text("nothing may change this file")
        with self._server() as server:
            for words in command.setup:
                code, output, errors = server.run(words, place)
                assert code == 0, f"{words}: exit {code}\n{output}\n{errors}"
        return place

    def list_points(self, command: Command, template: Path) -> list[Point]:
        """All points of a command; operation n + 1 is not reached if n was the last."""
        log = self._scratch / f"{template.name}.log"
        with self._server() as server, self._copy(template, "listing") as place:
            environment = {"FAULT_FOLDER": str(place), "FAULT_LOG": str(log)}
            code, output, errors = server.run(command.words, place, **environment)
            assert code == 0, f"{command.words}: exit {code}\n{output}\n{errors}"
        lines = [line.split(" ", 1)[1] for line in log.read_text().splitlines()]
        lines = [line.replace(f"{place}/", "") for line in lines]
        before = ["", *lines]
        points = [_list_faults(n, line, before[n - 1]) for n, line in enumerate(lines, 1)]
        last = Point(len(lines), lines[-1], "after")
        return [*(point for faults in points for point in faults), last]

    @contextmanager
    def _copy(self, template: Path, name: str) -> Iterator[Path]:
        place = self._scratch / "places" / f"{template.name}-{name}"
        shutil.copytree(template, place, symlinks=True)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def find_problems(
        self, command: Command, template: Path, points: Sequence[Point]
    ) -> list[tuple[Point, list[str]]]:
        """Return the points after which something is wrong, each with what is wrong."""
        with ThreadPoolExecutor(len(self._servers)) as threads:
            found = threads.map(lambda point: self._try(command, template, point), points)
            return [(point, bad) for point, bad in zip(points, found, strict=True) if bad]

    def _try(self, command: Command, template: Path, point: Point) -> list[str]:
        name = f"{point.number}-{point.kind}-{point.error}"
        with self._server() as server, self._copy(template, name) as place:
            code, _, errors = server.run(
                command.words,
                place,
                FAULT_FOLDER=str(place),
                FAULT_AT=str(point.number),
                FAULT_KIND=point.kind,
                FAULT_ERRNO=str(point.error),
            )
            problems = _problems_of_ending(point, code, errors)
            request = {
                "run": command.run,
                "again": command.again,
                "words": command.words,
                "writes": command.writes,
                "epochs": command.epochs,
                "bystanders": _bystanders(template, command),
            }
            code, output, errors = server.run(f"oracle:{json.dumps(request)}", place)
            if code != 0:
                return [*problems, f"the check: exit {code}: {errors.strip()[-500:]}"]
            return problems + list(json.loads(output))


def _list_faults(number: int, operation: str, previous: str) -> list[Point]:
    """The faults that are tried at one operation, each different from those at its neighbours.

    A kill after operation n is the kill before operation n + 1. A kill before and after an fsync
    leave the same files, so the second one is left out. An error is that of this operation alone,
    or of this one and all later ones; the two take turns, and so do the numbers of the error.
    """
    kills = [] if previous.startswith("fsync ") else ["before"]
    if operation.split(" ")[0] in ("write", "writev", "pwrite", "pwrite64", "sendfile"):
        kills.append("torn")
    kind = ("once", "always")[number % 2]
    error = Point(number, operation, kind, ERRORS[number // 2 % len(ERRORS)])
    return [*(Point(number, operation, kill) for kill in kills), error]


def _problems_of_ending(point: Point, code: int | None, errors: str) -> list[str]:
    """How a broken command ends: killed, or with one line and no traceback."""
    if code is None:
        return ["the command hangs"]
    if not point.error:
        return []
    if "Traceback" in errors:
        return [f"a traceback: {errors.strip().rpartition(chr(10))[2][:200]}"]
    lines = [line for line in errors.splitlines() if MIRROR_NOTE not in line]
    if code and len(lines) != 1:
        return [f"exit {code} with {len(lines)} lines of error: {lines}"]
    return []


def _bystanders(template: Path, command: Command) -> dict[str, str]:
    """Hashes of the files that the command may not change."""
    return {
        path: digest
        for path, digest in hash_files(template).items()
        if not any(path == w or path.startswith(f"{w}/") for w in (*command.writes, "home"))
    }


def sample(points: Sequence[Point], size: int, seed: int) -> list[Point]:
    """A seeded sample of points, in their order."""
    chosen = random.Random(seed).sample(range(len(points)), min(size, len(points)))
    return [points[n] for n in sorted(chosen)]
