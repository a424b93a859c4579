from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_examples import (
    CONDITIONAL,
    Play,
    draw_loss,
    limit_examples,
    play_out,
    space_of,
    spec_of,
)

from orchestrator.errors import SpecError
from orchestrator.search.budget import Budget
from orchestrator.search.samplers import make_sampler
from orchestrator.space.space import Space

LAYERS = """
layers: {int: [1, 3]}
units: {int_log2: [4, 64], per: layers}
optimizer: {choice: [sgd, adam]}
beta: {linear: [0, 1], when: {optimizer: adam}}
"""
SHAPES = ["units_2 <= units_1", "units_3 <= units_2", "beta < 0.5 or layers == 1"]


def make_constrained_space(*constraints: str, text: str = LAYERS) -> Space:
    return Space(space_of(text).parameters, constraints)


@given(seed=st.integers(0, 10**6))
@limit_examples(30)
def test_a_constraint_says_what_python_says(seed: int) -> None:
    space = make_constrained_space(*SHAPES)
    points = space.canonicalise(np.random.default_rng(seed).random((20, len(space))))
    for point, allowed in zip(points, space.allowed_mask(points), strict=True):
        config = space.to_config(np.nan_to_num(point, nan=0.5))
        wanted = True
        for text in SHAPES:
            names = [n for n in space.names if n in text]
            if all(name in config for name in names):  # else it does not apply
                wanted &= bool(eval(text, {}, dict(config)))
        assert allowed == wanted == space.satisfies_constraints(config)


@pytest.mark.parametrize("method", ["caviar", "asha", "random"])
@pytest.mark.parametrize("sampler", ["sobol", "random", "grid"])
def test_no_trial_of_any_stage_breaks_a_constraint(method: str, sampler: str) -> None:
    spec = spec_of(LAYERS, constraints=SHAPES, method=method, sampler=sampler, zooms=2)
    play = Play(spec, budget=Budget(trials=60))
    play_out(play, np.random.default_rng(0), workers=3, loss=draw_loss)
    space = spec.parameters()
    assert len(play.search.trials) > 20
    assert all(space.satisfies_constraints(t.config) for t in play.search.trials.values())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("units_1", "needs a comparison"),
        ("units_1 <=", "needs a comparison"),
        ("-units_1", "needs a comparison"),
        ("units_9 < 3", "no hyperparameter 'units_9'"),
        ("1 < 2", "names no hyperparameter"),
        ("units_1 < None", "needs numbers and texts"),
        ("__import__('os') == 1", "only comparisons"),
        ("units_1.real < 3", "only comparisons"),
        ("[units_1][0] < 3", "only comparisons"),
        ("(lambda: units_1)() < 3", "only comparisons"),
    ],
)
def test_what_is_no_constraint_is_refused_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=r"^constraints: ") as caught:
        make_constrained_space(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_constraints_that_leave_nothing_are_an_error_and_not_an_endless_search() -> None:
    space = make_constrained_space("units_1 < 0")
    sampler = make_sampler("random", space, seed=0, grid_levels=2)
    with pytest.raises(SpecError, match="units_1 < 0; make them wider"):
        sampler.draw_point(0)


def test_given_configurations_keep_to_the_constraints_too() -> None:
    with pytest.raises(SpecError, match="breaks one of the constraints"):
        spec_of("a: {int: [1, 9]}", constraints=["a < 5"], initial_configs=[{"a": 7}])


def test_a_configuration_of_another_space_is_used_where_it_is_complete_here() -> None:
    space = make_constrained_space(*SHAPES)
    complete = {"layers": 1, "units_1": 8, "optimizer": "sgd"}
    assert space.project_config(complete | {"foreign": 3}) == complete
    assert space.project_config({"layers": 1, "optimizer": "sgd"}) is None  # units_1 is missing
    assert space.project_config(complete | {"units_1": 1000}) is None
    wider = {**complete, "layers": 2, "units_2": 64}  # the second layer than the first
    assert space.project_config(wider) is None
    assert space_of(CONDITIONAL).project_config({}) is None
