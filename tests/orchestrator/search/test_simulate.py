from __future__ import annotations

import itertools

import pytest
from search_examples import make_search, spec_of

from orchestrator.search.budget import Budget
from orchestrator.search.simulate import SimulationResult, simulate


def run_simulation(
    *, trials: int | None = None, epochs: int | None = None, seconds: float | None = None,
    workers: int = 4, seed: int = 0, eta: int = 3, max_epochs: int = 27, pruning: str = "asha",
) -> SimulationResult:  # fmt: skip
    spec = spec_of(max_epochs=max_epochs, eta=eta, pruning=pruning)
    return simulate(
        make_search(spec, seed=seed),
        budget=Budget(trials=trials, epochs=epochs, seconds=seconds),
        workers=workers,
        epoch_seconds=lambda a: 1.0 + a.config["width"] / 64,
    )


def test_about_a_third_of_each_rung_goes_on() -> None:
    """Asynchronous halving promotes a little more than 1/eta: who was among the best at the time
    need not be so in the end (arXiv:1810.05934, section 4: order sqrt(n) too many)."""
    reached = run_simulation(trials=400).reached
    assert list(reached) == [1, 3, 9, 27] and reached[1] == 400
    for low, high in ((1, 3), (3, 9), (9, 27)):
        least = reached[low] // 3
        assert least <= reached[high] <= least + 3 * reached[low] ** 0.5


def test_epochs_are_what_the_rungs_add_up_to() -> None:
    result = run_simulation(trials=200)
    steps = {1: 1, 3: 2, 9: 6, 27: 18}
    assert result.trials == 200
    assert result.epochs == sum(steps[rung] * count for rung, count in result.reached.items())


def test_more_workers_take_less_time() -> None:
    seconds = [run_simulation(trials=150, workers=workers).seconds for workers in (1, 2, 4, 8)]
    for few, many in itertools.pairwise(seconds):
        assert many < 0.75 * few


def test_one_worker_takes_as_long_as_all_epochs_together() -> None:
    spec = spec_of(pruning="none")
    result = simulate(
        make_search(spec), budget=Budget(trials=7), workers=1, epoch_seconds=lambda config: 2.0
    )
    assert (result.epochs, result.seconds) == (7 * 9, 2.0 * 7 * 9)
    assert result.reached == {9: 7}


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    assert run_simulation(trials=80) == run_simulation(trials=80)
    assert run_simulation(trials=80).seconds != run_simulation(trials=80, seed=1).seconds


@pytest.mark.parametrize("workers", [1, 5])
def test_a_budget_of_epochs_or_seconds_ends_the_run(workers: int) -> None:
    assert run_simulation(epochs=100, workers=workers).epochs == 100
    result = run_simulation(seconds=50.0, workers=workers)
    assert 45 < result.seconds <= 50


def test_with_a_single_rung_every_trial_is_trained_once() -> None:
    result = run_simulation(trials=10, max_epochs=1)
    assert result.reached == {1: 10} and result.epochs == 10
