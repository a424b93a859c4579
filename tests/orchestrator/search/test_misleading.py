"""Where the model misleads, the search is still no worse than random search with halving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from search_examples import session, spec_of

from orchestrator.search.messages import Assignment
from orchestrator.search.search import Search
from orchestrator.search.simulate import simulate
from orchestrator.space.domains import Config

pytestmark = pytest.mark.slow

SEEDS, EPOCHS = 16, 800


@dataclass(frozen=True)
class Problem:
    """What a configuration comes to at the end, and what is seen of it after an epoch."""

    space: str
    value: Callable[[Config], float]
    noise: Callable[[np.random.Generator], float] = lambda rng: 0.0

    def seen(self, assignment: Assignment, epoch: int) -> float:
        rng = np.random.default_rng((assignment.seed, epoch))
        head = np.random.default_rng(assignment.seed).random()
        return self.value(assignment.config) + head / epoch + self.noise(rng)


def numbers(d: int) -> str:
    return "\n".join(f"x{i}: {{linear: [0, 1]}}" for i in range(d))


def vector(config: Config) -> np.ndarray:
    return np.array([config[name] for name in sorted(config)], dtype=float)


def checkerboard(config: Config) -> float:
    """Flat fields with jumps between them, in no order."""
    fields = (vector(config) * 5).astype(int)
    return float(np.random.default_rng((7, *fields)).random())


def pairs_of_options(config: Config) -> float:
    """Every two neighbouring options have a value of their own."""
    options = [int(str(config[f"x{i}"])[1:]) for i in range(8)]
    values = [np.random.default_rng((i, *options[i : i + 2])).random() for i in range(7)]
    return float(np.mean(values))


def three_of_thirty(config: Config) -> float:
    return float(((vector(config)[:3] - [0.2, 0.5, 0.9]) ** 2).sum())


PROBLEMS = {
    "discontinuous": Problem(numbers(4), checkerboard),
    "all choices": Problem(
        "\n".join(f"x{i}: {{choice: [a0, a1, a2, a3]}}" for i in range(8)), pairs_of_options
    ),
    "30 dimensions": Problem(numbers(30), three_of_thirty),
    "constant": Problem(numbers(4), lambda _: 1.0),
    "heavy tails": Problem(
        numbers(4),
        lambda config: float(((vector(config) - 0.4) ** 2).sum()),
        noise=lambda rng: 0.05 * float(rng.standard_t(1.5)),
    ),
}


def reached(problem: Problem, method: str, seed: int) -> float:
    """What the search's choice is truly worth."""
    spec = spec_of(problem.space, method=method, max_epochs=27)
    search = Search(spec.parameters(), spec.search, seed=seed, max_epochs=27)
    simulate(
        search,
        budget=session(epochs=EPOCHS),
        workers=4,
        epoch_seconds=lambda a: 1.0 + a.trial % 3,
        loss=problem.seen,
    )
    best = search.incumbent
    assert best is not None
    return problem.value(search.trials[best.trial].config)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_model_that_misleads_does_no_harm(name: str) -> None:
    ours, plain = (
        np.array([reached(PROBLEMS[name], method, seed) for seed in range(SEEDS)])
        for method in ("caviar", "asha")
    )
    difference = ours - plain
    error = difference.std(ddof=1) / np.sqrt(SEEDS)
    assert difference.mean() <= 2 * error, (ours.mean(), plain.mean(), error)
