from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_examples import CONDITIONAL, limit_examples, space_of

from orchestrator.search.objective import WORST, Score
from orchestrator.search.surrogate.advisor import BEST_RESULTS, BLOCK_SIZE, MAX_RESULTS, Advisor
from orchestrator.space.space import Space

PLAIN = "a: {linear: [0, 1]}\nb: {log: [1e-4, 1]}"


def make_score(loss: float) -> Score:
    return WORST if loss == math.inf else (loss, 0.0)


def make_advisor(
    space: Space, n: int, *, seed: int = 0, bad: float = 0.0, flat: bool = False, ask_every: int = 0
) -> Advisor:
    """Make an advisor with n trials; every third one has a result in two rungs."""
    advisor = Advisor(space, seed=seed, max_epochs=27)
    rng = np.random.default_rng(seed)
    for trial in range(n):
        point = space.canonicalise(rng.random((1, len(space))))[0]
        advisor.add_trial(point)
        advisor.mark_running(trial)
        loss = 1.0 if flat else float(np.nansum((point - 0.3) ** 2))
        advisor.mark_idle(trial)
        advisor.add_result(trial, 1, make_score(math.inf if rng.random() < bad else loss + 0.5))
        if trial % 3 == 0:
            advisor.add_result(trial, 4, make_score(loss + 0.2))
        if ask_every and trial % ask_every == 0 and advisor.ready:
            advisor.propose(trial)
    return advisor


@pytest.mark.parametrize("text", [PLAIN, CONDITIONAL])
@pytest.mark.parametrize("n", [20, 60, 300])
def test_advice_depends_on_the_results_not_on_when_it_was_asked(text: str, n: int) -> None:
    space = space_of(text)
    silent, curious = make_advisor(space, n), make_advisor(space, n, ask_every=2)
    a, b = silent.propose(n), curious.propose(n)
    np.testing.assert_array_equal(a.point, b.point)
    assert a.forecast == b.forecast
    (i, c), (j, d) = silent.choose_trial(range(0, n, 2)), curious.choose_trial(range(0, n, 2))
    assert (i, c) == (j, d)


@given(n=st.integers(0, 40), bad=st.sampled_from([0.0, 0.5, 1.0]), flat=st.booleans())
@limit_examples(25)
def test_whatever_comes_out_the_advice_is_a_point_of_the_space(
    n: int, bad: float, flat: bool
) -> None:
    space = space_of(CONDITIONAL)
    advisor = make_advisor(space, n, bad=bad, flat=flat)
    if not advisor.ready:
        return
    proposal = advisor.propose(n)
    config = space.to_config(np.nan_to_num(proposal.point, nan=0.5))
    np.testing.assert_allclose(space.to_point(config), proposal.point, atol=1e-9)
    forecast = proposal.forecast
    assert math.isfinite(forecast.expected)
    assert forecast.low <= forecast.expected <= forecast.high


@given(
    losses=st.lists(
        st.floats(allow_nan=False) | st.sampled_from([0.0, 5e-324, 1.0, 1e308, -1e308]),
        min_size=12,
        max_size=30,
    )
)
@limit_examples(60)
@pytest.mark.filterwarnings("error")
def test_losses_of_any_size_lead_to_finite_advice(losses: list[float]) -> None:
    space = space_of(PLAIN)
    advisor = Advisor(space, seed=0, max_epochs=27)
    rng = np.random.default_rng(0)
    for trial, loss in enumerate(losses):
        advisor.add_trial(rng.random(2))
        advisor.add_result(trial, 27, make_score(loss if loss > -math.inf else 0.0))
    if not advisor.ready:
        return
    proposal = advisor.propose(len(losses))
    assert np.isfinite(
        [proposal.forecast.expected, proposal.forecast.low, proposal.forecast.high]
    ).all()
    assert math.isfinite(advisor.choose_trial(range(len(losses)))[1].expected)


def test_the_model_is_not_asked_before_half_of_the_first_trials_are_back() -> None:
    space = space_of(PLAIN)
    advisor = Advisor(space, seed=0, max_epochs=27)
    for trial in range(advisor.initial_trials):
        assert not advisor.ready
        advisor.add_trial(np.full(2, 0.5))
        advisor.mark_running(trial)
    assert not advisor.ready
    for trial in range(advisor.initial_trials // 2):
        assert not advisor.ready
        advisor.add_result(trial, 1, make_score(math.inf if trial else 1.0))
    assert advisor.ready


def test_it_looks_where_results_were_good_and_not_where_trials_went_bad() -> None:
    space = space_of(PLAIN)
    advisor = Advisor(space, seed=0, max_epochs=27)
    rng = np.random.default_rng(0)
    for trial, point in enumerate(rng.random((40, 2))):
        advisor.add_trial(point)
        bad = point[0] > 0.6
        advisor.add_result(trial, 27, make_score(math.inf if bad else float((point[0] - 0.6) ** 2)))
    proposals = np.array([advisor.propose(i).point for i in range(40, 60)])
    assert (np.abs(proposals[:, 0] - 0.5) < 0.2).mean() > 0.7


def test_a_thousand_workers_get_a_thousand_configurations_from_one_fit() -> None:
    space = space_of(PLAIN)
    advisor = make_advisor(space, 30)
    advisor.propose(30)
    fitted = advisor._fitted_results
    points = []
    for trial in range(30, 1030):
        point = advisor.propose(trial).point
        advisor.add_trial(point)
        advisor.mark_running(trial)
        points.append(tuple(point))
    assert advisor._fitted_results == fitted
    assert len(set(points)) == 1000
    spread = np.array(points).std(axis=0)
    assert (spread > 0.05).all()  # not a thousand times the same spot


def test_the_model_stays_small_however_many_results_there_are() -> None:
    space = space_of(PLAIN)
    advisor = Advisor(space, seed=0, max_epochs=27)
    rng = np.random.default_rng(0)
    for trial, point in enumerate(rng.random((1000, 2))):
        advisor.add_trial(point)
        advisor.add_result(trial, 1, make_score(float(rng.random())))
        if trial % 7 == 0 and advisor.ready:
            assert len(advisor._fit_all_results().posterior) <= MAX_RESULTS + BLOCK_SIZE
    base = advisor._fit_all_results()
    scores = list(zip(advisor._loss_of_result, advisor._tie_of_result, strict=True))
    best = sorted(range(base.block_start), key=lambda i: (scores[i], i))[:BEST_RESULTS]
    assert set(best) <= set(base.results)


def test_what_is_inactive_does_not_count() -> None:
    space = space_of("kind: {choice: [x, y]}\nrate: {linear: [0, 1], when: {kind: x}}")
    advisor = Advisor(space, seed=0, max_epochs=9)
    apart = np.array([[0.75, np.nan], [0.75, np.nan], [0.25, 0.1], [0.25, 0.9]])
    rows = advisor._make_inputs(apart)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert np.linalg.norm(rows[2] - rows[3]) == pytest.approx(0.8)
    assert np.linalg.norm(rows[0] - rows[2]) == pytest.approx(np.hypot(1.0, 0.4))


def test_where_losses_are_equal_the_metric_that_breaks_ties_shows_the_way() -> None:
    space = space_of(PLAIN)
    advisor = Advisor(space, seed=0, max_epochs=27)
    rng = np.random.default_rng(0)
    for trial, point in enumerate(rng.random((40, 2))):
        advisor.add_trial(point)
        advisor.add_result(trial, 27, (0.1, float((point[0] - 0.25) ** 2)))
    proposals = np.array([advisor.propose(i).point for i in range(40, 60)])
    assert (np.abs(proposals[:, 0] - 0.25) < 0.15).mean() > 0.7
