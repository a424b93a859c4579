from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from search_examples import CONDITIONAL, limit_examples, spec_of

from orchestrator.errors import SpecError
from orchestrator.space.domains import Integer, Real
from pipelines.runs.spec import Spec, compare_specs, dump_spec, load_spec
from pipelines.runs.yaml_text import parse_yaml, read_yaml

GOOD = """
data: {source: digits.csv}
trainer: package.module:Class
max_epochs: 9
space: {rate: {log: [1e-4, 1]}}
search: {rungs: [1, 3, 9]}
"""


def load(text: str) -> Spec:
    return load_spec(parse_yaml(text, source="run.yaml"), source="run.yaml")


def refused(text: str) -> str:
    """What a text is refused with: one line that begins with where it stands."""
    with pytest.raises(SpecError) as caught:
        load(text)
    message = str(caught.value)
    assert message.startswith("run.yaml")
    assert "\n" not in message
    return message


# ---------------------------------------------------------------------- there and back

words = st.text(alphabet="ab1e.-+:# 'é\n", min_size=1, max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), numbers, words)
written = st.one_of(
    plain,
    plain.map(lambda v: {"fixed": v}),
    st.lists(plain, min_size=1, max_size=4).map(lambda v: {"choice": v}),
    st.tuples(numbers, numbers).map(sorted).filter(lambda v: v[0] < v[1])
    .map(lambda v: {"linear": v}),
    st.integers(1, 9).map(lambda v: {"int_log2": [v, v + 3], "when": {"first": [True, "1", 2.5]}}),
    st.just({"reverse_log": [0.9, 0.999], "per": "second"}),
)  # fmt: skip


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    """A spec's mapping as YAML would give it, all of it drawn."""
    rungs = sorted(draw(st.sets(st.integers(1, 99), min_size=1, max_size=4)))
    space = {"first": {"choice": [True, "x"]}, "second": {"int": [1, 2]}}
    space |= {f"p{i}": w for i, w in enumerate(draw(st.lists(written, max_size=4)))}
    search = {
        "rungs": rungs,
        "sampler": draw(st.sampled_from(["sobol", "random", "grid"])),
        "pruning": draw(st.sampled_from(["asha", "median", "none"])),
        "eta": draw(st.integers(2, 5)),
        "coarse_share": draw(st.floats(0.01, 1)),
        "explode_above": draw(st.floats(1e-3, 1e30)),
        "state_budget": draw(st.integers(0, 10**12)),
    }
    data = {"source": draw(words), "target": draw(st.none() | words), "test_share": 0.25}
    return {
        "data": data,
        "trainer": "package.module:Class",
        "metric": draw(st.none() | words),
        "seed": draw(st.integers(0, 2**63 - 1)),
        "max_epochs": rungs[-1],
        "space": space,
        "search": search,
    }


@given(content=contents())
@example(content=parse_yaml(GOOD, source="") | {"metric": "1e4"})
@example(content=parse_yaml(GOOD, source="") | {"space": {"size": {"choice": ["1e4", "+2e-1"]}}})
@limit_examples(60)
def test_a_spec_that_was_dumped_loads_as_the_same_spec(content: dict[str, Any]) -> None:
    spec = load_spec(content, source="test")
    again = load_spec(parse_yaml(dump_spec(spec), source="test"), source="test")
    assert again == spec
    assert repr(again) == repr(spec)  # 1, 1.0 and True are equal, and are not the same
    assert compare_specs(spec, again) == []
    assert again.parameters().parameters == spec.parameters().parameters


def test_given_configs_survive_the_file() -> None:
    given = [{"rate": 0.1, "width": 8, "kind": "a"}, {"rate": 1e-4, "width": 64, "kind": "b"}]
    spec = spec_of(initial_configs=given)
    assert list(spec.search.initial_configs) == given
    assert load_spec(parse_yaml(dump_spec(spec), source="test"), source="test") == spec


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("1.e3", 1e3), (".5e1", 5.0), ("-2e0", -2.0), ("3e-4", 3e-4)],
)
def test_a_number_with_an_exponent_and_no_dot_is_a_number(text: str, number: float) -> None:
    read = parse_yaml(f"a: {text}", source="test")["a"]
    assert read == number and type(read) is float


def test_bounds_are_read_as_written() -> None:
    space = load(GOOD).parameters()
    assert space.parameters[0].domain == Real(low=1e-4, high=1.0, scale="log")
    units = load(GOOD.replace("{log: [1e-4, 1]}", "{int_log2: [16, 512]}")).parameters()
    assert units.parameters[0].domain == Integer(low=16, high=512, scale="log2")


@pytest.mark.parametrize(
    ("text", "count"),
    [("2 GB", 2_000_000_000), ("1.5 kB", 1_500), ("300 MB", 300_000_000), ("7 B", 7), ("12", 12),
     ("0", 0), ("1TB", 10**12)],
)  # fmt: skip
def test_a_state_budget_is_read_in_bytes(text: str, count: int) -> None:
    spec = load(GOOD.replace("[1, 3, 9]}", f"[1, 3, 9], state_budget: {text}}}"))
    assert spec.search.state_budget == count


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("max_epochs: 9", "max_epochs: 9\nmax_epochs: 9",
         "line 5, column 1: 'max_epochs' stands twice"),
        ("rate: ", "rate: 1, rate: ", "'rate' stands twice"),
        ("log: [1e-4, 1]", "log: [1e-4, 1], log: [1, 2]", "'log' stands twice"),
        ("max_epochs", "max_epoch", "did you mean max_epochs?"),
        ("source: digits.csv", "source: x, tarjet: y", "'data.tarjet'; did you mean target?"),
        ("rungs: [1, 3, 9]", "rungs: [1, 3, 9], etta: 3", "'search.etta'; did you mean eta?"),
        ("log: ", "lgo: ", "space.rate: unknown key 'lgo'; did you mean log?"),
        ("log: ", "per: 3, log: ", "space.rate: per needs"),
        ("{log: [1e-4, 1]}", "{log: [1, 2], int: [1, 2]}", "space.rate: needs exactly one of"),
        ("{log: [1e-4, 1]}", "{when: {a: 1}}", "space.rate: needs exactly one of"),
        ("{log: [1e-4, 1]}", "[1, 2]", "space.rate: needs a value or a range"),
        ("{log: [1e-4, 1]}", "null", "space.rate: needs a value or a range"),
        ("[1e-4, 1]", "[1]", "space.rate: log needs [low, high]"),
        ("[1e-4, 1]", "3", "space.rate: log needs [low, high]"),
        ("[1e-4, 1]", "[low, 1]", "space.rate: log needs two numbers"),
        ("[1e-4, 1]", "[true, 2]", "space.rate: log needs two numbers"),
        ("log: [1e-4, 1]", "int: [1, 2.5]", "space.rate: int needs two whole numbers"),
        ("[1e-4, 1]", "[1, 1e-4]", "space.rate: needs low < high"),
        ("[1e-4, 1]", "[1, 1]", "space.rate: needs low < high"),
        ("[1e-4, 1]", "[0, 1]", "space.rate: a log scale needs bounds above 0"),
        ("[1e-4, 1]", "[-1, 1]", "space.rate: a log scale needs bounds above 0"),
        ("[1e-4, 1]", "[1, .inf]", "space.rate: needs finite bounds"),
        ("log: [1e-4, 1]", "reverse_log: [0.9, 1]", "space.rate: a reverse_log scale"),
        ("log: [1e-4, 1]", "int_log2: [0, 4]", "space.rate: a log2 scale"),
        ("log: [1e-4, 1]", "choice: []", "space.rate: a choice needs at least one"),
        ("log: [1e-4, 1]", "choice: [[1]]", "space.rate: choice needs a list of values"),
        ("log: [1e-4, 1]", "choice: yes", "space.rate: choice needs a list of values"),
        ("log: [1e-4, 1]", "fixed: [1]", "space.rate: fixed needs one value"),
        ("{log: [1e-4, 1]}", "{fixed: 1, when: adam}", "space.rate: when needs"),
        ("{log: [1e-4, 1]}", "{fixed: 1, when: {opt: a}}", "rate depends on 'opt'"),
        ("{rate:", "{learning rate:", "space: a name needs letters"),
        ("{rate:", "{3:", "space"),
        ("[1, 3, 9]", "[1, 3]", "search.rungs needs a rising list of epochs that ends at max_"),
        ("[1, 3, 9]", "[1, 3, 27]", "search.rungs needs a rising list"),
        ("[1, 3, 9]", "[3, 1, 9]", "search.rungs needs a rising list"),
        ("[1, 3, 9]", "[1, 1, 9]", "search.rungs needs a rising list"),
        ("[1, 3, 9]", "[]", "search.rungs needs a rising list"),
        ("[1, 3, 9]", "[0, 9]", "search.rungs.0"),
        ("rungs:", "method: asha, pruning: shares, rungs:", "shares asks the model of method"),
        ("rungs:", "method: tpe, rungs:", "search.method"),
        ("rungs:", "eta: 1, rungs:", "search.eta"),
        ("rungs:", "sampler: tpe, rungs:", "search.sampler"),
        ("rungs:", "coarse_share: 0, rungs:", "search.coarse_share"),
        ("rungs:", "state_budget: 2 XB, rungs:", "search.state_budget"),
        ("rungs:", "state_budget: -1, rungs:", "search.state_budget"),
        ("rungs:", "explode_above: many, rungs:", "search.explode_above"),
        ("rungs:", "given: [{rate: 7}], rungs:", "search.initial_configs: rate needs a value in"),
        ("rungs:", "given: [{}], rungs:", "search.initial_configs: needs a value for rate"),
        ("rungs:", "given: [{rate: .nan}], rungs:", "rate needs a value in log"),
        ("max_epochs: 9", "max_epochs: many", "max_epochs"),
        ("max_epochs: 9", "max_epochs: 0", "max_epochs"),
        ("max_epochs: 9", "max_epochs: 9\nseed: -1", "seed"),
        ("{source: digits.csv}", "{}", "needs a value for data.source"),
        ("package.module:Class", "Class", "trainer"),
        ("{rate: {log: [1e-4, 1]}}", "[1]", "space"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place_in_one_line(old: str, new: str, told: str) -> None:
    assert old in GOOD
    assert told in refused(GOOD.replace(old, new, 1))


def test_a_file_of_comments_alone_means_the_defaults() -> None:
    assert parse_yaml("# nothing yet\n", source="run.yaml") == {}


@pytest.mark.parametrize(
    "text", ["a: [", "- a\n- b", "just words", "a: \x00", "a: \x07", "{[1]: 2}", "a: !!x 1"]
)
def test_a_text_that_is_no_yaml_mapping_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(SpecError, match=r"^run\.yaml") as caught:
        parse_yaml(text, source="run.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"a: \xff\xfe"])
def test_a_file_that_cannot_be_read_as_text_is_refused_by_name(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match=r"run\.yaml"):
        read_yaml(path)


# ---------------------------------------------------------------------- two specs


def changed(spec: Spec, **space: Any) -> Spec:
    return replace(spec, space={**spec.space, **space})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: replace(s, seed=7), ["seed: 0 -> 7"]),
        (lambda s: replace(s, search=replace(s.search, eta=4)), ["search.eta: 3 -> 4"]),
        (lambda s: changed(s, activation="tanh"), ["space.activation: relu -> tanh"]),
        (lambda s: changed(s, rate={"log": [1e-4, 2]}),
         ["space.rate.log: [0.0001, 1] -> [0.0001, 2]"]),
        (lambda s: changed(s, more=1), ["space.more: not set -> 1"]),
        (lambda s: replace(s, data=replace(s.data, fingerprint="f")), ["data.fingerprint:  -> f"]),
        (lambda s: replace(s, data=replace(s.data, source="there.csv", test="t.csv")), []),
    ],
)  # fmt: skip
def test_differences_names_what_differs_but_not_where_the_data_lies(
    change: Any, told: list[str]
) -> None:
    spec = spec_of(CONDITIONAL)
    assert compare_specs(spec, change(spec)) == told
    assert compare_specs(spec, spec) == []


def test_differences_tells_when_the_parameters_stand_in_another_order() -> None:
    """The order is the order of the cube's dimensions: other draws, other columns."""
    spec = spec_of(CONDITIONAL)
    turned: Mapping[str, Any] = dict(reversed(list(spec.space.items())))
    assert compare_specs(spec, replace(spec, space=turned))


def test_differences_tells_a_number_from_a_truth_value() -> None:
    spec = spec_of()
    for old, new in ((1, True), (1, 1.0)):  # columns of another type in the log
        assert compare_specs(changed(spec, more=old), changed(spec, more=new))
