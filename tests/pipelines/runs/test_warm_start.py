"""A warm start: what was good in another run is tried first."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from test_runs import TOYS, searched, toy_spec

import caviar
from orchestrator.errors import RunError, SpecError
from pipelines.see.configs import iterate_configs_by_rank
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec


def test_a_run_begins_with_what_was_best_in_another_of_other_data(tmp_path: Path) -> None:
    first = searched(tmp_path / "first")
    best = list(iterate_configs_by_rank(load_run(first)))
    assert best[0] == caviar.load(first).best["config"]

    second = load_run(searched(tmp_path / "second", "breast_cancer", trials=20, like=[first]))
    assert list(second.trials["stage"][:6]) == ["given"] * 5 + ["coarse"]
    tried = [second.trials.iloc[i]["config_learning_rate"] for i in range(5)]
    assert tried == [config["learning_rate"] for config in best[:5]]


def test_the_other_run_is_not_needed_any_more(tmp_path: Path) -> None:
    first = searched(tmp_path / "first")
    second = searched(tmp_path / "second", trials=6, like=[first])
    assert len(read_run_spec(second).search.initial_configs) == 5
    first.rename(tmp_path / "moved")
    caviar.resume(second, trials=3, pool="inline")
    assert len(load_run(second).trials) == 9


def test_what_is_no_run_or_of_another_space_is_said_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(RunError, match="needs the folder of a run"):
        searched(tmp_path / "out", like=[tmp_path / "nothing"])
    first = searched(tmp_path / "first")
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({"space": {"units": {"int": [3, 9]}}}))
    with pytest.raises(SpecError, match="none of its configurations fits"):
        searched(tmp_path / "out", like=[first], spec_file=spec)
    assert not (tmp_path / "out").exists()


def test_a_choice_of_several_kinds_is_found_again_as_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(TOYS)
    space = {"floor": {"linear": [0, 1]}, "clip": {"choice": ["none", 1, 2.5]}}
    spec = toy_spec(tmp_path, "Toy", space=space)
    first = searched(tmp_path / "first", spec_file=spec)
    tried = [config["clip"] for config in iterate_configs_by_rank(load_run(first))]
    assert {"none", 1, 2.5} == set(tried)
    second = searched(tmp_path / "second", spec_file=spec, like=[first])
    assert [c["clip"] for c in read_run_spec(second).search.initial_configs] == tried[:5]
