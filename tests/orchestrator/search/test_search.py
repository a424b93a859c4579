from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from search_examples import (
    CONDITIONAL,
    Play,
    apply_log,
    describe_search,
    draw_loss,
    encode_events,
    limit_examples,
    make_search,
    play_out,
    report_of,
    run_in_another_process,
    select_events,
    spec_of,
)

from orchestrator.search.budget import Budget
from orchestrator.search.events import Event, Kind
from orchestrator.search.messages import Assignment, Failure, Observation
from orchestrator.search.objective import WORST
from orchestrator.search.search import Search
from orchestrator.search.surrogate import advisor
from orchestrator.search.trial import Status
from pipelines.runs.spec import Spec

every_pruning = pytest.mark.parametrize(
    "pruning", ["shares", "asha", "hyperband", "median", "none"]
)


def start_play(spec: Spec, *, count: int = 1, budget: Budget | None = None) -> Play:
    """Make a play in which `count` trials are being trained."""
    play = Play(spec, budget=budget or Budget(trials=20))
    for _ in range(count):
        assert play.suggest()
    return play


# ---------------------------------------------------------------------- whatever happens


class AnyRun(RuleBasedStateMachine):
    """Workers in any order, any losses, any mishaps, sessions that end at any moment."""

    @initialize(
        pruning=st.sampled_from(["shares", "shares", "asha", "hyperband", "median", "none"]),
        sampler=st.sampled_from(["sobol", "random", "grid"]),
        initial=st.booleans(),
        budget=st.sampled_from([Budget(trials=12), Budget(epochs=25), Budget(seconds=40.0)]),
        audit=st.sampled_from([0.0, 0.0, 0.4]),
        seed=st.integers(0, 3),
    )
    def begin(
        self, pruning: str, sampler: str, initial: bool, budget: Budget, audit: float, seed: int
    ) -> None:
        self.early = patch.object(advisor, "INITIAL_TRIALS", 4)  # the model is asked early
        self.early.start()
        first = {"rate": 0.1, "width": 8, "kind": "a"}
        spec = spec_of(
            pruning=pruning, sampler=sampler, initial_configs=[first] * initial, eta=2, zooms=2,
            retries=1, grid_levels=2, audit=audit,
        )  # fmt: skip
        self.play = Play(spec, seed=seed, budget=budget)

    @precondition(lambda self: len(self.play.out) < 4)
    @rule()
    def a_worker_asks(self) -> None:
        self.play.suggest()

    @precondition(lambda self: self.play.out)
    @rule(who=st.integers(0, 3), loss=st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4, math.inf]))
    def an_epoch_is_reported(self, who: int, loss: float) -> None:
        self.play.report(self._running(who), loss)

    @precondition(lambda self: self.play.out)
    @rule(who=st.integers(0, 3), loss=st.floats(0, 1))
    def an_assignment_is_trained_to_its_end(self, who: int, loss: float) -> None:
        trial = self._running(who)
        while trial in self.play.out:
            self.play.report(trial, loss)

    @precondition(lambda self: self.play.out)
    @rule(who=st.integers(0, 3))
    def a_training_loss_explodes(self, who: int) -> None:
        self.play.report(self._running(who), 1e9, cause="train_loss 1e9 exploded above 1e4")

    @precondition(lambda self: self.play.out)
    @rule(who=st.integers(0, 3), kind=st.sampled_from(["raised", "lost"]))
    def a_worker_fails(self, who: int, kind: str) -> None:
        self.play.fail(self._running(who), kind)

    @rule(which=st.integers(0, 99))
    def a_report_comes_again(self, which: int) -> None:
        self.play.repeat(which)

    @rule()
    def the_states_need_too_much_room(self) -> None:
        self.play.evict()

    @rule(more=st.sampled_from([0, 6]))
    def a_session_ends_and_another_goes_on(self, more: int) -> None:
        b = self.play.search.budget
        self.play.resume(
            Budget(
                trials=b.trials and b.trials + more,
                epochs=b.epochs and b.epochs + more,
                seconds=b.seconds and b.seconds + more,
            )
        )

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "play"):
            self.play.check()

    def teardown(self) -> None:
        if hasattr(self, "play"):
            self.play.check_replay()
            self.early.stop()

    def _running(self, who: int) -> int:
        running = sorted(self.play.out)
        return running[who % len(running)]


TestAnyRun = AnyRun.TestCase
TestAnyRun.settings = limit_examples(60)


@every_pruning
@given(seed=st.integers(0, 2**32), workers=st.integers(1, 6), mishaps=st.sampled_from([0, 0.1]))
@limit_examples(12)
def test_a_budget_of_trials_is_never_exceeded_and_one_trial_trains_to_the_end(
    pruning: str, seed: int, workers: int, mishaps: float
) -> None:
    spec = spec_of(pruning=pruning)
    play = Play(spec, seed=seed, budget=Budget(trials=15))
    play_out(play, np.random.default_rng(seed), workers=workers, loss=draw_loss, mishaps=mishaps)
    counts = play.search.counts
    assert len(play.search.trials) == 15
    assert not play.out and play.search.is_settled()
    assert counts[Status.COMPLETED] or not counts[Status.PAUSED]
    for trial in play.search.trials.values():
        assert trial.status is not Status.COMPLETED or trial.epoch == spec.max_epochs


# ---------------------------------------------------------------------- the same again


def hash_decisions(seed: int) -> str:
    """A hash of all that a search with every feature decides."""
    spec = spec_of(CONDITIONAL, retries=1, sampler="sobol")
    play = Play(spec, seed=seed, budget=Budget(trials=60))
    play_out(play, np.random.default_rng(1), workers=4, loss=draw_loss, mishaps=0.05, steps=60)
    play.resume(Budget(trials=80))
    play_out(play, np.random.default_rng(2), workers=4, loss=draw_loss, mishaps=0.05)
    assert set(Kind) - {e.kind for e in play.log if isinstance(e, Event)} == {
        Kind.PRUNE, Kind.TEST, Kind.END, Kind.ADJUST
    }  # fmt: skip
    return hashlib.sha256(repr(play.log).encode()).hexdigest()


def test_same_seed_and_same_reports_same_events_and_another_seed_others() -> None:
    assert hash_decisions(3) == hash_decisions(3) != hash_decisions(4)


_REPLAY = """
from search_examples import *
spec = spec_of(CONDITIONAL, pruning="shares", max_epochs=27)
play = Play(spec, seed=5, budget=Budget(epochs=2000))
play_out(play, np.random.default_rng(5), workers=4, loss=draw_loss)
reports = sum(isinstance(e, Observation) for e in play.log)
import hashlib
print(reports, hashlib.sha256(repr(play.log).encode()).hexdigest())
"""


def test_2000_reports_lead_to_the_same_suggestions_in_two_processes() -> None:
    first, second = (run_in_another_process(_REPLAY, hash_seed=h) for h in (1, 2))
    assert first == second
    assert int(first.split()[0]) >= 2000


def test_another_process_with_another_hash_seed_decides_the_same() -> None:
    code = "from test_search import *; print(hash_decisions(3))"
    assert run_in_another_process(code) == hash_decisions(3)


@pytest.mark.parametrize("pruning", ["asha", "median"])
def test_replaying_any_beginning_of_a_log_gives_the_state_of_that_moment(pruning: str) -> None:
    spec = spec_of(pruning=pruning)
    play = Play(spec, budget=Budget(trials=12))
    play_out(play, np.random.default_rng(0), workers=3, loss=draw_loss, mishaps=0.05)
    live = make_search(spec)
    for i, entry in enumerate(play.log):
        live.apply(entry)
        if i % 7 == 0:
            assert describe_search(apply_log(spec, play.log[: i + 1])) == describe_search(live)
    assert describe_search(live) == describe_search(play.search)


# ---------------------------------------------------------------------- starting


def test_initial_configurations_come_first_then_the_sampler() -> None:
    configs = [{"rate": 0.1, "width": 8, "kind": "a"}, {"rate": 0.5, "width": 16, "kind": "b"}]
    play = start_play(spec_of(initial_configs=configs), count=4)
    starts = select_events(play, Kind.START)
    assert [e.config for e in starts[:2]] == configs
    assert [e.stage for e in starts] == ["given", "given", "coarse", "coarse"]
    plain = select_events(start_play(spec_of(), count=2), Kind.START)
    assert [e.config for e in starts[2:]] == [e.config for e in plain]


def test_every_trial_has_a_seed_of_its_own_that_fits_a_column() -> None:
    play = start_play(spec_of(), count=20)
    seeds = [e.seed for e in select_events(play, Kind.START)]
    assert len(set(seeds)) == 20 and all(0 <= seed < 2**63 for seed in seeds)


def test_a_start_tells_the_coordinates_of_what_is_active() -> None:
    play = start_play(spec_of(CONDITIONAL), count=10)
    for e in select_events(play, Kind.START):
        active = {d.name for d in play.search.space.dimensions} & e.config.keys()
        assert e.unit.keys() == active
        assert all(0 <= u <= 1 for u in e.unit.values())


# ---------------------------------------------------------------------- reports and failures


def test_a_report_of_an_earlier_attempt_or_out_of_turn_changes_nothing() -> None:
    play = start_play(spec_of(pruning="none"))
    first, _ = play.out[0]
    play.report(0, 0.5)
    play.fail(0, "lost")
    before = describe_search(play.search)
    for late in (
        report_of(first, 2, 0.1),
        report_of(play.out[0][0], 1, 0.1),
        report_of(play.out[0][0], 3, 0.1),
        replace(report_of(first, 2, 0.1), trial=99),
    ):
        assert play.search.observe(late, 9.0) is None
    assert describe_search(play.search) == before
    play.report(0, 0.1)
    assert play.search.incumbent.epoch == 2


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_lost_worker_is_made_up_for_so_often_and_no_more(retries: int) -> None:
    play = start_play(spec_of(retries=retries))
    for attempt in range(1, retries + 1):
        (retry,) = play.fail(0, "lost")
        assert (retry.kind, retry.attempt) == (Kind.RETRY, attempt + 1)
    (fail,) = play.fail(0, "lost")
    assert fail.kind is Kind.FAIL and f"{retries + 1} times" in fail.reason
    assert play.search.trials[0].status is Status.FAILED


def test_a_trainer_that_raises_is_not_tried_again() -> None:
    play = start_play(spec_of(retries=3))
    failure = Failure(trial=0, attempt=1, kind="raised", message="boom", traceback="line 1")
    (fail,) = play.search.fail(failure)
    assert (fail.kind, fail.reason, fail.traceback) == (Kind.FAIL, "boom", "line 1")


def test_a_retry_goes_on_behind_the_last_epoch_that_came_in() -> None:
    play = start_play(spec_of(pruning="none"))
    play.report(0, 0.5)
    play.report(0, 0.4)
    (retry,) = play.fail(0, "lost")
    assert (retry.start_epoch, retry.stop_epoch) == (2, 9)
    assert play.search.make_assignment(retry).start_epoch == 2


def test_retries_are_counted_anew_after_a_promotion() -> None:
    play = Play(spec_of(retries=1, eta=2), budget=Budget(trials=2))
    assert play.suggest()
    play.fail(0, "lost")
    play.report(0, 0.5)
    assert play.suggest()
    play.report(1, 0.6)
    assert play.suggest() and 0 in play.out
    assert play.fail(0, "lost")[0].kind is Kind.RETRY


@every_pruning
@pytest.mark.parametrize("cause", ["train_loss 1e9 exploded above 10000", ""])
def test_what_blows_up_ends_diverged(pruning: str, cause: str) -> None:
    play = start_play(spec_of(pruning=pruning))
    (end,) = play.report(0, 1e9 if cause else math.inf, cause=cause)
    assert end.kind is Kind.DIVERGE and end.reason.startswith("epoch 1: ") and end.value is None
    assert encode_events(play.log) == {0: "sd"} and not play.out


def test_what_blew_up_is_never_the_best_so_far() -> None:
    play = start_play(spec_of())
    play.report(0, 0.1, cause="train_loss 1e9 exploded above 10000")
    assert play.search.incumbent is None and play.search.trials[0].best == WORST


def test_the_incumbent_is_the_best_score_of_all_ties_to_the_first() -> None:
    play = start_play(spec_of(pruning="none"), count=2)
    for trial, loss in ((0, 0.5), (1, 0.3), (0, 0.3), (1, 0.4), (0, 0.2), (1, 0.2)):
        play.report(trial, loss)
    best = play.search.incumbent
    assert (best.score, best.trial, best.epoch) == ((0.2, 0.0), 0, 3)
    assert play.search.trials[1].best_epoch == 3


def test_an_assignment_names_the_loss_that_has_to_be_beaten() -> None:
    play = start_play(spec_of())
    play.report(0, 0.5)
    assert play.suggest()
    assert play.out[1][0].best_score == (0.5, 0.0)
    assert play.out[1][0].explode_above == play.spec.search.explode_above


# ---------------------------------------------------------------------- sessions and budgets


def test_what_was_stopped_goes_on_first_in_the_order_it_was_stopped() -> None:
    play = start_play(spec_of(pruning="none"), count=3)
    for trial in (2, 0):
        play.report(trial, 0.5)
    play.resume()
    retries = select_events(play, Kind.RETRY)
    assert [(e.trial, e.attempt, e.start_epoch) for e in retries] == [
        (0, 2, 1),
        (1, 2, 0),
        (2, 2, 1),
    ]


def test_a_session_that_ends_costs_no_retry() -> None:
    play = start_play(spec_of(retries=1))
    for _ in range(3):
        play.resume()
    assert play.fail(0, "lost")[0].kind is Kind.RETRY


def test_zooms_come_in_order_and_their_parents_are_trials_that_did_well() -> None:
    play = Play(spec_of(coarse_share=0.3, zooms=3), budget=Budget(trials=60))
    play_out(play, np.random.default_rng(0), workers=4, loss=draw_loss)
    seen: dict[int, float] = {}
    number = 0
    for entry in play.log:
        if isinstance(entry, Observation):
            trial = entry.report.trial
            seen[trial] = min(seen.get(trial, math.inf), entry.report.score[0])
        elif entry.kind is Kind.ZOOM:
            number += 1
            good = sorted(seen[t] for t in seen if seen[t] < math.inf)
            count = min(8, len(good) // 4)
            assert entry.zoom == number
            assert [seen[t] for t in entry.parents] == good[:count]
        elif entry.kind is Kind.START:
            assert entry.stage == ("fine" if number else "coarse")
            assert entry.zoom == (number or None)
            if number:
                box = find_zoom(play, number)
                assert entry.box == box.box and entry.parents == box.parents
    assert number == 3


def find_zoom(play: Play, number: int) -> Event:
    return next(e for e in select_events(play, Kind.ZOOM) if e.zoom == number)


def test_the_coarse_stage_gets_its_share_of_the_trials() -> None:
    play = Play(spec_of(coarse_share=0.5, zooms=2), budget=Budget(trials=40))
    play_out(play, np.random.default_rng(0), workers=1, loss=draw_loss)
    zooms = Counter(e.zoom for e in select_events(play, Kind.START))
    assert zooms == {None: 20, 1: 10, 2: 10}


def test_without_zooms_all_is_coarse() -> None:
    play = Play(spec_of(zooms=0), budget=Budget(trials=20))
    play_out(play, np.random.default_rng(0), workers=2, loss=draw_loss)
    assert {e.stage for e in select_events(play, Kind.START)} == {"coarse"}
    assert not select_events(play, Kind.ZOOM)


def test_a_budget_that_is_added_is_searched_from_coarse_to_fine_again() -> None:
    play = Play(spec_of(coarse_share=0.5, zooms=1), budget=Budget(trials=20))
    play_out(play, np.random.default_rng(0), workers=1, loss=draw_loss)
    play.resume(Budget(trials=40))
    play_out(play, np.random.default_rng(1), workers=1, loss=draw_loss)
    stages = [e.stage for e in select_events(play, Kind.START)]
    assert stages == (["coarse"] * 10 + ["fine"] * 10) * 2
    assert [e.zoom for e in select_events(play, Kind.ZOOM)] == [1, 2]
    coarse = [tuple(e.unit.items()) for e in select_events(play, Kind.START) if e.stage == "coarse"]
    assert len(set(coarse)) == 20  # the sampler goes on where it was


def test_a_session_with_the_same_budget_goes_on_where_the_search_was() -> None:
    straight = Play(spec_of(coarse_share=0.5, zooms=1), budget=Budget(trials=20))
    play_out(straight, np.random.default_rng(0), workers=1, loss=draw_loss)
    broken = Play(spec_of(coarse_share=0.5, zooms=1), budget=Budget(trials=20))
    play_out(broken, np.random.default_rng(0), workers=1, loss=draw_loss, steps=20)
    while broken.out:
        trial = next(iter(broken.out))
        broken.report(trial, draw_loss(*broken.out[trial]))
    broken.resume()
    play_out(broken, np.random.default_rng(0), workers=1, loss=draw_loss)
    configs = [[e.config for e in select_events(p, Kind.START)] for p in (straight, broken)]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("budget", [Budget(epochs=60), Budget(seconds=60.0)])
def test_towards_the_end_of_a_budget_waiting_trials_are_trained_on(budget: Budget) -> None:
    """After nine tenths of the budget no trial is started while another one waits."""
    play, rng = Play(spec_of(), budget=budget), np.random.default_rng(0)
    play_out(play, rng, workers=2, loss=draw_loss, steps=50)
    decided = []
    while play.search.progress() < 1:
        late = play.search.progress() >= 0.9
        waits = play.search.counts[Status.PAUSED]
        if len(play.out) < 2 and play.suggest():
            decided.append((late, play.log[-1].kind))
            assert not (late and waits) or decided[-1][1] is Kind.PROMOTE
        else:
            trial = min(play.out)
            play.report(trial, draw_loss(*play.out[trial]))
    assert (True, Kind.PROMOTE) in decided and (False, Kind.START) in decided


def test_on_the_last_call_of_a_budget_of_trials_only_one_is_trained_to_the_end() -> None:
    play = Play(spec_of(), budget=Budget(trials=2))
    play_out(play, np.random.default_rng(0), workers=2, loss=lambda a, epoch: 1 / epoch + a.trial)
    assert encode_events(play.log) == {0: "spmpmc", 1: "sp"}


def test_a_trial_that_was_evicted_is_over() -> None:
    play = start_play(spec_of())
    play.report(0, 0.5)
    play.evict()
    assert encode_events(play.log) == {0: "spk"}
    assert play.search.trials[0].status is Status.PRUNED
    play.evict()


# ---------------------------------------------------------------------- the grid ends

TINY = "kind: {choice: [a, b]}"


@pytest.mark.parametrize("zooms", [0, 2])
@pytest.mark.parametrize("budget", [Budget(epochs=1_000), Budget(trials=100), Budget()])
@pytest.mark.parametrize("text", [TINY, TINY + "\nsize: {int: [1, 3]}"])
def test_a_grid_that_ends_trains_its_best_to_the_end(text: str, budget: Budget, zooms: int) -> None:
    """Whatever the budget and however small the grid: no trial waits in vain."""
    play = Play(spec_of(text, sampler="grid", zooms=zooms), budget=budget)
    play_out(
        play, np.random.default_rng(0), workers=2, loss=lambda a, epoch: a.trial + 1 / epoch,
        steps=300,
    )  # fmt: skip
    assert play.search.counts[Status.COMPLETED]
    coarse = [
        tuple(e.config.items()) for e in select_events(play, Kind.START) if e.stage == "coarse"
    ]
    assert len(set(coarse)) == len(coarse) == (2 if text == TINY else 6)


def test_a_grid_in_which_everything_diverges_ends() -> None:
    play = Play(spec_of(TINY, sampler="grid", zooms=0), budget=Budget(epochs=100))
    play_out(play, np.random.default_rng(0), workers=1, loss=lambda a, epoch: math.inf)
    assert encode_events(play.log) == {0: "sd", 1: "sd"}
    assert not play.suggest()


def test_zooms_of_a_grid_come_when_it_has_ended() -> None:
    text = "rate: {log: [1e-4, 1]}\nmore: {linear: [0, 1]}"
    play = Play(spec_of(text, sampler="grid", zooms=1), budget=Budget(trials=100))
    play_out(play, np.random.default_rng(0), workers=1, loss=draw_loss)
    stages = [e.stage for e in select_events(play, Kind.START)]
    assert stages == ["coarse"] * 9 + ["fine"] * 91


# ---------------------------------------------------------------------- asha, over a whole run


@given(seed=st.integers(0, 2**32), workers=st.integers(1, 8))
@limit_examples(15)
def test_no_trial_is_promoted_from_outside_the_best_third_but_on_the_last_call(
    seed: int, workers: int
) -> None:
    play = Play(spec_of(zooms=0), seed=seed, budget=Budget(trials=40))
    play_out(play, np.random.default_rng(seed), workers=workers, loss=draw_loss)
    rungs: dict[int, dict[int, float]] = {1: {}, 3: {}, 9: {}}
    stop: dict[int, int] = {}
    started = 0
    for entry in play.log:
        if isinstance(entry, Observation):
            r = entry.report
            if r.last:
                rungs[stop[r.trial]][r.trial] = math.inf if r.cause else r.score[0]
        elif entry.kind is Kind.START:
            started += 1
            stop[entry.trial] = entry.stop_epoch
        elif entry.kind is Kind.PROMOTE:
            rung = rungs[entry.start_epoch]
            ranking = sorted(rung, key=lambda t: (rung[t], t))
            within = ranking.index(entry.trial) < len(ranking) // 3
            assert within or (started == 40 and "no new trials" in entry.reason)
            assert entry.comparison.rank == ranking.index(entry.trial) + 1
            assert entry.comparison.peers == len(ranking)
            stop[entry.trial] = entry.stop_epoch


def test_a_search_does_not_change_its_spec() -> None:
    spec = spec_of(CONDITIONAL)
    before = repr(spec)
    play_out(
        Play(spec, budget=Budget(trials=30)), np.random.default_rng(0), workers=3, loss=draw_loss
    )
    assert repr(spec) == before


def test_an_assignment_is_a_plain_value_that_another_host_can_be_sent() -> None:
    play = start_play(spec_of(CONDITIONAL))
    a = play.out[0][0]
    assert isinstance(a, Assignment) and isinstance(play.search, Search)
    assert eval(repr(a), {"Assignment": Assignment, "inf": math.inf}) == a
