from __future__ import annotations

import re

import pytest
from search_examples import CONDITIONAL, space_of

from orchestrator.space.warnings import find_warnings
from pipelines.runs.new_spec import load_space_spec


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("rate: {linear: [1e-4, 1]}", [r"rate: a linear scale over 4.0 decades puts 90% of the "
         r"draws above 0.1; write {log: \[0.0001, 1\]}"]),
        ("units: {int: [4, 512]}", [r"units: .* write {int_log2: \[4, 512\]}"]),
        ("beta: {linear: [0.9, 0.999]}", ["beta: .*runs from 10 to 1000 steps.*reverse_log"]),
        ("kind: {choice: [a]}", ["kind: a choice of one is no choice; write kind: a"]),
        ("kind: {choice: [a, b, a, a]}", ["kind: 'a' stands 3 times"]),
        ('kind: {choice: [a, ""]}', ["kind: one of the options is empty"]),
        ("kind: {choice: [a, b]}\nx: {int: [1, 2], when: {kind: c}}",
         ["x: is never active, since kind is never c"]),
        ("kind: a\nx: {int: [1, 2], when: {kind: [b, c]}}",
         ["x: is never active, since kind is never b or c"]),
        ("n: {int: [1, 4]}\nx: {int: [1, 2], when: {n: 5}}", ["x: is never active"]),
        ("n: {int: [1, 4]}\nx: {int: [1, 2], when: {n: two}}", ["x: is never active"]),
    ],
)  # fmt: skip
def test_what_would_be_searched_badly_is_warned_of_once(text: str, patterns: list[str]) -> None:
    warnings = find_warnings(space_of(text))
    assert len(warnings) == len(patterns)
    for warning, pattern in zip(warnings, patterns, strict=True):
        assert "\n" not in warning
        assert re.search(pattern, warning)


@pytest.mark.parametrize(
    "text",
    [
        CONDITIONAL,
        "rate: {log: [1e-4, 1]}",
        "rate: {linear: [0.1, 1]}",
        "rate: {linear: [0, 1000]}",
        "rate: {linear: [-1, 1]}",
        "beta: {linear: [0.9, 0.95]}",
        "beta: {reverse_log: [0.9, 0.999]}",
        "layers: {int: [1, 8]}",
        "kind: {choice: [a, b]}",
        "kind: {choice: [1, true, 1.0]}",
        "kind: {choice: [a, b]}\nx: {int: [1, 2], when: {kind: [b, c]}}",
        "n: {int: [1, 4]}\nx: {int: [1, 2], when: {n: 4}}",
    ],
)
def test_what_is_searched_well_is_not_warned_of(text: str) -> None:
    assert find_warnings(space_of(text)) == []


def test_the_default_space_gives_no_warning() -> None:
    assert find_warnings(load_space_spec(None, seed=0).parameters()) == []
