"""What must hold whatever a run's folder contains: each command ends in a result or in one line."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from oracle import last_line, type_command

__all__ = ["find_problems_of_stranger"]

LINES = {"compare": 3}  #: lines of error, where a command says one for each run and a last one
CPU_SECONDS = 5.0  #: a command that computes longer hangs; a hundred times what a small run needs
READS = (
    "show run",
    "show run --json",
    "show run --importance",
    "why run 0",
    "replay run",
    "report run --out page.html",
    "compare run run",
    "predict run wine --out rows.parquet",
    "export run --to csv --out table.csv",
    "export run --to onnx --out model.onnx",
    "load:run",
)
WRITES = ("resume run --trials 1 --pool inline --quiet", "repair run")


def find_problems_of_stranger() -> list[str]:
    """Type every command on the folder `run`, readers first; name all that ends badly."""
    problems = []
    for words in (*READS, *WRITES, WRITES[0], READS[0]):
        sys.stderr.write(f"{words}\n")  # the last line names the command that never ended
        sys.stderr.flush()
        begin = time.process_time()
        code, output, errors = type_command(words)
        if time.process_time() - begin > CPU_SECONDS:
            problems.append(f"{words}: hangs")
        if "Traceback" in errors:
            problems.append(f"{words}: {last_line(errors)}")
        elif code and errors.count("\n") > LINES.get(words.split()[0], 1):
            problems.append(f"{words}: exit {code} with {errors.count(chr(10))} lines: {errors!r}")
        if "\x1b" in output + errors:
            problems.append(f"{words}: a terminal escape reaches the terminal")
        for target in ("page.html", "rows.parquet", "table.csv", "model.onnx"):
            Path(target).unlink(missing_ok=True)
    return problems
