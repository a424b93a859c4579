from __future__ import annotations

import itertools

import pytest
from search_examples import make_search, session, spec_of

from orchestrator.search.simulate import SimulationResult, simulate


def simulated(
    *, trials: int | None = None, epochs: int | None = None, seconds: float | None = None,
    workers: int = 4, seed: int = 0, eta: int = 3, max_epochs: int = 27, pruning: str = "asha",
) -> SimulationResult:  # fmt: skip
    spec = spec_of(max_epochs=max_epochs, eta=eta, pruning=pruning)
    return simulate(
        make_search(spec, seed=seed),
        budget=session(trials=trials, epochs=epochs, seconds=seconds),
        workers=workers,
        epoch_seconds=lambda a: 1.0 + a.config["width"] / 64,
    )


def test_about_a_third_of_each_rung_goes_on() -> None:
    """Asynchronous halving promotes a little more than 1/eta: who was among the best at the time
    need not be so in the end (arXiv:1810.05934, section 4: order sqrt(n) too many)."""
    reached = simulated(trials=400).reached
    assert list(reached) == [1, 3, 9, 27] and reached[1] == 400
    for low, high in ((1, 3), (3, 9), (9, 27)):
        least = reached[low] // 3
        assert least <= reached[high] <= least + 3 * reached[low] ** 0.5


def test_epochs_are_what_the_rungs_add_up_to() -> None:
    found = simulated(trials=200)
    steps = {1: 1, 3: 2, 9: 6, 27: 18}
    assert found.trials == 200
    assert found.epochs == sum(steps[rung] * count for rung, count in found.reached.items())


def test_more_workers_take_less_time() -> None:
    seconds = [simulated(trials=150, workers=workers).seconds for workers in (1, 2, 4, 8)]
    for few, many in itertools.pairwise(seconds):
        assert many < 0.75 * few


def test_one_worker_takes_as_long_as_all_epochs_together() -> None:
    spec = spec_of(pruning="none")
    found = simulate(
        make_search(spec), budget=session(trials=7), workers=1, epoch_seconds=lambda config: 2.0
    )
    assert (found.epochs, found.seconds) == (7 * 9, 2.0 * 7 * 9)
    assert found.reached == {9: 7}


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    assert simulated(trials=80) == simulated(trials=80)
    assert simulated(trials=80).seconds != simulated(trials=80, seed=1).seconds


@pytest.mark.parametrize("workers", [1, 5])
def test_a_budget_of_epochs_or_seconds_ends_the_run(workers: int) -> None:
    assert simulated(epochs=100, workers=workers).epochs == 100
    found = simulated(seconds=50.0, workers=workers)
    assert 45 < found.seconds <= 50


def test_with_a_single_rung_every_trial_is_trained_once() -> None:
    found = simulated(trials=10, max_epochs=1)
    assert found.reached == {1: 10} and found.epochs == 10
