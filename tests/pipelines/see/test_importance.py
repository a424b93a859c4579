"""Functional ANOVA against sums done by hand and against the forest's own predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestRegressor
from test_runs import TOYS, searched, toy_spec

from pipelines.see.importance import _list_boxes, compute_fanova, compute_importance
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec


def boxes(
    f: Callable[..., float], cuts: list[list[float]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A function that is constant between the cuts, as boxes."""
    sides = [list(zip([0.0, *c], [*c, 1.0], strict=True)) for c in cuts]
    grid = (
        np.array(np.meshgrid(*[range(len(s)) for s in sides], indexing="ij"))
        .reshape(len(cuts), -1)
        .T
    )
    low = np.array([[sides[i][k][0] for i, k in enumerate(cell)] for cell in grid])
    high = np.array([[sides[i][k][1] for i, k in enumerate(cell)] for cell in grid])
    return low, high, np.array([f(*m) for m in (low + high) / 2])


def test_what_adds_up_is_shared_by_its_parts_and_nothing_is_left_for_the_pair() -> None:
    shares = compute_fanova(*boxes(lambda a, b: 3 * (a > 0.5) + (b > 0.5), [[0.5], [0.5]]))
    np.testing.assert_allclose(shares, [[0.9, 0.0], [0.0, 0.1]], atol=1e-12)


def test_what_only_both_know_is_the_pairs() -> None:
    shares = compute_fanova(*boxes(lambda a, b, c: (a > 0.5) != (b > 0.5), [[0.5], [0.5], [0.3]]))
    np.testing.assert_allclose(shares, [[0, 1, 0], [0, 0, 0], [0, 0, 0]], atol=1e-12)


def test_a_constant_explains_nothing() -> None:
    assert not compute_fanova(*boxes(lambda a, b: 1.0, [[0.5], [0.5]])).any()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_a_trees_shares_are_those_of_its_predictions_on_a_fine_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 9, size=(60, 2)) / 8, rng.standard_normal(60)
    tree = RandomForestRegressor(1, max_depth=4, random_state=0).fit(x, y)[0]
    shares = compute_fanova(*_list_boxes(tree.tree_, 2))
    # every cut lies between two neighbours of eighths: sixteenths fall on one side of it
    side = (np.arange(32) + 0.5) / 32
    a, b = np.meshgrid(side, side, indexing="ij")
    f = tree.predict(np.column_stack([a.ravel(), b.ravel()])).reshape(a.shape)
    mean, over_b, over_a = f.mean(), f.mean(axis=1), f.mean(axis=0)
    total = ((f - mean) ** 2).mean()
    expected = np.zeros((2, 2))
    if total > 1e-12:
        expected[0, 0] = ((over_b - mean) ** 2).mean() / total
        expected[1, 1] = ((over_a - mean) ** 2).mean() / total
        both = f - over_b[:, None] - over_a + mean
        expected[0, 1] = (both**2).mean() / total
    np.testing.assert_allclose(shares, expected, atol=1e-6)


def test_on_a_run_what_the_loss_hangs_on_is_red_and_the_rest_green(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(TOYS)
    space = {
        "floor": {"linear": [0, 1]},
        "idle": {"log": [1e-3, 1]},
        "word": {"choice": ["a", "b"]},
    }
    spec = toy_spec(tmp_path, "Toy", space=space, search={"method": "random"})
    folder = searched(tmp_path / "run", trials=150, spec_file=spec)
    alone, pairs = compute_importance(read_run_spec(folder), load_run(folder))
    assert alone[0].name == "floor"
    assert [found.colour for found in alone] == ["red", "green", "green"]
    assert alone[0].low <= alone[0].share <= alone[0].high
    assert pairs[0].share < 0.05
    again, _ = compute_importance(read_run_spec(folder), load_run(folder))
    assert again == alone


def test_a_dozen_trials_say_nothing(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run", trials=9)
    assert compute_importance(read_run_spec(folder), load_run(folder)) == ([], [])
