"""A server that imports Caviar once and forks a process for each command: 200 commands a minute.

A request is one line of JSON on standard input, a `sweep.Request`; the answer is one line with the
exit code: negative for a signal, null for a command that was killed because it hung.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import resource
import shlex
import signal
import sys
import time
import traceback
from typing import Any

from oracle import find_problems
from stranger import find_problems_of_stranger

import caviar
from orchestrator.store import log
from pipelines.cli import main
from pipelines.data import model, prepare  # noqa: F401 # imported once here, not in each process
from pipelines.runs import audit, finalists, launch, repair  # noqa: F401
from pipelines.see import page, summary  # noqa: F401

#: What looks at a place after a fault; its arguments are JSON.
CHECKS = {"oracle": find_problems, "stranger": find_problems_of_stranger}
MEMORY_BYTES = 2**33  #: limit of a command's address space: no declared size may fill the machine
FLUSH_CALLS = 4  #: a flush every fourth report: what is written depends on no clock


def flush_by_count() -> None:
    """Let the log flush all tables after a number of reports instead of a number of seconds."""
    calls = itertools.count(1)

    def due(_: log.Log) -> bool:
        return next(calls) % FLUSH_CALLS == 0

    log.Log.due = due  # type: ignore[method-assign]
    log.FLUSH_SECONDS, log.TRIALS_SHARE = 0.0, 1e9


def run_words(words: str) -> int:
    """Run what a user types (`caviar` left out), or Python code after `python:`."""
    if words.startswith("python:"):
        return run_python(words.removeprefix("python:"))
    for name, check in CHECKS.items():
        if words.startswith(f"{name}:"):
            print(json.dumps(check(**json.loads(words.removeprefix(f"{name}:")))))
            return 0
    sys.argv = ["caviar", *shlex.split(words)]
    try:
        main()
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    return 0


def run_python(code: str) -> int:
    """Run Python code; one of Caviar's errors, as the API documents them, is one line."""
    try:
        exec(code, {"caviar": caviar})
    except caviar.CaviarError as e:
        sys.stderr.write(f"{e}\n")
        return 2
    return 0


def become_command(request: dict[str, Any]) -> None:
    """Turn this forked process into the command; it never returns."""
    code = 1
    try:
        os.setsid()
        for number, path in enumerate((os.devnull, request["output"], request["errors"])):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(path, flags, 0o644), number)
        os.chdir(request["place"])
        flush_by_count()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        os.environ.update(request["environment"])
        code = run_words(request["words"])
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def wait_for(process: int, seconds: float) -> int | None:
    """The exit code of a process; None if it had to be killed after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def serve() -> None:
    gc.freeze()  # a collection in a forked process would copy all pages of the heap
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if process == 0:
            become_command(request)
        print(json.dumps(wait_for(process, request["seconds"])), flush=True)


if __name__ == "__main__":
    serve()
