"""The recorded runs, as copies that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq

RECORDINGS = Path(__file__).parent
PRESENT = "run-0.2"  #: what this version records
#: Runs that this version can only read; schema-1 is made of run-0.1, as before there was a model.
OLDER = ("run-0.1", "schema-1")
MODEL_COLUMNS = ["expected", "expected_low", "expected_high"]


def copy_recording(name: str, target: Path) -> Path:
    """Copy a recorded run into a folder."""
    source = RECORDINGS / ("run-0.1" if name == "schema-1" else name)
    shutil.copytree(source, target)
    if name == "schema-1":
        for part in target.glob("*/part-*.parquet"):
            dropped = MODEL_COLUMNS if part.parent.name == "events" else []
            rewrite_part(part, schema=1, drop=dropped)
    return target


def rewrite_part(part: Path, *, schema: int, drop: list[str] | None = None) -> None:
    """Give a part another schema number, and take columns out of it."""
    table = pq.read_table(part).drop_columns(drop or [])
    metadata = {"caviar_schema_version": str(schema)}
    pq.write_table(table.replace_schema_metadata(metadata), part)


def read_all_bytes(folder: Path) -> dict[Path, bytes]:
    """By path: the content of each file below a folder."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
