from __future__ import annotations

from collections import Counter

import numpy as np
from search_examples import Play, draw_loss, play_out, select_events, spec_of

from orchestrator.search.budget import Budget
from orchestrator.search.events import Kind


def count_epochs_by_rung(play: Play) -> Counter[int]:
    """Count the epochs that were assigned out up to each rung."""
    assigned = select_events(play, Kind.START, Kind.PROMOTE)
    epochs_by_rung: Counter[int] = Counter()
    for e in assigned:
        epochs_by_rung[e.stop_epoch] += e.stop_epoch - e.start_epoch
    return epochs_by_rung


def run_play(seed: int, *, epochs: int, workers: int = 4) -> Play:
    play = Play(spec_of(pruning="shares", max_epochs=27), seed=seed, budget=Budget(epochs=epochs))
    return play_out(play, np.random.default_rng(seed), workers=workers, loss=draw_loss)


def test_in_the_long_run_every_rung_gets_the_same_number_of_epochs() -> None:
    epochs_by_rung = count_epochs_by_rung(run_play(0, epochs=2000))
    assert set(epochs_by_rung) == {1, 3, 9, 27}
    # the first fifth is epochs_by_rung lower down, the last tenth begins no new trials
    assert max(epochs_by_rung.values()) < 1.6 * min(epochs_by_rung.values())


def test_at_first_many_begin_and_few_go_to_the_end() -> None:
    play = run_play(1, epochs=2000)
    first = select_events(play, Kind.START, Kind.PROMOTE)[:120]
    begun = sum(e.kind is Kind.START for e in first)
    assert begun > 60
    assert sum(e.stop_epoch == 27 for e in first) < 5


def test_no_trial_is_promoted_before_the_model_is_ready() -> None:
    play = run_play(2, epochs=200)
    promotions = select_events(play, Kind.PROMOTE)
    assert promotions
    for e in promotions:
        assert e.forecast is not None
        assert e.forecast.low < e.forecast.expected < e.forecast.high
    first = promotions[0]
    started = [
        e for e in select_events(play, Kind.START) if play.log.index(e) < play.log.index(first)
    ]
    assert len(started) >= 12


def test_each_promotion_says_in_words_and_numbers_why() -> None:
    play = run_play(3, epochs=300)
    for e in select_events(play, Kind.PROMOTE):
        assert f"in rung {e.start_epoch}" in e.reason
        assert 1 <= e.comparison.rank <= e.comparison.peers


def test_on_the_last_call_the_most_promising_goes_on_wherever_it_waits() -> None:
    play = run_play(4, epochs=400)
    late = [
        e for e in select_events(play, Kind.PROMOTE) if play.log.index(e) > 0.95 * len(play.log)
    ]
    assert late
    waiting = [int(e.reason.split(" of ")[2].split()[0]) for e in late]  # in all rungs
    assert any(n > e.comparison.peers for n, e in zip(waiting, late, strict=True))
