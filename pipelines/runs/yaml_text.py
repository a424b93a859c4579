"""YAML as people write it: read to a mapping, and written so that it reads back the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import SpecError

__all__ = ["dump_yaml", "parse_yaml", "read_yaml"]


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-4 is a number, and a key that stands twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise SpecError(
                    f"{self.name}, line {node.value[i][0].start_mark.line + 1}: "
                    f"{key!r} stands twice; take one out"
                )
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would take for a number; a tuple is a list."""


_Dumper.add_representer(tuple, _Dumper.represent_list)


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),  # YAML 1.1 wants a dot in 1.0e-4
        list("-+.0123456789"),
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        SpecError: If there is no such file, or no mapping in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise SpecError(f"`spec` needs a file that can be read, got {path}: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise SpecError(f"{path}: needs to be text in UTF-8, got other bytes") from e
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> dict[str, Any]:
    """The mapping in a YAML text.

    Raises:
        SpecError: If it is not YAML, or no mapping, or a key stands twice.
    """
    try:
        loader = _Loader(text)
        loader.name = source
        content = loader.get_single_data()
    except yaml.YAMLError as e:
        raise SpecError(f"{source}: not YAML: {' '.join(str(e).split())}") from e
    if content is None:
        return {}  # nothing but comments: the defaults
    if not isinstance(content, dict):
        raise SpecError(f"{source}: needs a mapping such as `max_epochs: 27`, got {content!r}")
    return content


def dump_yaml(content: Mapping[str, Any]) -> str:
    """The YAML text of a mapping, in its order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)
