"""Trials that pruning left behind are trained on to the end, and the search never learns of it."""

from __future__ import annotations

import pytest
from search_examples import make_search, session, spec_of

from orchestrator.search.events import Event
from orchestrator.search.search import Search
from orchestrator.search.simulate import simulate
from orchestrator.search.trial import AUDIT, Status, Trial
from pipelines.runs.spec import Spec


def played(spec: Spec, budget: Event, *, workers: int = 1) -> Search:
    search = make_search(spec)
    simulate(search, budget=budget, workers=workers, epoch_seconds=lambda _: 1.0)
    return search


def parts(search: Search) -> tuple[list[Trial], list[Trial]]:
    """The search's own trials, and its audits."""
    trials = list(search.trials.values())
    return [t for t in trials if t.stage != AUDIT], [t for t in trials if t.stage == AUDIT]


@pytest.mark.parametrize("pruning", ["shares", "asha", "hyperband", "median"])
@pytest.mark.parametrize("budget", [session(trials=60), session(epochs=300), session(seconds=300)])
def test_audits_take_their_share_of_the_epochs_and_no_more(pruning: str, budget: Event) -> None:
    search = played(spec_of(pruning=pruning, audit=0.2), budget)
    own, audits = parts(search)
    assert audits
    assert all(t.status is Status.COMPLETED and t.epoch == 9 for t in audits)
    assert search.audits.epochs == 9 * len(audits)
    assert 0.2 * search.epochs - 2 * 9 < search.audits.epochs <= 0.2 * search.epochs
    if budget.trials:
        assert len(own) == budget.trials


def test_whom_they_repeat_was_left_behind_and_is_repeated_once() -> None:
    search = played(spec_of(pruning="asha", audit=0.3), session(trials=60))
    _, audits = parts(search)
    assert len({t.parents for t in audits}) == len(audits)
    for audit in audits:
        (left,) = audit.parents
        original = search.trials[left]
        assert original.status in (Status.PAUSED, Status.PRUNED)
        assert (audit.config, audit.seed) == (original.config, original.seed)


def test_the_search_decides_as_if_there_were_none() -> None:
    with_them = played(spec_of(pruning="asha", audit=0.3), session(trials=60))
    without = played(spec_of(pruning="asha"), session(trials=60))
    own, _ = parts(with_them)
    assert [(t.config, t.epoch, t.status) for t in own] == [
        (t.config, t.epoch, t.status) for t in without.trials.values()
    ]
    assert with_them.incumbent == without.incumbent


def test_a_budget_that_is_added_goes_on_with_the_search_and_then_audits_more() -> None:
    spec = spec_of(pruning="shares", audit=0.2)
    search = played(spec, session(trials=40))
    first = len(parts(search)[1])
    simulate(search, budget=session(trials=80), workers=2, epoch_seconds=lambda _: 1.0)
    own, audits = parts(search)
    assert len(own) == 80
    assert len(audits) > first
    later = [t for t in own if t.id > audits[0].id]
    assert later and not {t.id for t in audits} & {p for t in later for p in t.parents}
    assert search.incumbent is not None
    assert search.trials[search.incumbent.trial].stage != AUDIT


def test_without_a_share_there_are_none() -> None:
    assert parts(played(spec_of(pruning="asha"), session(trials=60)))[1] == []
