"""Audits train trials that pruning left behind to the end; the search never learns of it."""

from __future__ import annotations

import pytest
from search_examples import make_search, spec_of

from orchestrator.search.budget import Budget
from orchestrator.search.search import Search
from orchestrator.search.simulate import simulate
from orchestrator.search.trial import AUDIT, Status, Trial
from pipelines.runs.spec import Spec


def run_search(spec: Spec, budget: Budget, *, workers: int = 1) -> Search:
    search = make_search(spec)
    simulate(search, budget=budget, workers=workers, epoch_seconds=lambda _: 1.0)
    return search


def split_audits(search: Search) -> tuple[list[Trial], list[Trial]]:
    """Split the trials of a search into those it decided on, and its audits."""
    trials = list(search.trials.values())
    return [t for t in trials if t.stage != AUDIT], [t for t in trials if t.stage == AUDIT]


@pytest.mark.parametrize("pruning", ["shares", "asha", "hyperband", "median"])
@pytest.mark.parametrize("budget", [Budget(trials=60), Budget(epochs=300), Budget(seconds=300)])
def test_audits_take_their_share_of_the_epochs_and_no_more(pruning: str, budget: Budget) -> None:
    search = run_search(spec_of(pruning=pruning, audit=0.2), budget)
    searched, audits = split_audits(search)
    assert audits
    assert all(t.status is Status.COMPLETED and t.epoch == 9 for t in audits)
    assert search.audits.epochs == 9 * len(audits)
    assert 0.2 * search.epochs - 2 * 9 < search.audits.epochs <= 0.2 * search.epochs
    if budget.trials:
        assert len(searched) == budget.trials


def test_an_audited_trial_was_left_behind_and_is_audited_once() -> None:
    search = run_search(spec_of(pruning="asha", audit=0.3), Budget(trials=60))
    _, audits = split_audits(search)
    assert len({t.parents for t in audits}) == len(audits)
    for audit in audits:
        (left,) = audit.parents
        original = search.trials[left]
        assert original.status in (Status.PAUSED, Status.PRUNED)
        assert (audit.config, audit.seed) == (original.config, original.seed)


def test_the_search_decides_as_if_there_were_no_audits() -> None:
    audited = run_search(spec_of(pruning="asha", audit=0.3), Budget(trials=60))
    plain = run_search(spec_of(pruning="asha"), Budget(trials=60))
    searched, _ = split_audits(audited)
    assert [(t.config, t.epoch, t.status) for t in searched] == [
        (t.config, t.epoch, t.status) for t in plain.trials.values()
    ]
    assert audited.incumbent == plain.incumbent


def test_a_budget_that_is_added_goes_on_with_the_search_and_then_audits_more() -> None:
    spec = spec_of(pruning="shares", audit=0.2)
    search = run_search(spec, Budget(trials=40))
    first = len(split_audits(search)[1])
    simulate(search, budget=Budget(trials=80), workers=2, epoch_seconds=lambda _: 1.0)
    searched, audits = split_audits(search)
    assert len(searched) == 80
    assert len(audits) > first
    later = [t for t in searched if t.id > audits[0].id]
    assert later and not {t.id for t in audits} & {p for t in later for p in t.parents}
    assert search.incumbent is not None
    assert search.trials[search.incumbent.trial].stage != AUDIT


def test_without_a_share_there_are_no_audits() -> None:
    assert split_audits(run_search(spec_of(pruning="asha"), Budget(trials=60)))[1] == []
