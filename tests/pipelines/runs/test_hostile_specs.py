"""A spec of any size or kind is read or ends in one short line; nothing hangs, nothing runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_examples import SMALL, make_search, spec_of
from test_bad_input import files_in, typed

import caviar
from orchestrator.errors import InputError, SpecError
from orchestrator.quote import join_names, quote
from orchestrator.search.budget import Budget
from orchestrator.search.simulate import simulate
from orchestrator.space.domains import MAX_INTEGER, Integer, Real
from pipelines.runs.finalists import make_finalists_spec
from pipelines.runs.new_spec import load_space_spec
from pipelines.runs.simulated import simulate_run
from pipelines.runs.spec import dump_spec, load_spec
from pipelines.runs.yaml_text import parse_yaml, read_yaml

LONGEST = 1_100  #: characters of a message; most of them list what there is
DIGITS = "9" * 5_000


def refuse(act: Callable[[], object]) -> str:
    """The one line of bounded length that something is refused with."""
    with pytest.raises(InputError) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) <= LONGEST, message
    return message


def nest(level: str, *, times: int = 11) -> str:
    """Nine aliases of what has nine aliases, and so on: 9^11 values in 500 characters."""
    lines = [f"a{i}: &a{i} {level.format(', '.join([f'*a{i - 1}'] * 9))}" for i in range(1, times)]
    return "\n".join(["a0: &a0 {x: 1}", *lines])


# ---------------------------------------------------------------------- YAML


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (nest("[{}]"), "line 6, column 15: the spec needs at most 50,000 keys and values"),
        (nest("{{<<: [{}]}}"), "needs at most 50,000 keys and values"),
        ("a: &a [*a]", "line 1, column 8: *a stands inside of itself"),
        ("a: &a {<<: *a}", "*a stands inside of itself"),
        ("a: &" + "x" * 5_000 + " [*" + "x" * 5_000 + "]", "… stands inside of itself"),
        ("a: [" + "{}," * 60_000 + "]", "needs at most 50,000 keys and values"),
        ("a: " + "[" * 3_000, "column 23: needs at most 20 levels of lists and mappings"),
        ("{" * 100_000, "needs at most 20 levels"),
        ("- " * 3_000, "needs at most 20 levels"),
        (f"a: {DIGITS}", "line 1, column 4: needs a number of at most 400 digits"),
        (f"a: 0x{'f' * 5_000}", "needs a number of at most 400 digits"),
        (f"a: {2**70}", "a: an integer needs to fit into 64 bits"),
        ("a: 1:" + ":".join(["1"] * 190) + ".5", "needs a number"),
        ("a: " + "1" * 900_000 + "x", "a: a text needs at most 4,096 characters"),  # once quadratic
        ("a: 0b_", "needs a number"),
        ("a: !!int x", "needs a number"),
        ("a: !!int ''", "needs a number"),
        ("a: !!bool maybe", "or true or false"),
        ("a: !!set {b, c}", "line 1, column 4: not YAML: tags such as !!python/object are not"),
        ("a: !!binary aGk=", "tags such as"),
        ("a: !!python/object/apply:os.system [ls]", "tags such as"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not YAML: needs one document"),
        ("a: 1\n\tb: 2", "line 2, column 1: not YAML: a tab cannot indent; write spaces"),
        ("a: b: c", "line 1, column 5: not YAML: a `:` is not expected here"),
        ("a: 'b", "the same quote at its end"),
        ("a: [1", "`]` at its end"),
        ("a: *b", "an alias `*name` needs `&name` before it"),
        ('a: "\\UFFFFFFFF"', "not YAML"),
        ("%YAML " + DIGITS + ".1\n---\na: 1", "not YAML"),
        ("a: 1\nb: \0", "line 2, column 4: not YAML: a text needs printable characters, got"),
        ('a: "\\e[31m"', "a: a text needs printable characters, got '\\x1b'"),
        ('a: "\\ud800"', "a: a text needs printable characters, got '\\ud800'"),
        ("a: '" + "x" * 5_000 + "'", "a: a text needs at most 4,096 characters, got 5,000"),
        ("? [b]\n: 1", "line 1, column 3: a key needs to be a text"),
        ("a: {2: 3}", "a: a key needs to be a text, got 2; put it in quotes"),
        ("a: {~: 3}", "a key needs to be a text, got None"),
        ("a: {<<: 3}", "`<<` needs an alias of a mapping"),
        ("a: {b: 1, b: 2}", "line 1, column 11: 'b' stands twice"),
        ("[1, 2]", "needs a mapping"),
    ],
)
def test_a_text_beyond_the_limits_is_refused_with_its_place(text: str, complaint: str) -> None:
    message = refuse(lambda: parse_yaml(text, source="run.yaml"))
    assert message.startswith("run.yaml")
    assert complaint in message


def test_what_yaml_offers_within_the_limits_is_read() -> None:
    text = "\ufeffx: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}\nz: {<<: [*x, {c: 4}]}\nd: 2026-01-01\ne: ="
    assert parse_yaml(text, source="run.yaml") == {
        "x": {"a": 1, "b": 2},
        "y": {"a": 3, "b": 2},
        "z": {"a": 1, "b": 2, "c": 4},
        "d": "2026-01-01",  # a name of a column, say; not a date
        "e": "=",
    }
    assert parse_yaml("a: " + "[" * 18 + "]" * 18, source="run.yaml")


def test_a_file_that_does_not_end_or_is_no_file_is_refused(tmp_path: Path) -> None:
    fifo, large, empty = tmp_path / "fifo", tmp_path / "large", tmp_path / "empty"
    os.mkfifo(fifo)
    large.write_bytes(b"#" * 1_000_001)
    empty.write_bytes(b"")
    assert "a pipe or a device" in refuse(lambda: read_yaml(fifo))
    assert "a pipe or a device" in refuse(lambda: read_yaml(Path("/dev/zero")))
    assert "Is a directory" in refuse(lambda: read_yaml(tmp_path))
    assert "at most 1,000,000 bytes" in refuse(lambda: read_yaml(large))
    assert "can be read" in refuse(lambda: read_yaml(Path("a\0b")))
    assert "too long" in refuse(lambda: read_yaml(Path("x" * 5_000)))
    assert read_yaml(empty) == {}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_file_in_another_encoding_is_refused_by_name(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes("data: {target: größe}".encode(encoding))
    assert refuse(lambda: read_yaml(path)).startswith(str(path))


# ---------------------------------------------------------------------- values

SELF: dict[str, Any] = {}
SELF["space"] = SELF
OWN = {"trainer": "package.module:Class"}  # a trainer of one's own has no default space


def space(**parameters: object) -> dict[str, Any]:
    return {**OWN, "space": parameters}


def search(**values: object) -> dict[str, Any]:
    return {"search": values}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (5, "spec: needs a mapping"),
        ({1: 2}, "a key needs to be a text"),
        (SELF, "needs at most 20 levels"),
        ({"max_epochs": 10**18}, "max_epochs: needs at most 1,000,000,000, got"),
        ({"max_epochs": 10**5_000}, "got an integer of about 5000 digits"),
        ({"max_epochs": 2.5}, "max_epochs: needs a whole number, got 2.5"),
        ({"seed": 2**70}, "seed: an integer needs to fit into 64 bits"),
        ({"metric": "m" * 1_000}, "metric: needs at most 500 characters"),
        ({"trainer": ["x"]}, "trainer: needs a text"),
        ({"constraints": "layers < 3"}, "constraints: needs a list"),
        ({"space": None}, "space needs a mapping, got None"),
        (search(method="m" * 4_000), "search.method: needs one of caviar | asha"),
        (search(eta=1), "search.eta: needs at least 2, got 1"),
        (search(rungs=[1, [2]]), "search.rungs.1: needs a whole number"),
        (search(rungs=list(range(40_000))), "search.rungs.0: needs at least 1"),
        (search(given=[{}] * 100_000), "at most 50,000 keys and values"),
        (search(given=[{}] * 1_001), "search.initial_configs: needs at most 1,000 items"),
        (search(given=[{"a": [1]}]), "search.initial_configs.0.a: needs a text, a number, true"),
        (search(audit=float("nan")), "search.audit: needs at most 0.5, got nan"),
        (search(zooms=10**18), "search.zooms: needs at most"),
        (search(grid_levels=10**9), "search.grid_levels: needs at most 1,000"),
        (search(max_in_flight=10**18), "search.max_in_flight: needs at most"),
        (search(state_budget=f"{DIGITS[:400]} TB"), "search.state_budget: needs a number of bytes"),
        (search(state_budget="1.2.3 GB"), "such as 2 GB"),
        (space(a=float("nan")), "space.a: needs a value or a range, got nan"),
        (space(a={"fixed": float("inf")}), "space.a: fixed needs one value, and a finite one"),
        (space(a={"choice": [1, float("nan")]}), "space.a: choice needs a list of values"),
        (space(a={"choice": list(range(10_000))}), "space.a: needs at most 2,000 inputs"),
        (space(a={"choice": [10**400, 0.5]}), "fit into 64 bits"),
        (space(a={"int": [1, 1e23]}), "space.a: int needs two whole numbers"),
        (space(a={"int": [1, 2**53]}), "space.a: needs whole numbers between"),
        (space(a={"linear": [-1e308, 1e308]}), "space.a: needs bounds between -1e+300 and 1e+300"),
        (space(a={"linear": [0, 1], "start_at": 10**400}), "fit into 64 bits"),
        (space(a={"linear": [0, 1], "when": {"b": [[1]]}}), "space.a: when.b needs one value or"),
        (space(a={"linear": [0, 1], "when": {"b": []}}), "space.a: when.b needs one value or"),
        (space(a={"linear": [0, 1], "when": {"b" * 5_000: 1}}), "at most 4,096 characters"),
        (space(a={"linear": [0, 1], "when": {"b" * 4_000: 1}}), "which is not in the space"),
        (space(a={"linear": [0, 1], "per": "b" * 4_000}), "which is not in the space"),
        (space(a={"linear": [0, 1], "per": "b"}, b=True), "b needs to be a whole number"),
        (space(a={"linear": [0, 1], "per": "b"}, b=10**9), "at most 500 values, one for each"),
        (space(a={"linear": [0, 1], "per": "b"}, b={"int": [1, 10**9]}), "got 1,000,000,000 up"),
        (space(**{f"p{i}": 1 for i in range(501)}), "space.p500: a configuration needs at most"),
        (space(**{"x" * 61: 1}), "space: a name needs at most 60 characters"),
        (space(**{"": 1}), "space: a name needs letters"),
        (space(**{"a\n": 1}), "space: a name needs letters"),
        ({**OWN, "space": {"aﬁ": 1}}, "space: a name needs plain letters"),  # "afi" to Python
        (space(a=object()), "needs a text, a number, true, false"),
        (space(a=b"x"), "needs a text, a number, true, false"),
        ({"space": {"learning_rate": "x" * 4_000}}, "learning_rate must be a number"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_place(content: Any, complaint: str) -> None:
    assert complaint in refuse(lambda: load_space_spec(content, seed=None))


def test_numbers_of_numpy_are_numbers_of_a_spec() -> None:
    content = space(a={"int": (np.int64(1), np.int32(9))}, b=np.float64(0.5), c=np.float32(0.5))
    spec = load_space_spec(content, seed=None)
    assert load_spec(parse_yaml(dump_spec(spec), source="test"), source="test") == spec


def test_conditions_on_conditions_may_be_as_many_as_hyperparameters() -> None:
    chain = {f"p{i}": {"int": [0, 1], "when": {f"p{i - 1}": 1}} for i in range(1, 500)}
    searched = load_space_spec(space(p0={"int": [0, 1]}, **chain), seed=None).parameters()
    assert searched.to_config(np.zeros(500)) == {"p0": 0}
    assert len(searched.to_config(np.ones(500))) == 500


@pytest.mark.parametrize("low", [-MAX_INTEGER, -1, 0, 1, MAX_INTEGER - 1])
@pytest.mark.parametrize("scale", ["linear", "log2"])
def test_every_integer_of_the_widest_range_has_a_coordinate_of_its_own(
    low: int, scale: Any
) -> None:
    if scale == "log2" and low < 1:
        return
    domain = Integer(low=low, high=MAX_INTEGER, scale=scale)
    rng = np.random.default_rng(0)
    for value in {low, low + 1, MAX_INTEGER - 1, MAX_INTEGER, *rng.integers(low, MAX_INTEGER, 500)}:
        assert domain.from_unit(domain.to_unit(int(value))) == value


@pytest.mark.parametrize(
    ("scale", "low", "high"),
    [("linear", -1e300, 1e300), ("log", 5e-324, 1e300), ("reverse_log", -1e300, 0.5),
     ("reverse_log", 1 - 2**-52, 1 - 2**-53), ("linear", 0.0, 5e-324)],
)  # fmt: skip
def test_the_widest_and_the_narrowest_ranges_of_reals_can_be_drawn_from(
    scale: Any, low: float, high: float
) -> None:
    domain = Real(low=low, high=high, scale=scale)
    values = [domain.from_unit(u) for u in np.linspace(0, 1, 101)]
    assert values == sorted(values)
    assert low <= values[0] and values[-1] <= high
    assert all(0 <= domain.to_unit(value) <= 1 for value in values)


def test_a_fixed_whole_number_may_be_written_as_a_float_in_a_configuration() -> None:
    """`per: layers` counts the layers; 2.0 layers once ended in an AssertionError."""
    content = space(layers=2, units={"int": [1, 9], "per": "layers"})
    config = {"layers": 2.0, "units_1": 3, "units_2": 4.0}
    spec = load_space_spec({**content, **search(initial_configs=[config])}, seed=None)
    checked = spec.parameters().check_config(config, source="test")
    assert repr(checked) == "{'layers': 2, 'units_1': 3, 'units_2': 4}"


# ---------------------------------------------------------------------- constraints


@pytest.mark.parametrize(
    ("constraint", "complaint"),
    [
        ("9**9**9 > layers", "'9 ** 9 ** 9': is no finite number"),
        ("1/0 < layers", "'1 / 0': is no finite number"),
        ("layers < 1e999", "is no finite number"),
        ("layers < " + DIGITS[:900], "is no finite number"),
        ("layers < " + "1+" * 450 + "1", "at most 30 operations inside each other"),
        ("-" * 900 + "layers < 1", "at most 30 operations inside each other"),
        ("(" * 300 + "layers" + ")" * 300 + " < 1", "needs a comparison"),
        ("layers < 1 and " * 70 + "layers < 1", "at most 1,000 characters, got"),
        ("optimizer < 3", "compares a text with a number"),
        ("optimizer + 1 < 3", "'optimizer + 1': needs numbers, got a text"),
        ("'a' * 10**9 == optimizer", "needs numbers, got a text"),
        ("optimizer and layers > 1", "needs numbers, got a text"),
        ("layers % 0 < 1", "only comparisons and + - * / ** are read"),
        ("layers << 9999999 > 1", "only comparisons"),
        ("layers < 0", "0 of 4,096 draws fulfil 'layers < 0'"),
        ("learning_rate == 0.1", "0 of 4,096 draws fulfil"),
        ("layers / 0 < 1", "0 of 4,096 draws fulfil"),
    ],
)
def test_a_constraint_that_cannot_be_computed_or_fulfilled_is_refused(
    constraint: str, complaint: str
) -> None:
    message = refuse(lambda: load_space_spec({"constraints": [constraint]}, seed=None))
    assert "constraints: " in message
    assert complaint in message


def test_constraints_compute_as_python_does_where_python_can() -> None:
    holds = [
        "layers ** 1e9 > 0", "-(layers < 2) <= 0", "(layers < 2) + (units_1 < 64) >= 0",
        "layers == layers == layers", "clip == 'none' or clip == 2.5 or clip == True",
        "clip != 'other'", "not layers > 9", "optimizer == 'adam' or optimizer != 'adam'",
        "1 <= layers / 1 <= 3",
    ]  # fmt: skip
    text = SMALL + (
        "\nlayers: {int: [1, 3]}\nunits: {int: [1, 99], per: layers}\n"
        "clip: {choice: [none, 2.5, true]}\noptimizer: {choice: [adam, sgd]}"
    )
    space = spec_of(text, constraints=holds).parameters()
    points = space.canonicalise(np.random.default_rng(0).random((200, len(space))))
    assert space.allowed_mask(points).all()
    never = spec_of(text, constraints=["clip == 1.5"]).parameters()
    assert not never.allowed_mask(points).any()
    rare = spec_of(text, constraints=["clip == 2.5"]).parameters()
    assert 20 < rare.allowed_mask(points).sum() < 120


# ---------------------------------------------------------------------- Python and the terminal


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"time": "1e400s"}, "`time` needs something like 60s"),
        ({"time": DIGITS}, "`time` needs at most 3,153,600,000 seconds"),
        ({"time": float("nan")}, "`time` needs"),
        ({"trials": "5"}, "`trials` needs a whole number, got '5'"),
        ({"trials": True}, "`trials` needs a whole number"),
        ({"epochs": 10**5_000}, "`epochs` needs at most 1,000,000,000,000"),
        ({"workers": 10**12}, "`workers` needs at most 10,000"),
        ({"audit": float("nan")}, "search.audit"),
        ({"audit": DIGITS + "%"}, "audit needs something like 5%"),
        ({"like": "base"}, "`like` needs a list of folders"),
        ({"like": 5}, "`like` needs a list of folders"),
        ({"like": ["x" * 5_000]}, "`like` needs names of at most 255 bytes"),
        ({"out": 5}, "`out` needs a path"),
        ({"out": "a\0b"}, "`out` needs a path"),
        ({"spec": 5}, "spec: needs a mapping"),
        ({"spec": "x" * 5_000}, "`spec` needs names of at most 255 bytes"),
        ({"metric": "\x1b[31m"}, "metric: a text needs printable characters"),
        ({"metric": 5}, "metric: needs a text"),
        ({"target": "x" * 4_000}, "data.target: needs at most 500 characters"),
        ({"seed": 2**70}, "seed: "),
        ({"deterministic": "yes"}, "search.deterministic: needs true or false"),
        ({"mirror": 5}, "`mirror` needs a text"),
        ({"data": None}, "`data` needs a path"),
        ({"data": "x" * 5_000}, "`data` needs names of at most 255 bytes"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_and_leaves_nothing(
    arguments: Mapping[str, Any], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    full: dict[str, Any] = {"data": "wine", "pool": "inline", "trials": 1, **arguments}
    assert complaint in refuse(lambda: caviar.search(**full))
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize(
    "words",
    [
        f"--trials {DIGITS}", "--trials 1e3", "--trials 9999999999999", "--workers 1000000000000",
        f"--time {DIGITS}s", "--time 1e400s", f"--seed {2**70}", "--max-epochs 1000000000000000000",
        f"--metric {'m' * 3_000}", f"--pool {'p' * 3_000}", f"--{'o' * 3_000}", "--audit nan",
        f"--spec {'s' * 3_000}", f"--like {'l' * 3_000}", f"--out {'o' * 3_000}",
        "--spec /dev/zero",
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_one_line_and_leaves_nothing(
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = "search wine --pool inline " + ("" if "--trials" in words else "--trials 1 ")
    assert typed(command + words, monkeypatch) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("caviar: ") and output.err.count("\n") == 1
    assert len(output.err) <= LONGEST
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("folder", [5, None, "", "a\0b", "x" * 5_000, ["run"], "nowhere"])
def test_what_is_no_folder_of_a_run_is_refused(folder: Any) -> None:
    for act in (caviar.load, caviar.load_model, caviar.resume):
        refuse(lambda act=act: act(folder))  # type: ignore[misc]
    refuse(lambda: caviar.compare([folder, folder]))


def test_what_is_written_can_be_read_again_or_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "wine\x1b.csv"
    path.write_text("a,b\n" + "".join(f"{i % 7},{'xy'[i % 2]}\n" for i in range(40)))
    before = files_in(tmp_path)
    options: dict[str, Any] = {"pool": "inline", "trials": 1}
    assert "data.source" in refuse(lambda: caviar.search(path, **options))
    assert files_in(tmp_path) == before


def test_more_trainings_than_a_spec_can_list_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = caviar.search("wine", pool="inline", trials=2, max_epochs=1)
    spec = load_spec(read_yaml(run.folder / "spec.yaml"), source="test")
    message = refuse(lambda: make_finalists_spec(spec, run._tables, top=2, seeds=10**12))
    assert "at most 1,000 trials can be trained again at once" in message


# ---------------------------------------------------------------------- quoting


def test_quoting_takes_no_time_and_no_space_whatever_the_value() -> None:
    laughs: list[Any] = ["x"]
    for _ in range(60):
        laughs = [laughs] * 9
    for value in (laughs, SELF, 10**10_000, -(10**10_000), "x" * 10**6, [{}] * 10**6, object()):
        assert len(quote(value)) <= 60
        assert "\n" not in quote(value)
    assert [quote(v) for v in (1, 2.5, True, None, "a\n", [1, "b"])] == [
        "1", "2.5", "True", "None", "'a\\n'", "[1, 'b']",
    ]  # fmt: skip
    assert len(join_names(str(i) * 100 for i in range(10**6))) < 3_000


def test_the_module_of_python_is_not_executed_by_a_constraint() -> None:
    before = set(sys.modules)
    with pytest.raises(SpecError):
        load_space_spec({"constraints": ["__import__('antigravity') == layers"]}, seed=None)
    assert set(sys.modules) == before


# ---------------------------------------------------------------------- long trials


def test_trials_of_a_thousand_million_epochs_are_estimated_in_a_moment() -> None:
    for max_epochs, trials in ((10**9, 40), (9, 40), (1_700, 40)):
        spec = spec_of(max_epochs=max_epochs, pruning="asha")
        result = simulate_run(
            spec, budget=Budget(trials=trials), workers=2, epoch_seconds=lambda _: 1.0
        )
        assert result.trials == trials
        assert set(result.reached) <= set(spec.search.rungs)
        assert result.epochs >= max_epochs  # at least one trial got to the end
        assert result.seconds >= result.epochs / 2


def test_the_estimate_of_short_trials_is_a_plain_simulation() -> None:
    spec, budget = spec_of(max_epochs=27, pruning="asha"), Budget(trials=30)
    options: dict[str, Any] = {"budget": budget, "workers": 2, "epoch_seconds": lambda _: 1.0}
    assert simulate_run(spec, **options) == simulate(make_search(spec), **options)
