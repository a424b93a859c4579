"""What a session may use, from what the run had, what it has used, and what is added."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import RunError
from orchestrator.search.budget import DEFAULT_SECONDS, Budget, extend_budget, remaining

KINDS = ("seconds", "trials", "epochs")
counts = st.integers(1, 10**6)
budgets = st.builds(
    Budget,
    seconds=st.none() | st.integers(1, 10**6).map(float),
    trials=st.none() | counts,
    epochs=st.none() | counts,
)
limited = budgets.filter(lambda b: not b.unlimited)
usages = st.builds(Budget, seconds=st.integers(0, 10**6).map(float), trials=counts, epochs=counts)


@given(total=budgets, added=limited, used=usages, used_up=st.booleans())
def test_what_is_added_counts_on_top_of_the_old_limit_or_of_what_has_been_used(
    total: Budget, added: Budget, used: Budget, used_up: bool
) -> None:
    extended = asdict(extend_budget(total, added, used, used_up=used_up))
    for kind in KINDS:
        more, limit, spent = getattr(added, kind), getattr(total, kind), getattr(used, kind)
        if more is None:
            assert extended[kind] is None  # a kind that is not named is dropped
        elif limit is None:
            assert extended[kind] == spent + more  # a new kind starts counting now
        else:
            assert extended[kind] == limit + more


@given(total=limited, used=usages)
def test_with_nothing_added_the_rest_of_the_old_budget_is_used(total: Budget, used: Budget) -> None:
    assert extend_budget(total, Budget(), used, used_up=False) == total


@given(total=limited, used=usages)
def test_nothing_added_to_a_budget_that_is_used_up_is_refused(total: Budget, used: Budget) -> None:
    with pytest.raises(RunError, match="used up its budget"):
        extend_budget(total, Budget(), used, used_up=True)


@given(used=usages)
def test_a_run_without_any_budget_searches_for_the_default_time_from_now(used: Budget) -> None:
    extended = extend_budget(Budget(), Budget(), used, used_up=False)
    assert used.seconds is not None
    assert extended == Budget(seconds=used.seconds + DEFAULT_SECONDS)


@given(total=budgets, first=limited, second=limited, used=usages)
def test_what_is_added_twice_is_the_sum_where_both_name_a_kind(
    total: Budget, first: Budget, second: Budget, used: Budget
) -> None:
    once = extend_budget(total, first, used, used_up=False)
    twice = extend_budget(once, second, used, used_up=False)
    for kind in KINDS:
        a, b = getattr(first, kind), getattr(second, kind)
        if a is not None and b is not None:
            assert getattr(twice, kind) == getattr(once, kind) + b
            assert getattr(twice, kind) >= a + b


@given(budget=budgets)
def test_limits_are_those_that_are_named(budget: Budget) -> None:
    assert budget.limits() == {k: v for k, v in asdict(budget).items() if v is not None}
    assert budget.unlimited == (budget.limits() == {})


@given(limit=counts, used=counts)
def test_what_remains_and_what_is_used_are_the_limit(limit: int, used: int) -> None:
    assert remaining(limit, used) + used == limit
    assert remaining(None, used) == float("inf")
