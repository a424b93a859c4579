"""Runs beside each other: the figures are theirs, the test is scipy's on the right pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from test_runs import searched

from orchestrator.errors import RunError
from pipelines.see.compare import compare_folders, format_comparison
from pipelines.see.run import load_run
from pipelines.see.summary import summarize_run


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three seeds of two methods."""
    place = tmp_path_factory.mktemp("compare")
    made = []
    for method in ("asha", "random"):
        spec = place / f"{method}.yaml"
        spec.write_text(f"search: {{method: {method}}}\n")
        for seed in range(3):
            folder = place / f"{method}-{seed}"
            made.append(searched(folder, "breast_cancer", trials=6, spec_file=spec, seed=seed))
    return made


def test_each_run_has_its_own_figures_and_what_its_spec_differs_in(folders: list[Path]) -> None:
    found = compare_folders(folders)
    for folder, (_, row) in zip(folders, found.table.iterrows(), strict=True):
        told = summarize_run(load_run(folder))
        assert row["best"] == told["best"]["validation"]["accuracy"]
        assert (row["trials"], row["epochs"]) == (told["trials"], told["epochs"])
    assert found.differences[0] == ""
    assert found.differences[1] == "seed: 0 -> 1"
    assert "search.method: asha -> random" in found.differences[3]
    assert "seed" not in found.differences[3]


def test_kinds_are_compared_seed_by_seed_whatever_the_order(folders: list[Path]) -> None:
    best = {
        folder.name: row["best"]
        for folder, (_, row) in zip(folders, compare_folders(folders).table.iterrows(), strict=True)
    }
    gains = np.array([best[f"asha-{s}"] - best[f"random-{s}"] for s in range(3)])
    (pair,) = compare_folders(folders).paired
    assert pair.seeds == 3
    assert pair.gain == pytest.approx(gains.mean())
    if gains.std():
        assert pair.chance == pytest.approx(ttest_1samp(gains, 0).pvalue)
    (mirrored,) = compare_folders(folders[::-1]).paired
    assert mirrored.gain == pytest.approx(-pair.gain)


def test_runs_without_a_seed_in_common_are_not_tested(folders: list[Path]) -> None:
    found = compare_folders([folders[0], folders[4]])
    assert found.paired == []
    lines = format_comparison(found)
    assert lines[-1].startswith("no paired test")
    assert any("differs in" in line for line in lines)


def test_another_budget_is_another_kind(folders: list[Path], tmp_path: Path) -> None:
    longer = [searched(tmp_path / str(seed), "breast_cancer", trials=9, seed=seed,
                       spec_file=folders[0].parent / "asha.yaml") for seed in range(3)]  # fmt: skip
    found = compare_folders([*folders[:3], *longer])
    assert found.differences[3] == "--trials: 6 -> 9"
    assert [p.seeds for p in found.paired] == [3]


def test_a_run_that_is_given_twice_is_refused(folders: list[Path]) -> None:
    with pytest.raises(RunError, match=r"needs different runs, got .*asha-0 twice"):
        compare_folders([folders[0], folders[1], folders[0] / ".." / "asha-0"])


def test_one_run_or_two_metrics_are_said_in_one_line(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="needs at least two runs, got 1"):
        compare_folders(folders[:1])
    other = searched(tmp_path / "run", "diabetes", trials=3)
    with pytest.raises(RunError, match="decided by the same metric"):
        compare_folders([folders[0], other])
