from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.errors import ConfigError
from trainers.hyperparameters import Choice, Number
from trainers.network.activations import ACTIVATIONS
from trainers.network.starts import STARTS
from trainers.training.optimizers import OPTIMIZERS
from trainers.training.schedules import SCHEDULES
from trainers.training.settings import DEFAULTS, HYPERPARAMETERS, Settings

#: An optimizer as a reader might add it: one class with its two numbers, and nothing else.
ADDED = """
import numpy as np
from trainers.hyperparameters import Number
from trainers.network.arrays import prepare_call
from trainers.training.optimizers import OPTIMIZERS, Optimizer

@OPTIMIZERS.add(
    "signed",
    signed_scale=Number(default=0.5, below=10.0, argument="scale"),
    signed_power=Number(default=2, least=1, argument="power", adjustable=False),
)
class Signed(Optimizer):
    def __init__(self, parameters, gradient, *, scale, power):
        assert (scale, power) == (0.25, 2)
        super().__init__(parameters, gradient)
        self._calls = self._prepare(lambda p, g: [
            prepare_call(np.sign, g, g),
            prepare_call(np.multiply, g, 0.01 * scale, g),
            prepare_call(np.subtract, p, g, p),
        ])

from trainers.errors import ConfigError
from trainers.sklearn import BatchNormMLPClassifier
from trainers.training.settings import ADJUSTABLE, read_settings

assert read_settings({}).numbers["signed_power"] == 2
assert "signed_scale" in ADJUSTABLE and "signed_power" not in ADJUSTABLE
for wrong in ({"signed_scale": 10.0}, {"signed_power": 1.5}, {"signed_power": 0}):
    try:
        read_settings(wrong)
    except ConfigError as error:
        assert next(iter(wrong)) in str(error)
    else:
        raise AssertionError(wrong)
assert BatchNormMLPClassifier().get_params()["signed_power"] == 2
x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
fitted = BatchNormMLPClassifier(optimizer="signed", signed_scale=0.25, max_epochs=2).fit(x, y)
assert len(fitted.loss_curve_) == 2
"""


def test_an_optimizer_with_two_numbers_is_one_entry() -> None:
    subprocess.run([sys.executable, "-c", ADDED], check=True, timeout=60)


@pytest.mark.parametrize("choice", [OPTIMIZERS, SCHEDULES, ACTIVATIONS, STARTS])
def test_the_default_of_a_choice_is_one_of_its_options(choice: Choice[object]) -> None:
    assert choice.default in list(choice)
    assert choice.find(choice.default) is not None


@pytest.mark.parametrize("choice", [OPTIMIZERS, SCHEDULES, ACTIVATIONS, STARTS])
@given(name=st.one_of(st.text(), st.integers(), st.none()))
def test_a_name_that_is_no_option_is_an_error_that_lists_the_options(
    choice: Choice[object], name: object
) -> None:
    if name in list(choice):
        return
    with pytest.raises(ConfigError, match=f"{choice.key} must be one of {', '.join(choice)}"):
        choice.find(name)


def test_the_start_of_every_activation_is_one_of_the_starts() -> None:
    assert {ACTIVATIONS.find(name).start for name in ACTIVATIONS} <= set(STARTS)


def test_every_default_passes_its_own_check() -> None:
    settings = Settings()
    for key, hyperparameter in HYPERPARAMETERS.items():
        value = settings.numbers.get(key, getattr(settings, key, None))
        assert value == hyperparameter.default
        hyperparameter.check(key, value)  # type: ignore[arg-type]
    assert {key for key, value in DEFAULTS.items() if value is None} == {"start"}


@given(value=st.floats(allow_nan=True), least=st.floats(-5, 5), width=st.floats(0.1, 9))
def test_a_number_is_accepted_within_its_range_alone(
    value: float, least: float, width: float
) -> None:
    number = Number(default=least, least=least, below=least + width)
    if least <= value < least + width:
        number.check("speed", value)
    else:
        with pytest.raises(ConfigError, match=r"speed must be >= .* and < .*, got"):
            number.check("speed", value)


def test_one_number_of_two_options_must_be_one_declaration() -> None:
    choice: Choice[object] = Choice("gear", default="first")
    choice.add("first", speed=Number(default=1.0, argument="speed"))(object())
    with pytest.raises(AssertionError, match="speed is declared twice"):
        choice.add("second", speed=Number(default=2.0, argument="speed"))(object())
