from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.errors import ConfigError
from trainers.training.schedules import SCHEDULES, compute_learning_rate


def rate(schedule: str, epoch: int, *, k: float = 0.5) -> float:
    return compute_learning_rate(
        schedule, {"schedule_rate": k}, initial_rate=0.1, epoch=epoch, max_epochs=10
    )


def test_each_schedule_follows_its_formula() -> None:
    assert rate("constant", 7) == 0.1
    assert rate("inverse", 4) == pytest.approx(0.1 / 3)
    assert rate("exponential", 4) == pytest.approx(0.1 * math.exp(-2.0))
    assert rate("cosine", 5) == pytest.approx(0.05)


def test_cosine_is_zero_at_the_last_epoch_and_after_it() -> None:
    assert rate("cosine", 10) == 0.0
    assert rate("cosine", 25) == 0.0


@given(schedule=st.sampled_from([*SCHEDULES]), epoch=st.integers(0, 60), k=st.floats(0.0, 10.0))
def test_every_schedule_starts_at_the_given_rate_and_never_rises(
    schedule: str, epoch: int, k: float
) -> None:
    assert rate(schedule, 0, k=k) == 0.1
    assert 0.0 <= rate(schedule, epoch + 1, k=k) <= rate(schedule, epoch, k=k)


def test_an_unknown_schedule_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"cosine.*'steps'"):
        rate("steps", 0)
