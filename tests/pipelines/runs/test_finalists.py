"""The best configurations again on fresh seeds: means, ties, and a best/ chosen by its mean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_runs import check_tables, searched

import caviar
from orchestrator.errors import RunError
from orchestrator.search.objective import Objective
from orchestrator.store.lock import Lock
from pipelines.cli import main
from pipelines.data.model import load_model, read_best_identity
from pipelines.runs.execution import ExecutionOptions
from pipelines.runs.finalists import _is_tied, format_finalists, make_finalists_spec, rank_finalists
from pipelines.runs.launch import train_again
from pipelines.see.configs import iterate_configs_by_rank
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec
from pipelines.see.summary import describe_best

INLINE = ExecutionOptions(pool="inline")
LOSS = Objective(metric="validation_log_loss", maximize=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A search, and its finalists."""
    place = tmp_path_factory.mktemp("finalists")
    parent = searched(place / "run", trials=30)
    spec = make_finalists_spec(read_run_spec(parent), load_run(parent), top=3, seeds=4)
    assert train_again(spec, out=place / "again", options=INLINE) is not None
    return parent, place / "again"


def test_each_of_the_best_is_trained_to_the_end_on_the_same_fresh_seeds(
    pair: tuple[Path, Path],
) -> None:
    parent, again = pair
    check_tables(again)
    run, old = load_run(again), load_run(parent)
    assert len(run.trials) == 12
    assert set(run.trials["status"]) <= {"COMPLETED", "DIVERGED"}
    assert run.trials["seed"].nunique() == 4
    assert not set(run.trials["seed"]) & set(old.trials["seed"])
    tried = [c["learning_rate"] for c in list(iterate_configs_by_rank(old))[:3]]
    assert list(run.trials["config_learning_rate"]) == tried * 4
    assert read_run_spec(again).parent_run == str(parent)


def test_they_see_the_split_of_the_search(pair: tuple[Path, Path]) -> None:
    spec, again = (read_run_spec(folder) for folder in pair)
    assert (spec.seed, spec.data) == (again.seed, again.data)


def test_means_and_intervals_are_those_of_student(pair: tuple[Path, Path]) -> None:
    run = load_run(pair[1])
    reached = run.epochs.groupby("trial")["validation_accuracy"].max()
    found = {f.rank: f for f in rank_finalists(run)}
    for place in range(3):
        own = reached.iloc[place::3].to_numpy(float)
        f = found[place + 1]
        assert f.mean == pytest.approx(own.mean())
        reach = stats.t.ppf(0.975, 3) * own.std(ddof=1) / 2
        np.testing.assert_allclose([f.low, f.high], [own.mean() - reach, own.mean() + reach])
    means = np.array([f.mean for f in rank_finalists(run)])
    assert (np.diff(means) < 1e-12).all()


def test_the_best_is_chosen_by_its_mean_and_loads(pair: tuple[Path, Path]) -> None:
    run = load_run(pair[1])
    top = describe_best(run)
    assert top is not None
    winner = rank_finalists(run)[0]
    reached = run.epochs.groupby("trial")["validation_accuracy"].max().to_numpy(float)
    place = winner.rank - 1
    assert top["trial"] % 3 == place
    assert top["validation"]["accuracy"] == reached[place::3].max()
    assert read_best_identity(pair[1] / "best") == (top["trial"], top["epoch"])
    assert load_model(pair[1] / "best").trial == top["trial"]
    assert set(top["test"]) == {"accuracy", "log_loss"}
    told = "\n".join(format_finalists(run, load_run(pair[0]), rank_finalists(run)))
    assert "in the search" in told and "the search reported" in told and "on the test split" in told


def test_an_interval_of_accuracies_ends_where_they_do(pair: tuple[Path, Path]) -> None:
    run = load_run(pair[1])
    beyond = [replace(f, low=0.9, high=1.02) for f in rank_finalists(run)]
    told = "\n".join(format_finalists(run, None, beyond))
    assert "0.9 to 1 " in told and "1.02" not in told
    loss = replace(run, session=replace(run.session, objective=LOSS))
    assert "0.9 to 1.02 " in "\n".join(format_finalists(loss, None, beyond))


def test_one_seed_has_no_interval_and_json_says_null(
    pair: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = f"finalists {pair[0]} --top 1 --seeds 1 --pool inline --out {tmp_path / 'one'} --quiet"

    def typed(*more: str) -> tuple[str, str]:
        monkeypatch.setattr("sys.argv", ["caviar", *words.split(), *more])
        with pytest.raises(SystemExit):
            main()
        told = capsys.readouterr()
        return told.out, told.err

    def refused(constant: str) -> None:
        raise AssertionError(constant)

    (found,) = json.loads(typed("--json")[0], parse_constant=refused)
    assert found["low"] is found["high"] is None
    told = typed()[0]
    assert told.startswith("the best 1 configuration, each trained again with 1 fresh seed\n")
    lock = Lock(pair[0])
    assert typed()[1].startswith(f"caviar: {pair[0]}: is still going; ")
    lock.release()


def test_a_paired_difference_decides_who_is_tied() -> None:
    assert not _is_tied(np.array([0.1, 0.11, 0.1, 0.12]))
    assert _is_tied(np.array([0.1, -0.1, 0.2, 0.0]))
    assert _is_tied(np.array([0.0, 0.0]))
    assert _is_tied(np.array([0.3]))  # a single seed says nothing


def test_trained_again_it_is_taken_as_it_is_and_broken_off_it_goes_on(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    parent, again = pair
    spec = make_finalists_spec(read_run_spec(parent), load_run(parent), top=3, seeds=4)
    assert train_again(spec, out=again, options=INLINE) is None
    other = make_finalists_spec(read_run_spec(parent), load_run(parent), top=2, seeds=4)
    with pytest.raises(RunError, match=rf"made of {parent} with `top=3` `seeds=4`; give another"):
        train_again(other, out=again, options=INLINE)
    given = (*spec.search.initial_configs[1:], spec.search.initial_configs[0])
    grown = replace(spec, search=replace(spec.search, initial_configs=given))
    with pytest.raises(RunError, match="`top=3` `seeds=4`, before that run went on; give another"):
        train_again(grown, out=again, options=INLINE)
    with pytest.raises(RunError, match="holds another run"):
        train_again(replace(spec, seed=7), out=again, options=INLINE)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_again(spec, out=tmp_path / "again", options=INLINE, make_watcher=lambda *_: _Stops())
    assert len(load_run(tmp_path / "again").epochs) < len(load_run(again).epochs)
    caviar.resume(tmp_path / "again", pool="inline")
    assert rank_finalists(load_run(tmp_path / "again")) == rank_finalists(load_run(again))


class _Stops:
    """Someone types Ctrl-C twice after the third epoch."""

    def __init__(self) -> None:
        self.seen = 0

    def handle_entry(self, entry: object, at_seconds: float) -> None:
        self.seen += 1
        if self.seen == 30:
            raise KeyboardInterrupt

    def tick(self, session: object) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...
