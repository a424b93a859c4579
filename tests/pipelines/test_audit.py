"""Was pruning right? Figures that scipy and plain counting give too; whole runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr
from test_runs import check_tables, searched

from orchestrator.errors import RunError
from orchestrator.trial import Status
from pipelines.analysis import best, load, opened_spec, summary
from pipelines.audit import _correlation, _places, audit, audit_lines, audit_spec
from pipelines.cli import main
from pipelines.launch import train_again
from pipelines.workers import Crew

INLINE = Crew(pool="inline")
values = st.lists(st.integers(0, 9), min_size=3, max_size=30)


@given(values, st.data())
def test_with_equal_weights_the_correlation_is_spearmans(a: list[int], data: st.DataObject) -> None:
    b = data.draw(st.lists(st.integers(0, 9), min_size=len(a), max_size=len(a)))
    own = _correlation(np.array(a, float), np.array(b, float), np.full(len(a), 2.5))
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(own)
    else:
        assert own == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)


@given(values, st.data())
def test_a_weight_of_three_is_a_value_that_stands_thrice(a: list[int], data: st.DataObject) -> None:
    weights = np.array(data.draw(st.lists(st.integers(1, 3), min_size=len(a), max_size=len(a))))
    b = np.arange(len(a))[::-1] % 4
    once = _correlation(np.array(a, float), b.astype(float), weights.astype(float))
    many = [np.repeat(v, weights).astype(float) for v in (a, b)]
    thrice = _correlation(*many, np.ones(weights.sum()))
    assert once == pytest.approx(thrice, abs=1e-9, nan_ok=True)


def test_places_run_from_the_best_to_the_worst_and_infinity_is_last() -> None:
    places = _places(np.array([3.0, np.inf, 1.0, np.inf]), np.ones(4))
    np.testing.assert_allclose(places, [0.375, 0.75, 0.125, 0.75])


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("audit") / "run", "digits", trials=50, audit=0.2)


def test_a_search_with_audits_is_whole_and_reckons_without_them(
    audited: Path, tmp_path: Path
) -> None:
    run = load(audited)
    assert run.audit is not None
    assert not set(run.trials["trial"]) & set(run.audit.trials["trial"])
    assert set(run.audit.trials["stage"]) == {"audit"}
    found = summary(run)
    assert (found["trials"], found["audits"]) == (50, len(run.audit.trials))
    top = best(run)
    assert top is not None and top["trial"] in set(run.trials["trial"])
    plain = best(load(searched(tmp_path / "plain", "digits", trials=50)))
    assert plain is not None and plain | {"model": None} == top | {"model": None}


def test_an_audit_retraces_the_trial_it_repeats(audited: Path) -> None:
    run = load(audited)
    assert run.audit is not None
    for _, row in run.audit.trials.iterrows():
        (left,) = row["parents"]
        old = run.epochs[run.epochs["trial"] == left].sort_values("epoch")
        new = run.audit.epochs[run.audit.epochs["trial"] == row["trial"]].sort_values("epoch")
        np.testing.assert_array_equal(
            old["validation_log_loss"], new["validation_log_loss"].head(len(old))
        )


def test_the_false_kills_are_those_that_beat_the_best(audited: Path) -> None:
    run, spec = load(audited), opened_spec(audited)
    assert run.audit is not None
    found = audit(spec, run, run.audit)
    reached = run.audit.epochs.groupby("trial")["validation_accuracy"].max()
    top = run.epochs["validation_accuracy"].max()
    assert found.better == (reached > top).sum()
    assert found.audits == len(reached)
    exact = binomtest(found.better, found.audits).proportion_ci(method="exact")
    assert (found.low, found.high) == (exact.low, exact.high)
    assert found.left_behind == run.trials["status"].isin(["PAUSED", "PRUNED"]).sum()
    assert found.saved == 50 * spec.max_epochs - len(run.epochs)
    assert [r.epoch for r in found.rungs] == list(spec.search.rungs[:-1])
    assert all(r.low <= r.correlation <= r.high for r in found.rungs)
    lines = audit_lines(found)
    assert f"{found.better} of {found.audits} came to beat the best model" in "\n".join(lines)


def test_a_winner_that_was_left_behind_is_a_false_kill(audited: Path) -> None:
    run, spec = load(audited), opened_spec(audited)
    assert run.audit is not None
    epochs = run.audit.epochs.copy()
    winner = epochs["trial"].iloc[0]
    at_end = (epochs["trial"] == winner) & (epochs["epoch"] == spec.max_epochs)
    epochs.loc[at_end, "validation_accuracy"] = 1.1
    found = audit(spec, run, replace(run.audit, epochs=epochs))
    assert found.better == 1 and found.low > 0


def test_the_replay_of_a_run_with_audits_agrees(
    audited: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["caviar", "replay", str(audited)])
    with pytest.raises(SystemExit) as e:
        main()
    assert e.value.code == 0 and capsys.readouterr().out.endswith("the same\n")


def test_a_run_without_audits_gets_some_in_a_run_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = searched(tmp_path / "run", trials=30)
    spec = opened_spec(folder)

    def typed(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["caviar", *words])
        with pytest.raises(SystemExit) as e:
            main()
        told = capsys.readouterr()
        return int(e.value.code or 0), told.out, told.err

    code, _, err = typed("audit", str(folder))
    assert code == 2 and "has no audits" in err and "--total-epochs" in err
    epochs = str(4 * spec.max_epochs)
    code, out, _ = typed(
        "audit", str(folder), "--total-epochs", epochs, "--pool", "inline", "--json"
    )
    assert code == 0
    assert json.loads(out)["audits"] == 4
    own = tmp_path / "run-audit"
    check_tables(own)
    assert opened_spec(own).parent_run == str(folder)
    before = {p: p.stat().st_mtime_ns for p in own.rglob("*.parquet")}
    code, out, _ = typed("audit", str(folder))
    assert code == 0 and out.startswith("4 of the ")
    assert before == {p: p.stat().st_mtime_ns for p in own.rglob("*.parquet")}
    trials = load(own).trials
    seeds = load(folder).trials.set_index("seed")["status"]
    assert set(seeds.loc[trials["seed"]]) <= {Status.PAUSED, Status.PRUNED}


def test_audits_of_another_run_say_nothing_of_this_one(audited: Path, tmp_path: Path) -> None:
    other = load(searched(tmp_path / "run", trials=8, seed=1))
    with pytest.raises(RunError, match="got trials that it never had"):
        audit(opened_spec(audited), load(audited), other)


def test_too_few_epochs_or_nobody_left_behind_is_said_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    folder = searched(tmp_path / "run", trials=8)
    spec, run = opened_spec(folder), load(folder)
    with pytest.raises(RunError, match="needs at least the 27 epochs of one trial"):
        audit_spec(spec, run, epochs=26)
    nobody = replace(run, trials=run.trials.assign(status="COMPLETED"))
    with pytest.raises(RunError, match="trials that pruning left behind, found none"):
        audit_spec(spec, nobody, epochs=100)
    other = audit_spec(spec, run, epochs=54)
    with pytest.raises(RunError, match="holds another run"):
        train_again(other, out=folder, crew=INLINE)
