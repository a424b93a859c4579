"""The table of kill points in docs/reliability.md; run as a script, this file writes it anew.

python tests/faults/summary.py
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

__all__ = ["read_table"]

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "reliability.md"
HEAD = "| command | file operations | kills | errors |\n|---|---:|---:|---:|\n"
ROW = re.compile(r"^\| `([^`]+)`[^|]*\| (\d+) \| \d+ \| \d+ \|$", re.MULTILINE)


def read_table() -> dict[str, int]:
    """The number of file operations of each command, as the document states them."""
    return {name: int(count) for name, count in ROW.findall(DOCUMENT.read_text(encoding="utf-8"))}


def make_rows() -> Iterable[str]:
    """A row of the table for each command: its operations are listed, none is broken."""
    from commands import COMMANDS
    from sweep import Sweep, build_library

    with tempfile.TemporaryDirectory() as folder:
        library = build_library(Path(folder))
        assert library is not None, "needs Linux and a C compiler"
        sweep = Sweep(library, Path(folder), servers=1)
        for command in COMMANDS:
            points = sweep.list_points(command, sweep.prepare(command))
            kinds = Counter("errors" if point.error else "kills" for point in points)
            count = points[-1].number
            yield f"| `{command.name}` | {count} | {kinds['kills']} | {kinds['errors']} |\n"
        sweep.close()


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, after = text.partition(HEAD)
    rest = after.lstrip("\n") if not after.startswith("|") else after.partition("\n\n")[2]
    DOCUMENT.write_text(f"{before}{HEAD}{''.join(make_rows())}\n{rest}", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
