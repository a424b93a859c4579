"""Hypothesis writes hostile specs, constraints and durations: each is used or ends in one line.

A few examples in each run of the tests, always the same ones; with --often, as in `make test-fuzz`,
10,000 other ones of each kind, which take eight minutes of a processor.
"""

from __future__ import annotations

import copy
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.search.samplers import make_sampler
from orchestrator.space.parse import parse_parameter
from orchestrator.space.space import Space
from orchestrator.space.warnings import find_warnings
from pipelines.runs.execution import make_budget
from pipelines.runs.new_spec import load_space_spec
from pipelines.runs.spec import Spec, dump_spec, load_spec
from pipelines.runs.yaml_text import parse_yaml, read_yaml
from pipelines.see.formatting import format_duration, parse_share

LONGEST = 1_500  #: characters of a message; most of them list what there is
HANG = 20  #: seconds after which a call counts as one that never ends
DEFAULT = files("pipelines.runs").joinpath("default.yaml").read_text(encoding="utf-8")

_OFTEN = settings.get_current_profile_name() == "often"
fuzz = settings(
    max_examples=settings().max_examples if _OFTEN else 60,
    derandomize=not _OFTEN,
    database=None,
    suppress_health_check=list(HealthCheck),
)
Result = TypeVar("Result")


@contextmanager
def ends_in_time() -> Iterator[None]:
    """Fail what hangs; nothing else of a test's speed is asserted.

    The alarm takes the place of pytest's limit for a whole test, which 10,000 examples exceed.
    """

    def fail(*_: object) -> None:
        raise AssertionError(f"did not end within {HANG} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def use_or_refuse(act: Callable[[], Result]) -> Result | None:
    """The result, or None if it was refused as a user's input is: with one line of some length."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return act()
    except InputError as e:
        message = str(e)
        assert message.isprintable(), message
        assert len(message) <= LONGEST, message
        assert "nput should" not in message, message  # pydantic's words
        return None


# ---------------------------------------------------------------------- what is drawn

hard_numbers = st.sampled_from(
    [0, -1, 1, 2, 27, 2**53, 2**63 - 1, 2**63, -(2**63), 2**70, 10**12, 10**400, 10**4_000, 0.5,
     -0.0, 5e-324, 1e-300, 1e300, 1.7976931348623157e308, float("inf"), float("-inf"),
     float("nan"), 1e23, 1 - 2**-53, True, False]
)  # fmt: skip
hard_texts = st.sampled_from(
    ["", " ", "x" * 10_000, "a\0b", "\x1b[31m", "\ud800", "a\nb", "__class__", "ﬁ", "größe", "<<",
     "null", "2026-01-01", "1e4", "../../etc", "a" * 61, "[", "lambda", "'", "%s", "{x}", "\u202e"]
)  # fmt: skip
names = st.sampled_from(
    ["a", "b", "c", "a_1", "layers", "units", "units_1", "optimizer", "learning_rate", "batch_size"]
)
scalars = st.one_of(
    hard_numbers, hard_texts, names, st.integers(), st.floats(), st.text(max_size=8), st.none(),
    st.binary(max_size=3), st.dates(), st.complex_numbers(),
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(names, scalars), inner, max_size=4),
    ),
    max_leaves=12,
)
bounds = st.one_of(hard_numbers, st.integers(-5, 5), st.floats(), st.sampled_from([1e-4, 0.1, 0.9]))
kinds = st.sampled_from(["linear", "log", "reverse_log", "int", "int_log2", "choice", "fixed"])
written = st.one_of(
    anything,
    st.fixed_dictionaries(
        {},
        optional={
            "linear": st.lists(bounds, min_size=2, max_size=2),
            "log": st.lists(bounds, min_size=2, max_size=2),
            "int": st.lists(bounds, min_size=2, max_size=2),
            "choice": st.lists(scalars, max_size=4),
            "when": st.dictionaries(names, st.one_of(scalars, st.lists(scalars, max_size=2))),
            "per": st.one_of(names, scalars),
            "start_at": scalars,
        },
    ),
    st.builds(lambda kind, ends: {kind: sorted(ends)}, kinds, st.lists(bounds.filter(
        lambda v: v == v), min_size=2, max_size=2)),
    st.builds(lambda kind, a, n: {kind: [a, a + n]}, kinds, st.integers(0, 3), st.integers(1, 9)),
    st.builds(lambda a, n, per: {"int": [a, a + n], "per": per}, st.integers(0, 3),
              st.integers(1, 9), names),
)  # fmt: skip
spaces = st.dictionaries(st.one_of(names, names, names, hard_texts), written, max_size=6)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """A text that is nearly a constraint, or one."""
    leaf = st.one_of(
        names, names, st.integers(-3, 300).map(str),
        st.sampled_from(["0", "9**9**9", "1e999", "1j", "'adam'", "None", "True", "x.y", "f(a)",
                         "[1]", "b''", "...", "9" * 500, "\0", "1_0", "0x1f", "if", "lambda: 1"]),
    )  # fmt: skip
    joined = st.sampled_from(
        ["+", "-", "*", "/", "**", "<", "<=", ">", "==", "!=", " and ", " or ", "%", "//", " in ",
         " is ", "<<", "@", " if ", ",", ":=", ""]
    )  # fmt: skip
    tree = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(lambda a, op, b: f"{a}{op}{b}", inner, joined, inner),
            st.builds(lambda op, a: f"{op}({a})", st.sampled_from(["", "-", "not ", "~"]), inner),
        ),
        max_leaves=10,
    )
    return draw(st.one_of(tree, tree.map(lambda t: f"({t}) < 3"), st.text(max_size=30)))


@st.composite
def mutations(draw: st.DrawFn) -> dict[str, Any]:
    """The default space with a few of its parts replaced by anything, and a search section."""
    content: dict[str, Any] = copy.deepcopy(parse_yaml(DEFAULT, source="default.yaml"))
    for _ in range(draw(st.integers(1, 3))):
        part: Any = content
        while isinstance(part, dict) and part:
            key = draw(st.sampled_from(sorted(part, key=str)))
            if not isinstance(part[key], dict) or draw(st.integers(0, 3)) == 0:
                part[key] = draw(st.one_of(anything, written))
                break
            part = part[key]
    keys = ["method", "sampler", "grid_levels", "pruning", "eta", "rungs", "coarse_share", "zooms",
            "initial_configs", "given", "initial_seeds", "audit", "explode_above", "retries",
            "state_budget", "deterministic", "max_in_flight", "etta"]  # fmt: skip
    if draw(st.booleans()):
        content["search"] = draw(st.dictionaries(st.sampled_from(keys), anything, max_size=2))
    for key in ("max_epochs", "seed", "metric", "constraints", "modules", "data", "trainer"):
        if draw(st.integers(0, 9)) == 0:
            content[key] = draw(anything)
    return content


@st.composite
def yaml_texts(draw: st.DrawFn) -> str:
    """A text of YAML's tokens, or a valid one with a few of its characters replaced."""
    tokens = st.sampled_from(
        ["a: ", "b: ", "- ", "[", "]", "{", "}", ", ", ": ", "? ", "\n", "\n  ", "\t", "&x ", "*x",
         "<<: ", "!!int ", "!!set ", "!!python/object:a.b ", "!x ", "|\n", ">-\n", "'", '"', "\\U",
         "\\x", "---\n", "...\n", "%YAML 1.1\n", "%TAG ! x\n", "#", "~", "1", "0x", "0b_", "1:1",
         ".inf", ".5", "1e4", "2026-01-01", "2026-99-99", "=", "x", "\ufeff", "\x85", "\u2028",
         "\0", "é", "9" * 5_000, "[" * 50, "yes", "@", "`", "%", "!", "&", "*"]
    )  # fmt: skip
    soup = st.lists(tokens, max_size=25).map("".join)
    damaged = st.builds(
        lambda at, length, put: DEFAULT[:at] + put + DEFAULT[at + length :],
        st.integers(1_400, len(DEFAULT)), st.integers(0, 30), soup,
    )  # fmt: skip
    dumped = anything.map(_dump_or_repr)
    return draw(st.one_of(soup, damaged, dumped, st.text(max_size=40)))


def _dump_or_repr(value: object) -> str:
    try:
        return str(yaml.dump({"space": value}, allow_unicode=True))
    except (ValueError, yaml.YAMLError):  # 5,000 digits
        return f"space: {type(value)!s}"


# ---------------------------------------------------------------------- what must hold


def search_a_little(spec: Spec) -> None:
    """What a search does first with a spec: it is written, read, shown, and drawn from."""
    text = dump_spec(spec)
    again = load_spec(parse_yaml(text, source="again"), source="again")
    assert repr(again) == repr(spec)
    space = spec.parameters()
    draw_a_little(space)
    find_warnings(space)
    sampler = spec.search.sampler
    if sampler == "sobol":
        sampler = "random"  # its points are as hostile, and it takes no half second
    points = make_sampler(sampler, space, seed=spec.seed, grid_levels=spec.search.grid_levels)
    for number in range(3):
        if (point := points.draw_point(number)) is not None:
            config = space.to_config(point)
            assert space.check_config(config, source="test") == config


def draw_a_little(space: Space) -> None:
    """Corners and some points of the cube become configurations of the space, and return."""
    n = len(space)
    cube = np.concatenate(
        [np.zeros((1, n)), np.ones((1, n)), np.random.default_rng(0).random((6, n))]
    )
    canonical = space.canonicalise(cube)
    space.allowed_mask(canonical)
    for point in cube:
        config = space.to_config(point)
        assert space.check_config(config, source="test") == config
        back = space.to_point(config)
        assert np.all(np.isnan(back) | (back >= -1e-9) & (back <= 1 + 1e-9))


@given(text=yaml_texts())
@example(text="a: &a {<<: *a}")
@example(text='a: "\\UFFFFFFFF"')
@fuzz
def test_any_text_is_a_mapping_or_is_refused(text: str) -> None:
    with ends_in_time():
        content = use_or_refuse(lambda: parse_yaml(text, source="run.yaml"))
        if content is not None:
            spec = use_or_refuse(lambda: load_space_spec(content, seed=None))
            if spec is not None:
                use_or_refuse(lambda: search_a_little(spec))


@given(content=st.one_of(st.binary(max_size=60), yaml_texts().map(
    lambda text: text.encode("utf-8", "surrogatepass"))))  # fmt: skip
@fuzz
def test_any_file_is_a_mapping_or_is_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, ends_in_time():
        path = Path(folder) / "run.yaml"
        path.write_bytes(content)
        use_or_refuse(lambda: read_yaml(path))
        assert list(Path(folder).iterdir()) == [path]
        assert path.read_bytes() == content


@given(content=st.one_of(anything, mutations()))
@fuzz
def test_any_structure_is_a_spec_or_is_refused(content: Any) -> None:
    with ends_in_time():
        spec = use_or_refuse(lambda: load_space_spec(content, seed=None))
        if spec is not None:
            use_or_refuse(lambda: search_a_little(spec))


@given(space=spaces, constraints=st.lists(expressions(), max_size=2))
@fuzz
def test_any_space_of_a_users_trainer_is_drawn_from_or_is_refused(
    space: Any, constraints: list[str]
) -> None:
    content = {"trainer": "package.module:Class", "space": space, "constraints": constraints}
    with ends_in_time():
        spec = use_or_refuse(lambda: load_space_spec(content, seed=None))
        if spec is not None:
            use_or_refuse(lambda: search_a_little(spec))


@given(constraint=expressions())
@example(constraint="9**9**9 > a")
@example(constraint="1/0 < a")
@fuzz
def test_any_constraint_is_computed_or_is_refused(constraint: str) -> None:
    written: dict[str, object] = {
        "a": {"linear": [-1e300, 1e300]},
        "b": {"choice": ["none", 1, 2.5, True]},
        "c": {"int_log2": [1, 10**12]},
        "layers": {"int": [0, 3]},
        "optimizer": {"choice": ["sgd", "adam"], "when": {"layers": [1, 2]}},
        "units": 5,
    }
    parameters = [parse_parameter(name, value) for name, value in written.items()]
    with ends_in_time():
        space = use_or_refuse(lambda: Space(parameters, [constraint]))
        if space is not None:
            points = space.canonicalise(np.random.default_rng(0).random((50, len(space))))
            allowed = space.allowed_mask(points)
            assert allowed.shape == (50,) and allowed.dtype == bool


@given(value=st.one_of(scalars, st.from_regex(r"[\d.]{0,30}[smhd%]?([\d]{0,5}[smhd])?")))
@fuzz
def test_any_duration_share_or_count_is_used_or_is_refused(value: Any) -> None:
    with ends_in_time():
        budget = use_or_refuse(lambda: make_budget(value, None, None))
        if budget is not None and budget.seconds is not None:
            assert 0 < budget.seconds < 1e10
            assert format_duration(budget.seconds)
        counts = use_or_refuse(lambda: make_budget(None, value, value))
        assert counts is None or value is None or 1 <= value <= 10**12
        if isinstance(value, str):
            share = use_or_refuse(lambda: parse_share(value, "`audit`"))
            assert share is None or 0 <= share <= 0.5
