from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from search_examples import (
    CONDITIONAL,
    choices,
    integers,
    limit_examples,
    points,
    reals,
    space_of,
    spaces,
)

from orchestrator.errors import SpecError
from orchestrator.space.domains import Choice, Fixed, Integer, Real
from orchestrator.space.space import Parameter, Space

#: Probability that a statistical test of this file fails for a random seed.
FALSE_ALARM = 1e-4


# ---------------------------------------------------------------------- one domain


@given(domain=reals(), u=st.floats(0, 1))
@limit_examples(90)
def test_a_real_value_stays_in_its_bounds_and_comes_back_from_its_coordinate(
    domain: Real, u: float
) -> None:
    value = domain.from_unit(u)
    assert domain.low <= value <= domain.high
    assert domain.contains(value)
    back = domain.from_unit(domain.to_unit(value))
    if domain.scale == "reverse_log":
        # 1 - beta is all that matters there, and is as fine as a float near 1 allows
        assert 1 - back == pytest.approx(1 - value, rel=1e-9, abs=4e-16)
    else:
        assert back == pytest.approx(value, rel=1e-9, abs=1e-9 * (domain.high - domain.low))


@given(domain=integers(), u=st.floats(0, 1), data=st.data())
@limit_examples(90)
def test_every_whole_number_lies_at_its_coordinate(
    domain: Integer, u: float, data: st.DataObject
) -> None:
    drawn = domain.from_unit(u)
    assert isinstance(drawn, int) and domain.low <= drawn <= domain.high
    value = data.draw(st.integers(domain.low, domain.high))
    assert 0 < domain.to_unit(value) < 1
    assert domain.from_unit(domain.to_unit(value)) == value


@given(domain=choices(), u=st.floats(0, 1))
@limit_examples(70)
def test_every_option_lies_at_its_coordinate_with_its_own_type(domain: Choice, u: float) -> None:
    assert any(domain.from_unit(u) is option for option in domain.options)
    for option in domain.options:
        back = domain.from_unit(domain.to_unit(option))
        assert back == option and type(back) is type(option)


@given(domain=st.one_of(reals(), integers()), u=st.floats(0, 1), v=st.floats(0, 1))
@limit_examples(70)
def test_a_larger_coordinate_never_gives_a_smaller_value(
    domain: Real | Integer, u: float, v: float
) -> None:
    assert domain.from_unit(min(u, v)) <= domain.from_unit(max(u, v))


@pytest.mark.parametrize(
    ("domain", "ends"),
    [
        (Real(low=1e-4, high=1.0, scale="log"), (1e-4, 1.0)),
        (Real(low=0.9, high=0.999, scale="reverse_log"), (0.9, 0.999)),
        (Real(low=-2.0, high=3.0), (-2.0, 3.0)),
        (Integer(low=16, high=512, scale="log2"), (16, 512)),
        (Integer(low=-1, high=4), (-1, 4)),
    ],
)
def test_both_ends_of_the_cube_are_the_bounds_themselves(
    domain: Real | Integer, ends: tuple[float, float]
) -> None:
    assert (domain.from_unit(0.0), domain.from_unit(1.0)) == pytest.approx(ends, rel=1e-12)


@given(step=st.integers(1, 50), low=st.floats(1e-300, 1e300))
@limit_examples(70)
def test_bounds_that_are_as_good_as_equal_are_searched_or_refused_in_words(
    step: int, low: float
) -> None:
    high = low
    for _ in range(step):
        high = math.nextafter(high, math.inf)
    for scale in ("linear", "log", "reverse_log"):
        if scale == "reverse_log" and high >= 1:
            continue
        try:
            domain = Real(low=low, high=high, scale=scale)
        except SpecError:
            continue
        assert low <= domain.from_unit(0.5) <= high
        assert not math.isnan(domain.to_unit(low))


# ---------------------------------------------------------------------- the scales, counted


def draw_values(domain: Real | Integer | Choice, count: int) -> np.ndarray:
    u = np.random.default_rng(2026).random(count)
    return np.array([domain.from_unit(x) for x in u])


def test_on_the_log_scale_every_decade_gets_the_same_share() -> None:
    exponents = np.log10(draw_values(Real(low=1e-4, high=1.0, scale="log"), 5_000))
    assert stats.kstest(exponents, stats.uniform(-4, 4).cdf).pvalue > FALSE_ALARM


def test_on_the_reverse_log_scale_beta_is_one_minus_ten_to_a_uniform_r() -> None:
    r = np.log10(1 - draw_values(Real(low=0.9, high=0.999, scale="reverse_log"), 5_000))
    assert stats.kstest(r, stats.uniform(-3, 2).cdf).pvalue > FALSE_ALARM


def test_on_the_linear_scale_every_value_is_equally_likely() -> None:
    values = draw_values(Real(low=-1.0, high=3.0), 5_000)
    assert stats.kstest(values, stats.uniform(-1, 4).cdf).pvalue > FALSE_ALARM


def test_every_whole_number_is_equally_likely_both_ends_included() -> None:
    counted = np.bincount(draw_values(Integer(low=1, high=4), 4_000))[1:]
    assert len(counted) == 4
    assert stats.chisquare(counted).pvalue > FALSE_ALARM


def test_on_log2_every_doubling_is_equally_likely() -> None:
    """The six doublings 16-31, 32-63, … of [16, 1023] have equal shares, except for rounding."""
    values = draw_values(Integer(low=16, high=1023, scale="log2"), 6_000)
    edges = 2.0 ** np.arange(4, 11) - 0.5
    counted, _ = np.histogram(values, edges)
    share = np.diff(np.log(edges)) / np.log(1023.5 / 15.5)
    assert counted.sum() == 6_000
    assert np.abs(share - 1 / 6).max() < 0.01
    assert stats.chisquare(counted, 6_000 * share).pvalue > FALSE_ALARM


def test_every_option_is_equally_likely() -> None:
    options = draw_values(Choice(options=("a", "b", "c")), 3_000)
    assert stats.chisquare(np.unique(options, return_counts=True)[1]).pvalue > FALSE_ALARM


# ---------------------------------------------------------------------- a space


def find_active_names(config: dict[str, object]) -> set[str]:
    """The names of CONDITIONAL that are active, by reading its YAML once more."""
    names = {"rate", "optimizer", "layers", "clip", "activation"}
    optimizer, layers = config["optimizer"], config["layers"]
    names |= {f"units_{i}" for i in range(1, layers + 1)}
    if optimizer in ("momentum", "adam"):
        names.add("beta")
    if optimizer == "momentum":
        names.add("nesterov")
        if config["nesterov"] is True:
            names.add("lookahead")
    if optimizer == "adam":
        names.add("epsilon")
    if optimizer == "sgd":
        names |= {f"drop_{i}" for i in range(1, layers + 1)}
    return names


@given(point=points(space_of(CONDITIONAL)))
@limit_examples(70)
def test_a_config_holds_exactly_the_names_that_are_active(point: np.ndarray) -> None:
    space = space_of(CONDITIONAL)
    config = space.to_config(point)
    assert config.keys() == find_active_names(config)
    assert list(config) == [name for name in space.names if name in config]


@given(data=st.data())
@limit_examples(80)
def test_a_config_has_one_point_and_a_point_one_config(data: st.DataObject) -> None:
    space = data.draw(spaces())
    config = space.to_config(data.draw(points(space)))
    point = space.to_point(config)
    for dimension, u in zip(space.dimensions, point, strict=True):
        assert math.isnan(u) == (dimension.name not in config)
        assert math.isnan(u) or -1e-9 <= u <= 1 + 1e-9
    again = space.to_config(np.clip(np.nan_to_num(point, nan=0.5), 0, 1))
    assert again.keys() == config.keys()
    for name, value in config.items():
        assert type(again[name]) is type(value)
        if isinstance(value, float) and not isinstance(space.names[name].domain, Choice):
            # the way there and back through a logarithm costs the last digits
            assert again[name] == pytest.approx(value, rel=1e-9, abs=1e-6)
        else:
            assert again[name] == value
    assert space.check_config(config, source="test") == config


@given(point=points(space_of(CONDITIONAL)))
@limit_examples(60)
def test_check_fills_in_what_is_fixed_and_nothing_else(point: np.ndarray) -> None:
    space = space_of(CONDITIONAL)
    config = space.to_config(point)
    fixed = ("epsilon", "activation")
    searched = {name: value for name, value in config.items() if name not in fixed}
    assert space.check_config(searched, source="test") == config
    for name in searched.keys() - {"optimizer", "layers", "nesterov"}:
        rest = {k: v for k, v in searched.items() if k != name}
        with pytest.raises(SpecError, match=f"needs a value for {name}"):
            space.check_config(rest, source="test")


GOOD = {"rate": 0.1, "optimizer": "sgd", "layers": 1, "units_1": 8, "drop_1": 0.0, "clip": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 2.0}, "rate needs a value in log"),
        ({"rate": "fast"}, "rate needs a value in log"),
        ({"rate": True}, "rate needs a value in log"),
        ({"rate": math.nan}, "rate needs a value in log"),
        ({"units_1": 8.5}, "units_1 needs a value in int_log2"),
        ({"units_1": math.inf}, "units_1 needs a value in int_log2"),
        ({"units_1": math.nan}, "units_1 needs a value in int_log2"),
        ({"layers": math.inf}, "layers needs a value in int"),
        ({"layers": True}, "layers needs a value in int"),
        ({"clip": 1.0}, "clip needs a value in"),
        ({"activation": "tanh"}, "activation needs a value in fixed"),
        ({"units_2": 8}, "units_2 is not active"),
        ({"beta": 0.9}, "beta is not active"),
        ({"momentum": 0.9}, "no hyperparameter 'momentum'"),
    ],
)
def test_check_refuses_a_wrong_value_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        space_of(CONDITIONAL).check_config(GOOD | changes, source="test.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("test.yaml: ")


def test_a_whole_number_written_as_a_float_is_refused_or_made_whole() -> None:
    """YAML reads 2.0 and 1e2 as floats; a trainer that gets 64.0 units cannot make an array."""
    for name in ("layers", "units_1"):
        try:
            config = space_of(CONDITIONAL).check_config(
                GOOD | {name: float(GOOD[name])}, source="test.yaml"
            )
        except SpecError:
            continue
        assert type(config[name]) is int


@given(value=st.floats(allow_nan=True, allow_infinity=True), domain=st.one_of(reals(), integers()))
@limit_examples(70)
def test_whether_a_value_is_in_a_domain_always_has_an_answer(
    value: float, domain: Real | Integer
) -> None:
    assert domain.contains(value) in (True, False)


# ---------------------------------------------------------------------- spaces that cannot be

LAYERS = Parameter(name="layers", domain=Integer(low=1, high=3))
RATE = Parameter(name="rate", domain=Real(low=0.0, high=1.0))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([RATE, RATE], "stands twice"),
        ([Parameter(name="a", domain=RATE.domain, when={"b": (1,)})], "'b', which is not in"),
        ([Parameter(name="a", domain=RATE.domain, per="b")], "'b', which is not in"),
        ([Parameter(name="a", domain=RATE.domain, when={"a": (1,)})], "a depend.* ring"),
        (
            [
                Parameter(name="a", domain=RATE.domain, when={"b": (1,)}),
                Parameter(name="b", domain=RATE.domain, when={"c": (1,)}),
                Parameter(name="c", domain=RATE.domain, when={"a": (1,)}),
            ],
            "a, b, c depend on each other in a ring",
        ),
        ([RATE, Parameter(name="a", domain=RATE.domain, per="rate")], "a whole number"),
        (
            [
                Parameter(name="n", domain=Integer(low=0, high=3)),
                Parameter(name="a", domain=RATE.domain, per="n"),
            ],
            "at least 1",
        ),
        (
            [
                Parameter(name="n", domain=Fixed(value="three")),
                Parameter(name="a", domain=RATE.domain, per="n"),
            ],
            "a whole number",
        ),
        (
            [LAYERS, Parameter(name="u", domain=RATE.domain, per="layers"),
             Parameter(name="u_2", domain=RATE.domain)],
            "the name of another",
        ),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_is_an_error_in_one_line(
    parameters: list[Parameter], message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        Space(parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["when", "per"])
def test_nothing_can_depend_on_a_value_that_each_layer_has_its_own_of(field: str) -> None:
    """`units` is in no config, only units_1, units_2, …: what depends on it is never active."""
    units = Parameter(name="units", domain=Integer(low=4, high=6), per="layers")
    depends = {"when": {"units": (4,)}} if field == "when" else {"per": "units"}
    with pytest.raises(SpecError, match="units"):
        Space([LAYERS, units, Parameter(name="a", domain=RATE.domain, **depends)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Real(low=1.0, high=1.0), "low < high"),
        (lambda: Real(low=2.0, high=1.0), "low < high"),
        (lambda: Real(low=0.0, high=math.inf), "finite"),
        (lambda: Real(low=math.nan, high=1.0), "finite"),
        (lambda: Real(low=0.0, high=1.0, scale="log"), "above 0"),
        (lambda: Real(low=-1.0, high=1.0, scale="log"), "above 0"),
        (lambda: Real(low=0.9, high=1.0, scale="reverse_log"), "below 1"),
        (lambda: Integer(low=3, high=3), "low < high"),
        (lambda: Integer(low=0, high=3, scale="log2"), "above 0"),
        (lambda: Choice(options=()), "at least one"),
    ],
)
def test_a_domain_that_cannot_be_is_an_error(build: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build()
