"""Runs as a stranger would send them: one thing in a table or in best/ is not as it should be.

A mutation is a name and a few whole numbers that say where and with what; the numbers are taken
modulo what there is, so any numbers do and Hypothesis may make them small.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

__all__ = [
    "FILE_MUTATIONS",
    "MODEL_FILES",
    "MODEL_MUTATIONS",
    "TABLE_MUTATIONS",
    "mutate_file",
    "mutate_model",
    "mutate_table",
    "renew_digests",
]  # fmt: skip

INTEGERS = (-1, 0, 1, 2**31, 2**63 - 1, -(2**63))
FLOATS = (float("nan"), float("inf"), float("-inf"), -1.0, 1e308, 5e-324)
TEXTS = (
    "",
    "\x1b]0;x\x07\x1b[31m",
    "\x00",
    "../../precious.txt",
    "NaN",
    "{}",
    "[" * 3000,
    "x" * 10**5,
)
VALUES = (None, True, -1, 0, 10**9, 2**63, 10**30, 1e308, float("nan"), *TEXTS, [], {}, [[]],
          {"x": 1}, [0.5] * 1000)  # fmt: skip
MODEL_FILES = ("config.yaml", "model.safetensors", "preprocessing.json")

Numbers = Sequence[int]


def pick(options: Sequence[Any], number: int) -> Any:
    return options[number % len(options)]


# ---------------------------------------------------------------------- one table


def _drop(table: pa.Table, n: Numbers) -> pa.Table:
    return table.drop_columns([pick(table.column_names, n[0])])


def _rename(table: pa.Table, n: Numbers) -> pa.Table:
    names = list(table.column_names)
    names[n[0] % len(names)] = pick(("extra", "config_x", "seq", "trial", *TEXTS), n[1])
    return table.rename_columns(names)


def _retype(table: pa.Table, n: Numbers) -> pa.Table:
    place = n[0] % table.num_columns
    values = (
        pa.array([str(v) for v in table.column(place).to_pylist()]),
        pa.nulls(len(table)),
        pa.array([[1, 2]] * len(table)),
        pa.array([10**6] * len(table), pa.timestamp("ns")),
        pa.array([b"\xff"] * len(table)),
    )
    return table.set_column(place, table.column_names[place], pick(values, n[1]))


def _reorder(table: pa.Table, n: Numbers) -> pa.Table:
    names = list(table.column_names)
    names.append(names.pop(n[0] % len(names)))
    return table.select(names)


def _duplicate_rows(table: pa.Table, n: Numbers) -> pa.Table:
    return pa.concat_tables([table, table.slice(n[0] % max(len(table), 1), 1 + n[1] % 3)])


def _remove_rows(table: pa.Table, n: Numbers) -> pa.Table:
    first = n[0] % max(len(table), 1)
    return pa.concat_tables([table.slice(0, first), table.slice(first + 1 + n[1] % 3)])


def _remove_all_rows(table: pa.Table, n: Numbers) -> pa.Table:
    return table.slice(0, 0)


def _swap_rows(table: pa.Table, n: Numbers) -> pa.Table:
    order = list(range(len(table)))
    a, b = (number % len(table) for number in n[:2])
    order[a], order[b] = order[b], order[a]
    return table.take(order)


def _change_value(table: pa.Table, n: Numbers) -> pa.Table:
    place, row = n[0] % table.num_columns, n[1] % len(table)
    kind = table.schema.field(place).type
    options: Sequence[Any] = (None,)
    if pa.types.is_integer(kind):
        options = (None, *(v for v in INTEGERS if v.bit_length() < kind.bit_width))
    elif pa.types.is_floating(kind):
        options = (None, *FLOATS)
    elif pa.types.is_string(kind):
        options = (None, *TEXTS)
    elif pa.types.is_boolean(kind):
        options = (None, True, False)
    values = table.column(place).to_pylist()
    values[row] = pick(options, n[2])
    return table.set_column(place, table.schema.field(place), pa.array(values, kind))


def _change_schema_number(table: pa.Table, n: Numbers) -> pa.Table:
    number = pick(("", "0", "1", "99", "-1", "x", "9" * 5000), n[0])
    return table.replace_schema_metadata({"caviar_schema_version": number})


TABLE_MUTATIONS: dict[str, Callable[[pa.Table, Numbers], pa.Table]] = {
    change.__name__.strip("_"): change
    for change in (
        _drop, _rename, _retype, _reorder, _duplicate_rows, _remove_rows, _remove_all_rows,
        _swap_rows, _change_value, _change_schema_number,
    )
}  # fmt: skip


def mutate_table(part: Path, change: str, numbers: Numbers) -> None:
    """Write a part again with one change in its rows or columns."""
    table = pq.read_table(part, partitioning=None)
    if len(table):
        pq.write_table(TABLE_MUTATIONS[change](table, numbers), part)


# ---------------------------------------------------------------------- one file, as bytes


def _truncate(path: Path, n: Numbers) -> None:
    os.truncate(path, n[0] % path.stat().st_size)


def _flip_bit(path: Path, n: Numbers) -> None:
    content = bytearray(path.read_bytes())
    content[n[0] % len(content)] ^= 1 << n[1] % 8
    path.write_bytes(content)


def _remove(path: Path, n: Numbers) -> None:
    path.unlink()


def _link_to_stranger(path: Path, n: Numbers) -> None:
    path.unlink()
    path.symlink_to(pick(("../../precious.txt", "/dev/zero", "/nowhere", ".", path.name), n[0]))


def _make_pipe(path: Path, n: Numbers) -> None:
    path.unlink()
    os.mkfifo(path)


def _make_folder(path: Path, n: Numbers) -> None:
    path.unlink()
    path.mkdir()


def _add_stranger(path: Path, n: Numbers) -> None:
    numbered = ("part-00001.parquet", "part-00000 copy.parquet", "part-00000.parquet.bak")
    name = pick((*numbered, "part-99999.parquet", ".part-00000.parquet.staged"), n[0])
    path.with_name(name).write_bytes(pick((path.read_bytes(), b"", b"PAR1"), n[1]))


def _link_the_folder(path: Path, n: Numbers) -> None:
    moved = path.parents[2] / "elsewhere"
    path.parent.rename(moved)
    path.parent.symlink_to(moved)


FILE_MUTATIONS: dict[str, Callable[[Path, Numbers], None]] = {
    change.__name__.strip("_"): change
    for change in (
        _truncate, _flip_bit, _remove, _link_to_stranger, _make_pipe, _make_folder, _add_stranger,
        _link_the_folder,
    )
}  # fmt: skip


def mutate_file(path: Path, change: str, numbers: Numbers) -> None:
    """Damage or replace one file of a run, or put another one beside it."""
    FILE_MUTATIONS[change](path, numbers)


# ---------------------------------------------------------------------- the saved model


def _change_node(content: Any, n: Numbers) -> Any:
    """Replace one value, at any depth, or give a mapping one more."""
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                collect(node[key])

    collect(content)
    node, key = pick(places, n[0])
    if n[2] % 4 == 0:
        del node[key]
    else:
        node[key] = pick(VALUES, n[1])
    return content


def _change_text(path: Path, n: Numbers) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(_change_node(json.loads(path.read_text()), n)))
    else:
        path.write_text(yaml.safe_dump(_change_node(yaml.safe_load(path.read_text()), n)))


def _change_header(path: Path, n: Numbers) -> None:
    """Change the JSON header of a safetensors file: types, shapes, offsets."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(_change_node(json.loads(content[8 : 8 + size]), n)).encode()
    declared = pick((len(header), len(header), len(header), 2**63, 0), n[2])
    path.write_bytes(struct.pack("<Q", declared) + header + content[8 + size :])


def _change_structure(path: Path, n: Numbers) -> None:
    """Change a value inside a file, and its digest too: a stranger makes both fit together."""
    (_change_header if path.suffix == ".safetensors" else _change_text)(path, n)
    if path.name != "config.yaml":
        renew_digests(path.parent)


def renew_digests(best: Path) -> None:
    """Let config.yaml describe the files of a model as they are now."""
    config = best / "config.yaml"
    content = yaml.safe_load(config.read_text())
    digests = {n: hashlib.sha256((best / n).read_bytes()).hexdigest() for n in content["sha256"]}
    config.write_text(yaml.safe_dump({**content, "sha256": digests}))


MODEL_MUTATIONS = FILE_MUTATIONS | {"change_structure": _change_structure}


def mutate_model(path: Path, change: str, numbers: Numbers) -> None:
    """Change one file of best/."""
    MODEL_MUTATIONS[change](path, numbers)
