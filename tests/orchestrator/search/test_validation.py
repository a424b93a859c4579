from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_examples import (
    Play,
    describe_search,
    draw_loss,
    limit_examples,
    make_search,
    play_out,
    report_of,
    spec_of,
)

from orchestrator.errors import InvalidEntry
from orchestrator.search.budget import Budget
from orchestrator.search.events import (
    EVENT_TYPES,
    ModelTested,
    SessionStarted,
    TrialCompleted,
    TrialDiverged,
    TrialFailed,
    TrialNote,
    TrialPaused,
    TrialPromoted,
    TrialPruned,
    TrialRetried,
    TrialStarted,
    TrialStopped,
    ZoomedIn,
)
from orchestrator.search.messages import Entry, Observation
from orchestrator.search.salvage import salvage
from orchestrator.search.search import Search
from orchestrator.search.state import SearchState
from orchestrator.search.validation import _CHECKS

SPEC = spec_of(pruning="asha", eta=2)


def recorded_log(seed: int, *, trials: int = 12) -> list[Entry]:
    """The log of a whole run with mishaps and two sessions."""
    play = Play(SPEC, seed=seed, budget=Budget(trials=trials))
    rng = np.random.default_rng(seed)
    play_out(play, rng, workers=3, loss=draw_loss, mishaps=0.05, steps=25)
    play.resume()
    play_out(play, rng, workers=3, loss=draw_loss, mishaps=0.05)
    return play.log


def apply_until_refused(log: Sequence[Entry], seed: int) -> tuple[Search, int]:
    """A search with the entries applied, and how many were applied before one was refused."""
    search = make_search(SPEC, seed=seed)
    for number, entry in enumerate(log):
        before, refusal = describe_search(search), None
        try:
            search.apply(entry, seq=number)
        except InvalidEntry as e:
            refusal = e
        if refusal is not None:
            assert refusal.seq == number and f"row {number}" in str(refusal)
            assert describe_search(search) == before
            return search, number
    return search, len(log)


@given(seed=st.integers(0, 50), data=st.data())
@limit_examples(40)
def test_a_log_that_lost_or_doubled_or_swapped_rows_is_refused_or_leads_to_a_sound_state(
    seed: int, data: st.DataObject
) -> None:
    log = recorded_log(seed)
    assert apply_until_refused(log, seed)[1] == len(log)
    place = data.draw(st.integers(1, len(log) - 2))
    match data.draw(st.sampled_from(["lose", "double", "swap"])):
        case "lose":
            damaged = [*log[:place], *log[place + 1 :]]
        case "double":
            damaged = [*log[: place + 1], *log[place:]]
        case _:
            damaged = [*log[:place], log[place + 1], log[place], *log[place + 2 :]]
    search, applied = apply_until_refused(damaged, seed)
    if applied == len(damaged):
        between_decisions = not any(
            t.status == "RUNNING" and t.assignment_over for t in search.trials.values()
        )
        if between_decisions:
            search.validate()


@given(seed=st.integers(0, 20), lost=st.sets(st.integers(1, 60), max_size=12))
@limit_examples(30)
def test_what_salvage_makes_of_a_damaged_log_can_be_applied_from_the_start(
    seed: int, lost: set[int]
) -> None:
    log = [entry for i, entry in enumerate(recorded_log(seed)) if i not in lost]
    entries = [(i, float(i), entry) for i, entry in enumerate(log)]
    mended = [entry for _, _, entry in salvage(make_search(SPEC, seed=seed), entries, {}, {})]
    search, applied = apply_until_refused(mended, seed)
    assert applied == len(mended)
    search.validate()


def test_epochs_1_7_3_of_a_wrong_attempt_are_refused_one_by_one() -> None:
    play = Play(SPEC, budget=Budget(trials=3))
    assert play.suggest()
    assignment, _ = play.out[0]
    first = report_of(assignment, 1, 0.5)
    for wrong, complaint in (
        (replace(first, epoch=7, last=False), "epoch 7, attempt 1, but epoch 1 was due"),
        (replace(first, attempt=2), "attempt 2, but attempt 1 is under way"),
        (replace(first, trial=5), "of trial 5, .* but no such trial was started"),
        (replace(first, last=not first.last), "an assignment up to epoch"),
    ):
        with pytest.raises(InvalidEntry, match=complaint):
            play.search.apply(Observation(report=wrong, at_seconds=1.0))
    assert play.search.epochs == 0


def make_half_played() -> Play:
    """Make a play with trial 0 paused after epoch 1 and trial 1 running its first epoch."""
    play = Play(SPEC, budget=Budget(trials=9))
    assert play.suggest() and play.suggest()
    play.report(0, 0.5)
    return play


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (TrialPaused(trial=0, epoch=1), "pause of trial 0, which is PAUSED"),
        (TrialPaused(trial=1, epoch=0), "pause of trial 1 in the middle of its assignment"),
        (TrialPaused(trial=7), "no such trial was started"),
        (TrialCompleted(trial=1), "complete of trial 1 in the middle"),
        (TrialDiverged(trial=1), "diverge of trial 1 in the middle"),
        (TrialPruned(trial=0, epoch=4), "at epoch 4, but 1 epochs were reported"),
        (TrialFailed(trial=0), "fail of trial 0, which is PAUSED"),
        (TrialFailed(trial=1, attempt=3), "but attempt 1 is under way"),
        (TrialStopped(trial=0), "stop of trial 0, which is PAUSED"),
        (TrialPromoted(trial=0, attempt=1, start_epoch=1, stop_epoch=3), "after attempt 1"),
        (TrialPromoted(trial=0, attempt=2, start_epoch=0, stop_epoch=3), "but 1 epochs"),
        (TrialPromoted(trial=0, attempt=2, start_epoch=1, stop_epoch=99), "from epoch 1 to 99"),
        (TrialPromoted(trial=1, attempt=2, start_epoch=0, stop_epoch=3), "which is RUNNING"),
        (TrialRetried(trial=0, attempt=2, start_epoch=1, stop_epoch=1), "which is PAUSED"),
        (TrialRetried(trial=1, attempt=2, start_epoch=0, stop_epoch=9), "the assignment ends at 1"),
        (
            TrialStarted(trial=4, stage="coarse", config={}, seed=1, stop_epoch=1),
            "start of trial 4, but trial 2 was due",
        ),
        (
            TrialStarted(trial=2, stage="coarse", config={}, seed=1, stop_epoch=10),
            "max_epochs is 9",
        ),
        (TrialStarted(trial=2, stage="late", config={}, seed=1, stop_epoch=1), "stage 'late'"),
        (ZoomedIn(zoom=2, box={}), "box 2, but box 1 was due"),
    ],
)
def test_an_event_that_does_not_follow_is_refused_with_its_trials_story(
    entry: Entry, complaint: str
) -> None:
    play = make_half_played()
    before = describe_search(play.search)
    with pytest.raises(InvalidEntry, match=complaint) as refused:
        play.search.apply(entry, seq=41)
    assert refused.value.seq == 41 and "row 41" in str(refused.value)
    trial = play.search.trials.get(getattr(entry, "trial", -1))
    assert (refused.value.story != "") == (trial is not None)
    if trial is not None:
        assert "start" in refused.value.story and trial.status in refused.value.story
    assert describe_search(play.search) == before


def test_every_event_that_is_not_a_note_has_a_check_and_a_way_to_be_applied() -> None:
    moving = {cls for cls in EVENT_TYPES.values() if not issubclass(cls, TrialNote)}
    assert moving | {Observation} == set(_CHECKS) == set(SearchState._APPLY)


def test_a_note_about_a_trial_changes_nothing_and_needs_the_epoch_to_be_trained() -> None:
    play = make_half_played()
    before = describe_search(play.search)
    play.search.apply(ModelTested(trial=0, epoch=1, metrics={"test_loss": 0.5}))
    for note in (ModelTested(trial=0, epoch=2), ModelTested(trial=7, epoch=1)):
        with pytest.raises(InvalidEntry, match="which was not trained"):
            play.search.apply(note)
    assert describe_search(play.search) == before


def test_a_broken_invariant_is_named() -> None:
    play = make_half_played()
    play.search.validate()
    play.search.trials[0].epoch = 5
    with pytest.raises(AssertionError, match=r"epochs in all.*trial 0 has epoch 5 outside"):
        play.search.validate()


def test_a_session_may_begin_at_any_moment() -> None:
    play = make_half_played()
    play.search.apply(SessionStarted(budget=Budget(trials=20)))
    play.search.validate()
