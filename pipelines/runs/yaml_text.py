"""YAML as people write it: read to a mapping, and written so that it reads back the same."""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import SpecError
from orchestrator.quote import quote, shorten
from pipelines.runs.plain_content import MAX_DEPTH, MAX_VALUES, copy_content
from pipelines.runs.yaml_errors import describe_yaml_error

__all__ = ["dump_yaml", "parse_yaml", "read_yaml"]

MAX_BYTES = 1_000_000  #: size of a spec; PyYAML reads about 400 kB a second
MAX_PATH = 300  #: characters of a path that a message quotes
MAX_DIGITS = 400  #: characters of a number; the longest float64 written out has 309 digits

#: Tags of the values that are read. Others (dates, sets, binary, Python's objects) are texts or
#: refused: `2026-01-01` is a text here, `!!set` is an error.
_READ = ("null", "bool", "int", "float", "str", "seq", "map")
_READ_AS_TEXT = ("timestamp", "value")
_NUMBERS = ("bool", "int", "float")


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-4 is a number, and a key that stands twice is a mistake.

    The number of values is limited while they are read, aliases counted as what they stand for,
    since merging (`<<: [*a, *a]`) copies the latter.
    """

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self.name = source
        self._depth = 0
        self._values = 0
        self._sizes: dict[str, int] = {}  # anchor -> number of values, once its node is complete

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Read a value with all that it contains."""
        event = self.peek_event()  # type: ignore[no-untyped-call] # in the stubs
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias and event.anchor in self.anchors and event.anchor not in self._sizes:
            raise self.refuse(event.start_mark, f"*{shorten(event.anchor)} stands inside of itself")
        before = self._values
        self._depth += 1
        self._values += self._sizes.get(event.anchor, 1) if is_alias else 1
        if self._depth > MAX_DEPTH:
            raise self.refuse(
                event.start_mark, f"needs at most {MAX_DEPTH} levels of lists and mappings"
            )
        if self._values > MAX_VALUES:
            raise self.refuse(
                event.start_mark, f"the spec needs at most {MAX_VALUES:,} keys and values"
            )
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None and not is_alias:
            self._sizes[event.anchor] = self._values - before
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Read a mapping; each of its keys stands once."""
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.refuse(key.start_mark, "a key needs to be a text, got a list or mapping")
            if (key.tag, key.value) in keys:
                raise self.refuse(key.start_mark, f"{quote(key.value)} stands twice; take one out")
            keys.add((key.tag, key.value))
        return node

    def construct_number(self, node: yaml.Node) -> Any:
        """Make a number or a boolean of its text, which an explicit tag may have declared one."""
        kind = node.tag.rpartition(":")[2]
        try:
            if len(node.value) > MAX_DIGITS:
                raise ValueError
            return getattr(super(), f"construct_yaml_{kind}")(node)
        except (ValueError, LookupError, OverflowError):
            raise self.refuse(
                node.start_mark,
                f"needs a number of at most {MAX_DIGITS} digits, or true or false, "
                f"got {quote(node.value)}",
            ) from None

    def refuse(self, mark: yaml.Mark, problem: str) -> SpecError:
        """Make the error of a problem at this place."""
        return SpecError(f"{self.name}, line {mark.line + 1}, column {mark.column + 1}: {problem}")


def _tag(kind: str) -> str:
    return f"tag:yaml.org,2002:{kind}"


_Loader.yaml_constructors = (
    {_tag(kind): yaml.SafeLoader.yaml_constructors[_tag(kind)] for kind in _READ}
    | {_tag(kind): yaml.SafeLoader.construct_yaml_str for kind in _READ_AS_TEXT}
    | {_tag(kind): _Loader.construct_number for kind in _NUMBERS}
    | {None: yaml.SafeLoader.construct_undefined}
)


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would take for a number; a tuple is a list."""


_Dumper.add_representer(tuple, _Dumper.represent_list)


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),  # YAML 1.1 wants a dot in 1.0e-4
        list("-+.0123456789"),
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        SpecError: If there is no such file, or no mapping in it.
    """
    try:
        text = _read_file(path).decode("utf-8")
    except (OSError, ValueError) as e:
        if isinstance(e, UnicodeDecodeError):
            raise SpecError(f"{path}: needs to be text in UTF-8, got other bytes") from e
        reason = getattr(e, "strerror", None) or e  # a ValueError is a NUL in the path
        name = shorten(str(path), MAX_PATH)
        raise SpecError(f"`spec` needs a file that can be read, got {name}: {reason}") from e
    return parse_yaml(text, source=str(path))


def _read_file(path: Path) -> bytes:
    """Read a regular file of limited size: a pipe may never end, /dev/zero does not."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe opens without its writer
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SpecError(f"`spec` needs a regular file, got {path}: a pipe or a device")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SpecError(f"{path}: needs at most {MAX_BYTES:,} bytes, got more")
    return content


def parse_yaml(text: str, *, source: str) -> dict[str, Any]:
    """The mapping in a YAML text.

    Raises:
        SpecError: If it is not YAML, or no mapping, or a key stands twice, or it is too large.
    """
    content = _parse(text, source)
    return {} if content is None else copy_content(content, source=source)  # comments: defaults


@functools.lru_cache(maxsize=4)  # a command reads a spec up to four times
def _parse(text: str, source: str) -> Any:
    loader = None
    try:
        loader = _Loader(text, source)
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError, LookupError, OverflowError) as e:
        line, column, problem = describe_yaml_error(e, text)
        raise SpecError(f"{source}, line {line}, column {column}: not YAML: {problem}") from e


def dump_yaml(content: Mapping[str, Any]) -> str:
    """The YAML text of a mapping, in its order.

    Raises:
        SpecError: If the text is too long to be read again.
    """
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)
    if len(text.encode()) > MAX_BYTES:
        raise SpecError(f"the spec of this run needs at most {MAX_BYTES:,} bytes, got more")
    return text
