from __future__ import annotations

import itertools
import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from search_examples import limit_examples

from orchestrator.search.events import Kind
from orchestrator.search.objective import WORST, Score
from orchestrator.search.pruning.asha import Asha
from orchestrator.search.pruning.base import Promotion
from orchestrator.search.pruning.hyperband import Hyperband
from orchestrator.search.pruning.median import Median
from orchestrator.search.pruning.none import NoPruning
from orchestrator.search.rungs import geometric_rungs, wide_rungs

# ---------------------------------------------------------------------- rungs


@pytest.mark.parametrize(
    ("max_epochs", "eta", "rungs"),
    [
        (1, 3, (1,)),
        (2, 3, (1, 2)),
        (3, 3, (1, 3)),
        (4, 3, (1, 3, 4)),
        (27, 3, (1, 3, 9, 27)),
        (52, 3, (1, 3, 9, 27, 52)),
        (64, 4, (1, 4, 16, 64)),
        (100, 2, (1, 2, 4, 8, 16, 32, 64, 100)),
        (243, 3, (1, 3, 9, 27, 81, 243)),
        (1000, 10, (1, 10, 100, 1000)),
    ],
)
def test_rungs_are_the_powers_of_eta_below_the_last_epoch_and_the_last_epoch(
    max_epochs: int, eta: int, rungs: tuple[int, ...]
) -> None:
    assert geometric_rungs(max_epochs=max_epochs, eta=eta) == rungs


@given(max_epochs=st.integers(1, 10**6), eta=st.integers(2, 12))
@limit_examples(100)
def test_rungs_rise_to_max_epochs_and_never_by_more_than_eta(max_epochs: int, eta: int) -> None:
    rungs = geometric_rungs(max_epochs=max_epochs, eta=eta)
    assert rungs[0] == 1 and rungs[-1] == max_epochs
    for low, high in itertools.pairwise(rungs):
        assert low < high <= low * eta
    powers = [eta**k for k in range(21) if eta**k < max_epochs]
    assert list(rungs[:-1]) == powers


@given(max_epochs=st.integers(1, 10**6))
@limit_examples(100)
def test_wide_rungs_are_at_most_four_and_rise_to_max_epochs(max_epochs: int) -> None:
    rungs = wide_rungs(max_epochs)
    assert 1 <= len(rungs) <= 4
    assert rungs[0] >= 1 and rungs[-1] == max_epochs
    assert list(rungs) == sorted(set(rungs))


def test_wide_rungs_of_52_epochs_are_those_that_were_measured() -> None:
    assert wide_rungs(52) == (2, 7, 20, 52)


# ---------------------------------------------------------------------- ASHA, as in the paper


class Paper:
    """Algorithm 2 of arXiv:1810.05934, `get_job`, by brute force.

    `rungs[k]` holds (score, trial) of all that reached rung k; a trial whose loss is not finite is
    counted and never promoted, the one thing that the paper leaves open.
    """

    def __init__(self, rungs: int, eta: int) -> None:
        self.rungs: list[list[tuple[Score, int]]] = [[] for _ in range(rungs)]
        self.promoted: list[set[int]] = [set() for _ in range(rungs)]
        self.gone: list[set[int]] = [set() for _ in range(rungs)]
        self.eta = eta

    def get_job(self) -> tuple[int, int] | None:
        for k in reversed(range(len(self.rungs) - 1)):
            best = sorted(self.rungs[k])[: len(self.rungs[k]) // self.eta]
            for score, trial in best:
                taken = self.promoted[k] | self.gone[k]
                if trial not in taken and score[0] < math.inf:
                    return trial, k
        return None


losses = st.one_of(st.integers(0, 4).map(float), st.floats(0, 1), st.just(math.inf))
moves = st.lists(
    st.tuples(losses, st.sampled_from(["new", "new", "promote", "evict"])), max_size=60
)


@given(moves=moves, eta=st.integers(2, 4), rungs=st.sampled_from([(1,), (1, 3), (1, 2, 5, 9)]))
@limit_examples(120)
def test_asha_promotes_the_trial_that_the_papers_algorithm_promotes(
    moves: list[tuple[float, str]], eta: int, rungs: tuple[int, ...]
) -> None:
    ours, paper = Asha(rungs=rungs, eta=eta), Paper(len(rungs), eta)
    trials = 0
    for loss, move in moves:
        score = (loss, 0.0) if loss < math.inf else WORST
        wanted = paper.get_job()
        promotion = ours.choose_promotion(last_call=False)
        assert (promotion and (promotion.trial, promotion.start_epoch)) == (
            wanted and (wanted[0], rungs[wanted[1]])
        )
        if move == "evict":
            weakest = ours.choose_eviction(range(10**6))
            assert weakest == by_hand_least_promising(paper)
            if weakest is not None:
                k = max(k for k in range(len(rungs)) if has_score(paper, k, weakest))
                paper.gone[k].add(weakest)
                ours.remove_waiting(weakest, rungs[k])
        elif move == "promote" and promotion is not None and wanted is not None:
            trial, k = wanted
            assert promotion.stop_epoch == rungs[k + 1]
            assert promotion.reason
            paper.promoted[k].add(trial)
            ours.remove_waiting(trial, rungs[k])
            paper.rungs[k + 1].append((score, trial))
            ours.add_score(trial, rungs[k + 1], score)
        else:
            paper.rungs[0].append((score, trials))
            ours.add_score(trials, rungs[0], score)
            trials += 1


def has_score(paper: Paper, k: int, trial: int) -> bool:
    return any(t == trial for _, t in paper.rungs[k])


def by_hand_least_promising(paper: Paper) -> int | None:
    """Find the worst waiting trial of the lowest rung with one, below the last rung."""
    for k in range(len(paper.rungs) - 1):
        taken = paper.promoted[k] | paper.gone[k]
        waiting = [e for e in paper.rungs[k] if e[1] not in taken and e[0][0] < math.inf]
        if waiting:
            return max(waiting)[1]
    return None


@given(scores=st.lists(st.floats(0, 1), min_size=3, max_size=30, unique=True))
@limit_examples(60)
def test_the_best_so_far_goes_on_as_soon_as_eta_have_reached_its_rung(scores: list[float]) -> None:
    asha = Asha(rungs=(1, 3, 9), eta=3)
    for trial, loss in enumerate(scores):
        asha.add_score(trial, 1, (loss, 0.0))
        promotion = asha.choose_promotion(last_call=False)
        best = int(np.argmin(scores[: trial + 1]))
        if trial < 2:
            assert promotion is None
        else:
            assert promotion is not None
            assert promotion.trial == best
            assert (promotion.comparison.rank, promotion.comparison.peers) == (1, trial + 1)


def test_the_topmost_rung_is_served_first() -> None:
    asha = Asha(rungs=(1, 3, 9), eta=2)
    for trial in range(4):
        asha.add_score(trial, 1, (float(trial), 0.0))
    for trial in (0, 1):
        asha.remove_waiting(trial, 1)
        asha.add_score(trial, 3, (5.0 - trial, 0.0))
    for trial in (8, 9):  # now rung 1 has a third one to promote, and rung 3 a first
        asha.add_score(trial, 1, (-1.0, 0.0))
    promotion = asha.choose_promotion(last_call=False)
    assert isinstance(promotion, Promotion)
    assert (promotion.trial, promotion.start_epoch, promotion.stop_epoch) == (1, 3, 9)


def test_of_two_that_are_equal_the_older_goes_on() -> None:
    asha = Asha(rungs=(1, 3), eta=2)
    for trial in (5, 3, 4):
        asha.add_score(trial, 1, (1.0, 0.0))
    promotion = asha.choose_promotion(last_call=False)
    assert promotion is not None and promotion.trial == 3


def test_ties_in_the_metric_are_broken_by_the_second_one() -> None:
    asha = Asha(rungs=(1, 3), eta=2)
    asha.add_score(0, 1, (1.0, 0.7))
    asha.add_score(1, 1, (1.0, 0.2))
    promotion = asha.choose_promotion(last_call=False)
    assert promotion is not None and promotion.trial == 1


@given(bad=st.integers(0, 8), good=st.integers(0, 8))
@limit_examples(60)
def test_what_went_bad_counts_in_its_rung_and_is_never_promoted(bad: int, good: int) -> None:
    asha = Asha(rungs=(1, 3), eta=3)
    for trial in range(bad + good):
        asha.add_score(trial, 1, WORST if trial < bad else (float(trial), 0.0))
    promoted = []
    while (promotion := asha.choose_promotion(last_call=False)) is not None:
        promoted.append(promotion.trial)
        asha.remove_waiting(promotion.trial, 1)
    assert promoted == list(range(bad, bad + good))[: (bad + good) // 3]
    assert all(t >= bad for t in promoted)


def test_on_the_last_call_the_best_that_waits_anywhere_goes_on() -> None:
    asha = Asha(rungs=(1, 3, 9), eta=3)
    for trial, loss in enumerate([0.5, 0.4]):
        asha.add_score(trial, 1, (loss, 0.0))
    asha.add_score(7, 3, (0.45, 0.0))
    assert asha.choose_promotion(last_call=False) is None
    promotion = asha.choose_promotion(last_call=True)
    assert promotion is not None
    assert (promotion.trial, promotion.start_epoch, promotion.stop_epoch) == (1, 1, 3)
    for trial, epoch in ((0, 1), (1, 1), (7, 3)):
        asha.remove_waiting(trial, epoch)
    assert asha.choose_promotion(last_call=True) is None


def test_a_trial_in_the_last_rung_has_ended() -> None:
    asha = Asha(rungs=(1, 3), eta=3)
    asha.add_score(0, 3, (0.1, 0.0))
    assert asha.judge(0, 3, (0.1, 0.0)).kind is Kind.COMPLETE
    assert asha.choose_promotion(last_call=True) is None
    assert asha.choose_eviction(range(10**6)) is None


@given(scores=st.lists(st.integers(0, 5), min_size=1, max_size=20))
@limit_examples(60)
def test_a_verdict_names_the_place_among_all_that_reached_the_rung(scores: list[int]) -> None:
    asha = Asha(rungs=(1, 3), eta=3)
    for trial, loss in enumerate(scores):
        asha.add_score(trial, 1, (float(loss), 0.0))
        verdict = asha.judge(trial, 1, (float(loss), 0.0))
        so_far = sorted(scores[: trial + 1])
        keep = (trial + 1) // 3
        assert verdict.kind is Kind.PAUSE and verdict.comparison.rung == 1 and verdict.reason
        assert (verdict.comparison.rank, verdict.comparison.peers) == (
            sum(s <= loss for s in so_far),
            trial + 1,
        )
        assert verdict.comparison.cutoff == (so_far[keep - 1] if keep else None)


# ---------------------------------------------------------------------- the median rule


def brute_force_median(history: list[list[float]], trial: int, epoch: int) -> bool:
    """Whether a trial is stopped: Golovin et al. 2017, 3.2.2, against all that got to the epoch.

    Of an even number of others the upper one of the middle two counts.
    """
    others = [
        statistics.fmean(losses[:epoch])
        for other, losses in enumerate(history)
        if other != trial and len(losses) >= epoch
    ]
    if epoch < 3 or len(others) < 5:
        return False
    return min(history[trial][:epoch]) > statistics.median_high(others)


@given(turns=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 64)), min_size=30, max_size=90))
@example(turns=[(t, t) for _ in range(4) for t in range(10)])
@limit_examples(60)
def test_the_median_rule_stops_the_trials_that_a_brute_force_rule_stops(
    turns: list[tuple[int, int]],
) -> None:
    """Losses are eighths, so that sums and means of four are exact."""
    rule = Median(max_epochs=4)
    history: list[list[float]] = [[] for _ in range(10)]
    over: set[int] = set()
    for trial, eighths in turns:
        if trial in over or len(history[trial]) == 4:
            continue
        loss = float(Fraction(eighths, 8))
        history[trial].append(loss)
        epoch = len(history[trial])
        rule.remove_waiting(trial, epoch - 1)
        rule.add_score(trial, epoch, (loss, 0.0))
        verdict = rule.judge(trial, epoch, (loss, 0.0))
        if epoch == 4:
            assert verdict.kind is Kind.COMPLETE
        elif epoch != 3:  # thirds are not exact: two ways to sum may fall on two sides of a tie
            assert (verdict.kind is Kind.PRUNE) == brute_force_median(history, trial, epoch)
        else:
            stopped = brute_force_median(history, trial, epoch)
            tie = (
                verdict.comparison.cutoff is not None
                and abs(min(history[trial]) - verdict.comparison.cutoff) < 1e-9
            )
            assert tie or (verdict.kind is Kind.PRUNE) == stopped
        if verdict.kind is Kind.PRUNE:
            rule.remove_waiting(trial, epoch)
            over.add(trial)


def test_the_median_rule_lets_everyone_go_on_in_the_order_they_came() -> None:
    rule = Median(max_epochs=9)
    for trial in (2, 0, 1):
        rule.add_score(trial, 1, (float(trial), 0.0))
    promoted = []
    while (promotion := rule.choose_promotion(last_call=False)) is not None:
        assert (promotion.start_epoch, promotion.stop_epoch) == (1, 2)
        promoted.append(promotion.trial)
        rule.remove_waiting(promotion.trial, 1)
    assert promoted == [2, 0, 1]


def test_of_those_that_wait_the_median_rule_gives_up_the_worst_best() -> None:
    rule = Median(max_epochs=9)
    for trial, losses in enumerate([[1.0, 5.0], [2.0, 2.0], [3.0, 0.5]]):
        for epoch, loss in enumerate(losses, 1):
            rule.add_score(trial, epoch, (loss, 0.0))
    assert rule.choose_eviction(range(10**6)) == 1
    rule.remove_waiting(1, 2)
    assert rule.choose_eviction(range(10**6)) == 0


def test_a_loss_that_is_not_finite_never_waits_under_the_median_rule() -> None:
    rule = Median(max_epochs=9)
    rule.add_score(0, 1, WORST)
    assert rule.choose_promotion(last_call=True) is None
    assert rule.choose_eviction(range(10**6)) is None


# ---------------------------------------------------------------------- none


def test_without_pruning_a_trial_trains_to_the_end_in_one_go() -> None:
    rule = NoPruning(max_epochs=9)
    assert rule.choose_first_stop(0) == 9
    rule.add_score(0, 9, (1.0, 0.0))
    assert rule.judge(0, 9, (1.0, 0.0)).kind is Kind.COMPLETE
    assert rule.choose_promotion(last_call=True) is None
    assert rule.choose_eviction(range(10**6)) is None


# ---------------------------------------------------------------------- Hyperband


def test_the_brackets_of_81_epochs_are_those_of_algorithm_1() -> None:
    # ceil(5 * 3^s / (s + 1)) trials for s = 4 … 0, beginning with 1, 3, 9, 27, 81 epochs
    rule = Hyperband(rungs=(1, 3, 9, 27, 81), eta=3)
    assert rule.sizes == (81, 34, 15, 8, 5)
    stops = [rule.choose_first_stop(trial) for trial in range(2 * 143)]
    assert stops[:143] == [1] * 81 + [3] * 34 + [9] * 15 + [27] * 8 + [81] * 5
    assert stops[143:] == stops[:143]


@given(max_epochs=st.integers(1, 300), eta=st.integers(2, 5))
@limit_examples(60)
def test_every_bracket_of_hyperband_costs_about_the_same(max_epochs: int, eta: int) -> None:
    rungs = geometric_rungs(max_epochs=max_epochs, eta=eta)
    rule = Hyperband(rungs=rungs, eta=eta)
    most = len(rungs) - 1
    for size, s in zip(rule.sizes, range(most, -1, -1), strict=True):
        exact = Fraction((most + 1) * eta**s, s + 1)
        assert exact <= size < exact + 1


@given(seed=st.integers(0, 10**6))
@limit_examples(20)
def test_a_trial_is_compared_with_those_of_its_bracket_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rungs = (1, 3, 9)
    ours = Hyperband(rungs=rungs, eta=3)
    separate = [Asha(rungs=rungs[i:], eta=3) for i in range(3)]
    for trial in rng.permutation(60):
        bracket = ours.find_bracket(int(trial))
        epoch = ours.choose_first_stop(int(trial))
        score = (float(rng.random()), 0.0)
        ours.add_score(int(trial), epoch, score)
        separate[bracket].add_score(int(trial), epoch, score)
        assert ours.judge(int(trial), epoch, score) == separate[bracket].judge(
            int(trial), epoch, score
        )
    wanted = [a.choose_promotion(last_call=False) for a in separate]
    assert ours.choose_promotion(last_call=False) == next((p for p in wanted if p), None)
