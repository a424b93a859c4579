"""Was pruning right? Figures that scipy and plain counting give too; whole runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr
from test_runs import check_tables, searched

from orchestrator.errors import RunError
from orchestrator.search.trial import Status
from orchestrator.store.lock import Lock
from pipelines.cli import main
from pipelines.runs.audit import (
    LEAST,
    AuditedRung,
    _choose_grace,
    _correlate,
    _estimate_share_interval,
    _rank_values,
    evaluate_audits,
    format_audit,
    make_audit_spec,
)
from pipelines.runs.execution import ExecutionOptions
from pipelines.runs.launch import train_again
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec
from pipelines.see.summary import describe_best, summarize_run

INLINE = ExecutionOptions(pool="inline")
values = st.lists(st.integers(0, 9), min_size=3, max_size=30)


@given(values, st.data())
def test_with_equal_weights_the_correlation_is_spearmans(a: list[int], data: st.DataObject) -> None:
    b = data.draw(st.lists(st.integers(0, 9), min_size=len(a), max_size=len(a)))
    own = _correlate(np.array(a, float), np.array(b, float), np.full(len(a), 2.5))
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(own)
    else:
        assert own == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)


@given(values, st.data())
def test_a_weight_of_three_is_a_value_that_stands_thrice(a: list[int], data: st.DataObject) -> None:
    weights = np.array(data.draw(st.lists(st.integers(1, 3), min_size=len(a), max_size=len(a))))
    b = np.arange(len(a))[::-1] % 4
    once = _correlate(np.array(a, float), b.astype(float), weights.astype(float))
    many = [np.repeat(v, weights).astype(float) for v in (a, b)]
    thrice = _correlate(*many, np.ones(weights.sum()))
    assert once == pytest.approx(thrice, abs=1e-9, nan_ok=True)


def test_places_run_from_the_best_to_the_worst_and_infinity_is_last() -> None:
    places = _rank_values(np.array([3.0, np.inf, 1.0, np.inf]), np.ones(4))
    np.testing.assert_allclose(places, [0.375, 0.75, 0.125, 0.75])


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("audit") / "run", "digits", trials=50, audit=0.2)


def test_a_search_with_audits_is_whole_and_reckons_without_them(
    audited: Path, tmp_path: Path
) -> None:
    run = load_run(audited)
    assert run.audit is not None
    assert not set(run.trials["trial"]) & set(run.audit.trials["trial"])
    assert set(run.audit.trials["stage"]) == {"audit"}
    found = summarize_run(run)
    assert (found["trials"], found["audits"]) == (50, len(run.audit.trials))
    top = describe_best(run)
    assert top is not None and top["trial"] in set(run.trials["trial"])
    plain = describe_best(load_run(searched(tmp_path / "plain", "digits", trials=50)))
    assert plain is not None and plain | {"model": None} == top | {"model": None}


def test_an_audit_retraces_the_trial_it_repeats(audited: Path) -> None:
    run = load_run(audited)
    assert run.audit is not None
    for _, row in run.audit.trials.iterrows():
        (left,) = row["parents"]
        old = run.epochs[run.epochs["trial"] == left].sort_values("epoch")
        new = run.audit.epochs[run.audit.epochs["trial"] == row["trial"]].sort_values("epoch")
        np.testing.assert_array_equal(
            old["validation_log_loss"], new["validation_log_loss"].head(len(old))
        )


def test_the_false_kills_are_those_that_beat_the_best(audited: Path) -> None:
    run, spec = load_run(audited), read_run_spec(audited)
    assert run.audit is not None
    found = evaluate_audits(spec, run, run.audit)
    reached = run.audit.epochs.groupby("trial")["validation_accuracy"].max()
    top = run.epochs["validation_accuracy"].max()
    assert found.better == (reached > top).sum()
    assert found.audits == len(reached)
    exact = binomtest(found.better, found.audits).proportion_ci(method="exact")
    assert (found.low, found.high) == (exact.low, exact.high)
    assert found.left_behind == run.trials["status"].isin(["PAUSED", "PRUNED"]).sum()
    assert found.saved == 50 * spec.max_epochs - len(run.epochs)
    assert [r.epoch for r in found.rungs] == list(spec.search.rungs[:-1])
    lines = format_audit(found)
    assert f"{found.better} of {found.audits} became better than the best model" in "\n".join(lines)


def test_a_winner_that_was_left_behind_is_a_false_kill(audited: Path) -> None:
    run, spec = load_run(audited), read_run_spec(audited)
    assert run.audit is not None
    epochs = run.audit.epochs.copy()
    winner = epochs["trial"].iloc[0]
    at_end = (epochs["trial"] == winner) & (epochs["epoch"] == spec.max_epochs)
    epochs.loc[at_end, "validation_accuracy"] = 1.1
    found = evaluate_audits(spec, run, replace(run.audit, epochs=epochs))
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
    spec = read_run_spec(folder)

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
    assert read_run_spec(own).parent_run == str(folder)
    before = {p: p.stat().st_mtime_ns for p in own.rglob("*.parquet")}
    code, out, _ = typed("audit", str(folder))
    assert code == 0 and out.startswith("4 of the ")
    assert before == {p: p.stat().st_mtime_ns for p in own.rglob("*.parquet")}
    trials = load_run(own).trials
    seeds = load_run(folder).trials.set_index("seed")["status"]
    assert set(seeds.loc[trials["seed"]]) <= {Status.PAUSED, Status.PRUNED}


@pytest.mark.parametrize(
    ("source", "seed", "method"),
    [("digits", 1, "caviar"), ("wine", 0, "caviar"), ("digits", 0, "asha")],
)
def test_audits_of_another_run_say_nothing_of_this_one(
    audited: Path, tmp_path: Path, source: str, seed: int, method: str
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"search: {{method: {method}}}")
    other = load_run(searched(tmp_path / "run", source, trials=8, seed=seed, spec_file=spec))
    with pytest.raises(RunError, match="got trials that it never had"):
        evaluate_audits(read_run_spec(audited), load_run(audited), other)


def test_audits_of_a_run_that_has_moved_are_still_its_own(audited: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(audited, tmp_path / "moved")
    run = load_run(moved)
    assert run.audit is not None
    old = load_run(audited)
    assert old.audit is not None
    own = format_audit(evaluate_audits(read_run_spec(audited), old, old.audit))
    assert format_audit(evaluate_audits(read_run_spec(moved), run, old.audit)) == own


@pytest.fixture(scope="module")
def ten(audited: Path) -> Path:
    """Ten audits of that search in a run of their own."""
    chosen = make_audit_spec(read_run_spec(audited), load_run(audited), epochs=LEAST * 27)
    result = train_again(chosen, out=audited.with_name("ten"), options=INLINE)
    assert result is not None
    return result.folder


def test_what_was_promoted_since_no_longer_counts_and_who_came_later_is_noted(
    audited: Path, ten: Path
) -> None:
    run, spec, audits = load_run(audited), read_run_spec(audited), load_run(ten)
    whole = evaluate_audits(spec, run, audits)
    assert not whole.grown and not whole.promoted
    trials = run.trials.copy()
    first = trials["seed"] == audits.trials["seed"].iloc[0]
    trials.loc[first, "status"] = "COMPLETED"
    found = evaluate_audits(spec, replace(run, trials=trials), audits)
    assert (found.audits, found.promoted) == (LEAST - 1, 1)
    assert "note: 1 more do" in "\n".join(format_audit(found))
    later = run.trials[first].assign(trial=99, seed=0)
    grown = evaluate_audits(spec, replace(run, trials=pd.concat([run.trials, later])), audits)
    assert grown.grown and "note: some trials were left behind after" in format_audit(grown)[-1]
    nobody = replace(run, trials=run.trials.assign(status="COMPLETED"))
    with pytest.raises(RunError, match="no audit of a trial that is still left behind"):
        evaluate_audits(spec, nobody, audits)


@given(st.integers(1, 60), st.data())
def test_with_equal_weights_the_interval_of_a_share_is_clopper_and_pearsons(
    count: int, data: st.DataObject
) -> None:
    hits = data.draw(st.integers(0, count))
    exact = binomtest(hits, count).proportion_ci(method="exact")
    own = _estimate_share_interval(hits / count, np.full(count, 3.5))
    np.testing.assert_allclose(own, (exact.low, exact.high), atol=1e-6)


def test_advice_needs_ten_audits_and_that_later_rungs_are_late_enough_too(audited: Path) -> None:
    run, spec = load_run(audited), read_run_spec(audited)
    assert run.audit is not None
    few = evaluate_audits(spec, run, run.audit)
    assert few.audits < LEAST and few.grace is None
    assert all(np.isnan([r.low, r.high, r.retained_low, r.retained_high]).all() for r in few.rungs)
    told = format_audit(few)[-1]
    assert told.startswith(f"too few audits to choose a grace period ({few.audits} of at least")
    assert "--total-epochs 540 --out FOLDER trains more" in told

    def rungs(*lows: float) -> tuple[AuditedRung, ...]:
        one = replace(few.rungs[0], retained_high=1.0)
        return tuple(replace(one, epoch=i, retained_low=low) for i, low in enumerate(lows, start=1))

    assert _choose_grace(rungs(0.95, 0.95)) == 1
    assert _choose_grace(rungs(0.95, 0.5, 0.95)) == 3
    assert _choose_grace(rungs(0.95, 0.5)) is None
    many = replace(few, audits=50, rungs=rungs(0.95, 0.95), grace=1)
    assert "support a grace period of 1 epoch:" in format_audit(many)[-1]
    unsure = format_audit(replace(many, rungs=rungs(0.5), grace=None))[-1]
    assert unsure.startswith("the audits do not show from which rung on")
    low = tuple(replace(r, retained_high=0.8) for r in rungs(0.5))
    assert "a longer grace period" in format_audit(replace(many, rungs=low, grace=None))[-1]


def test_of_ten_audits_on_figures_have_intervals(audited: Path, ten: Path) -> None:
    found = evaluate_audits(read_run_spec(audited), load_run(audited), load_run(ten))
    assert found.audits == LEAST
    for r in found.rungs:
        assert r.low <= r.correlation <= r.high
        assert 0 <= r.retained_low <= r.retained <= r.retained_high <= 1


def test_an_audit_folder_that_was_typed_must_hold_audits_and_an_empty_one_hides_none(
    audited: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def typed(*words: str) -> tuple[str, str]:
        monkeypatch.setattr("sys.argv", ["caviar", "audit", str(audited), *words])
        with pytest.raises(SystemExit):
            main()
        told = capsys.readouterr()
        return told.out, told.err

    nowhere = tmp_path / "nothere"
    assert f"{nowhere}: has no audits; " in typed("--out", str(nowhere))[1]
    audited.with_name("run-audit").mkdir()
    assert "were trained to the end" in typed()[0]

    def refused(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(typed("--json")[0], parse_constant=refused)
    lock = Lock(audited)
    assert typed()[0].startswith(f"note: {audited} is still going; ")
    assert "is still going; wait" in typed("--total-epochs", "99")[1]
    lock.release()


def test_too_few_epochs_or_nobody_left_behind_is_said_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    folder = searched(tmp_path / "run", trials=8)
    spec, run = read_run_spec(folder), load_run(folder)
    with pytest.raises(RunError, match="needs at least the 27 epochs of one trial"):
        make_audit_spec(spec, run, epochs=26)
    nobody = replace(run, trials=run.trials.assign(status="COMPLETED"))
    with pytest.raises(RunError, match="trials that pruning left behind, found none"):
        make_audit_spec(spec, nobody, epochs=100)
    other = make_audit_spec(spec, run, epochs=54)
    with pytest.raises(RunError, match="holds another run"):
        train_again(other, out=folder, options=INLINE)
