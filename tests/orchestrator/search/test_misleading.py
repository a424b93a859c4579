"""On problems that mislead the model, the search is no worse than random search with halving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from search_examples import spec_of

from orchestrator.search.budget import Budget
from orchestrator.search.messages import Assignment
from orchestrator.search.search import Search
from orchestrator.search.simulate import simulate
from orchestrator.space.domains import Config

# Pure Python for minutes: counting its lines would double the time, and other tests run them too.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

SEEDS, EPOCHS = 16, 800


@dataclass(frozen=True)
class Problem:
    """An objective: the final value of a configuration, and the noisy value after an epoch."""

    space: str
    value: Callable[[Config], float]
    noise: Callable[[np.random.Generator], float] = lambda rng: 0.0

    def observe(self, assignment: Assignment, epoch: int) -> float:
        rng = np.random.default_rng((assignment.seed, epoch))
        head = np.random.default_rng(assignment.seed).random()
        return self.value(assignment.config) + head / epoch + self.noise(rng)


def make_space_text(d: int) -> str:
    return "\n".join(f"x{i}: {{linear: [0, 1]}}" for i in range(d))


def to_vector(config: Config) -> np.ndarray:
    return np.array([config[name] for name in sorted(config)], dtype=float)


def checkerboard(config: Config) -> float:
    """Piecewise constant value with jumps between random levels."""
    fields = (to_vector(config) * 5).astype(int)
    return float(np.random.default_rng((7, *fields)).random())


def pairs_of_options(config: Config) -> float:
    """Mean of random values, one for each pair of neighbouring options."""
    options = [int(str(config[f"x{i}"])[1:]) for i in range(8)]
    values = [np.random.default_rng((i, *options[i : i + 2])).random() for i in range(7)]
    return float(np.mean(values))


def three_of_thirty(config: Config) -> float:
    return float(((to_vector(config)[:3] - [0.2, 0.5, 0.9]) ** 2).sum())


PROBLEMS = {
    "discontinuous": Problem(make_space_text(4), checkerboard),
    "all choices": Problem(
        "\n".join(f"x{i}: {{choice: [a0, a1, a2, a3]}}" for i in range(8)), pairs_of_options
    ),
    "30 dimensions": Problem(make_space_text(30), three_of_thirty),
    "constant": Problem(make_space_text(4), lambda _: 1.0),
    "heavy tails": Problem(
        make_space_text(4),
        lambda config: float(((to_vector(config) - 0.4) ** 2).sum()),
        noise=lambda rng: 0.05 * float(rng.standard_t(1.5)),
    ),
}


def find_best_value(problem: Problem, method: str, seed: int) -> float:
    """Run a search, and return the true value of its incumbent."""
    spec = spec_of(problem.space, method=method, max_epochs=27)
    search = Search(spec.parameters(), spec.search, seed=seed, max_epochs=27)
    simulate(
        search,
        budget=Budget(epochs=EPOCHS),
        workers=4,
        epoch_seconds=lambda a: 1.0 + a.trial % 3,
        loss=problem.observe,
    )
    best = search.incumbent
    assert best is not None
    return problem.value(search.trials[best.trial].config)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_model_that_misleads_does_no_harm(name: str) -> None:
    ours, plain = (
        np.array([find_best_value(PROBLEMS[name], method, seed) for seed in range(SEEDS)])
        for method in ("caviar", "asha")
    )
    difference = ours - plain
    error = difference.std(ddof=1) / np.sqrt(SEEDS)
    assert difference.mean() <= 2 * error, (ours.mean(), plain.mean(), error)
