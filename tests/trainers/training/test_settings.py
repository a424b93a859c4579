from __future__ import annotations

import numpy as np
import pytest

from trainers.errors import ConfigError
from trainers.training.settings import ADJUSTABLE, Settings, apply_changes, read_settings


def test_an_empty_configuration_gives_the_defaults() -> None:
    assert read_settings({}) == Settings()


def test_none_is_the_same_as_absent() -> None:
    assert read_settings({"dropout": None, "units_3": None, "start": None}) == Settings()


def test_each_hidden_layer_takes_its_own_units_or_the_default() -> None:
    chosen = read_settings({"layers": 3, "units_1": 10, "units_3": 7})
    assert chosen.units == (10, 64, 7)


def test_units_of_a_layer_that_is_not_there_have_no_effect() -> None:
    assert read_settings({"layers": 1, "units_1": 8, "units_2": 9}).units == (8,)


def test_the_start_follows_the_activation_unless_it_is_given() -> None:
    assert read_settings({"activation": "tanh"}).start == "xavier"
    assert read_settings({"activation": "tanh", "start": "he"}).start == "he"


def test_numpy_numbers_and_whole_floats_become_plain_ones() -> None:
    chosen = read_settings({"batch_size": np.float64(32.0), "learning_rate": np.float32(0.5)})
    assert (chosen.batch_size, type(chosen.batch_size)) == (32, int)
    assert (chosen.learning_rate, type(chosen.learning_rate)) == (0.5, float)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"momentum": 0.9, "lr": 1}, "unknown hyperparameter lr, momentum; known are .*beta"),
        ({"units_0": 4}, "unknown hyperparameter units_0"),
        ({"units": (4, 4)}, "unknown hyperparameter units"),
        ({"learning_rate": -0.1}, "learning_rate must be >= 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"learning_rate": float("inf")}, "finite"),
        ({"learning_rate": "0.1"}, "learning_rate must be a number"),
        ({"learning_rate": True}, "learning_rate must be a number"),
        ({"batch_size": 1}, "batch_size must be >= 2"),
        ({"batch_size": 32.5}, "whole number"),
        ({"batch_size": float("inf")}, "whole number"),
        ({"layers": 0}, "layers must be >= 1"),
        ({"units_2": 0}, "units_1 to units_2"),
        ({"dropout": 1.0}, "dropout must be >= 0 and < 1"),
        ({"batchnorm_epsilon": 0}, "batchnorm_epsilon must be >= 1e-30"),
        ({"batch_size": 10**400}, "whole number"),
        ({"learning_rate": 10**400}, "finite"),
        (
            {"optimizer": "no_such_optimizer"},
            "optimizer must be one of sgd, momentum, rmsprop, adam",
        ),
        ({"activation": 3}, "activation must be a string"),
    ],
)
def test_a_wrong_value_is_an_error_that_says_what_is_needed(
    config: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(config)


@pytest.mark.parametrize("key", ["units_1", "layers", "activation", "optimizer", "nonsense"])
def test_only_what_keeps_the_arrays_can_be_adjusted(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} cannot be changed.*{ADJUSTABLE[0]}"):
        apply_changes({}, {key: 1, "learning_rate": 0.1})
