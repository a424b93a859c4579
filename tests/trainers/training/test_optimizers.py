from __future__ import annotations

import numpy as np
import pytest
import textbook_network as textbook
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.errors import ConfigError, StateError
from trainers.network.arrays import Array
from trainers.training.optimizers import (
    OPTIMIZERS,
    Optimizer,
    make_optimizer,
    prepare_weight_decay,
)
from trainers.training.settings import read_settings

NAMES = ("sgd", "momentum", "rmsprop", "adam")


def make(config: dict[str, object], parameters: Array, gradient: Array) -> Optimizer:
    """The optimizer of a configuration."""
    settings = read_settings(config)
    return make_optimizer(settings.optimizer, settings.numbers, parameters, gradient)


@given(name=st.sampled_from(NAMES), size=st.integers(1, 9), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_optimizer_equals_its_textbook_rule_over_many_steps(
    name: str, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    fast, gradient = rng.normal(size=size), np.empty(size)
    plain = fast.copy()
    optimizer = make({"optimizer": name}, fast, gradient)
    oracle = textbook.Optimizer(name)
    for rate in (0.1, 0.1, 0.05, 0.01, 0.0, 0.2, 0.1):
        g = rng.normal(size=size)
        gradient[:] = g
        optimizer.step(rate)
        plain = oracle.updated(plain, g, rate)
        np.testing.assert_allclose(fast, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_optimizer_takes_the_same_steps_bit_for_bit(name: str) -> None:
    def steps(optimizer: Optimizer, count: int) -> None:
        for _ in range(count):
            gradient[:] = rng.normal(size=5)
            optimizer.step(0.1)

    chosen: dict[str, object] = {"optimizer": name}
    rng, gradient, parameters = np.random.default_rng(0), np.empty(5), np.ones(5)
    first = make(chosen, parameters, gradient)
    steps(first, 3)
    state, halfway, generator = first.state(), parameters.copy(), rng.bit_generator.state
    steps(first, 3)
    through, parameters[:] = parameters.copy(), halfway
    rng.bit_generator.state = generator
    second = make(chosen, parameters, gradient)
    second.load(state)
    steps(second, 3)
    assert (parameters == through).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_large_array_is_updated_in_blocks_as_it_would_be_at_once(name: str) -> None:
    rng = np.random.default_rng(3)
    start, gradients = rng.normal(size=800_003), rng.normal(size=(2, 800_003))
    blocks, gradient = start.copy(), np.empty_like(start)
    optimizer = make({"optimizer": name}, blocks, gradient)
    oracle, plain = textbook.Optimizer(name), start
    for g in gradients:
        gradient[:] = g
        optimizer.step(0.1)
        plain = oracle.updated(plain, g, 0.1)
    np.testing.assert_allclose(blocks, plain, rtol=1e-10, atol=1e-12)


def test_adam_with_a_constant_gradient_moves_by_the_rate() -> None:
    parameters, gradient = np.zeros(3), np.empty(3)
    adam = make({}, parameters, gradient)
    for _ in range(10):
        gradient[:] = [1e-3, -1.0, 50.0]
        adam.step(0.1)
    np.testing.assert_allclose(parameters, [-1.0, 1.0, -1.0], rtol=1e-4)


def test_adams_mean_stays_unbiased_when_its_decay_is_adjusted() -> None:
    parameters, gradient = np.zeros(1), np.empty(1)
    slow = make({"adam_beta1": 0.99}, parameters, gradient)
    gradient[:] = 2.0
    slow.step(0.1)
    quick = make({"adam_beta1": 0.5}, parameters, gradient)
    quick.load(slow.state())
    gradient[:] = 2.0
    quick.step(0.1)
    # The mean of equal gradients is that gradient, so both steps are as long as the rate.
    np.testing.assert_allclose(parameters, -0.2, rtol=1e-6)


def test_weight_decay_is_the_gradient_of_half_the_squared_norm() -> None:
    weights, gradient = np.array([1.0, -2.0]), np.array([0.5, 0.5])
    for each in prepare_weight_decay(gradient, weights, 0.1):
        each()
    np.testing.assert_allclose(gradient, [0.6, 0.3])


def test_a_state_of_another_size_is_an_error_that_names_the_key() -> None:
    small = make({}, np.zeros(3), np.zeros(3))
    large = make({}, np.zeros(4), np.zeros(4))
    with pytest.raises(StateError, match=r"optimizer\.sum"):
        large.load(small.state())


def test_an_unknown_optimizer_is_an_error_and_not_another_optimizer() -> None:
    with pytest.raises(ConfigError, match=r"sgd, momentum, rmsprop, adam, got 'no_such_optimizer'"):
        make_optimizer("no_such_optimizer", read_settings({}).numbers, np.zeros(2), np.zeros(2))


def test_every_number_of_an_optimizer_reaches_its_rule() -> None:
    for name in NAMES:
        for key in OPTIMIZERS.find_numbers(name):
            steps = []
            for config in ({}, {key: 0.5}):
                parameters, gradient = np.ones(3), np.empty(3)
                optimizer = make({"optimizer": name, **config}, parameters, gradient)
                for size in (1.0, 2.0, -1.0):
                    gradient[:] = [size, 3 * size, 1.0]
                    optimizer.step(0.1)
                steps.append(parameters)
            assert (steps[0] != steps[1]).any(), key
