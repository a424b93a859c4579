"""Runs that another version recorded stay readable, and nothing writes to them."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from recordings import MODEL_COLUMNS, OLDER, PRESENT, copy_recording, read_all_bytes, rewrite_part
from rich.console import Console
from test_runs import searched

import caviar as api
from orchestrator.errors import RunError
from pipelines.data.model import load_model
from pipelines.export import export
from pipelines.runs.repair import repair, replay_run
from pipelines.see.compare import compare_folders, format_comparison
from pipelines.see.configs import iterate_configs_by_rank
from pipelines.see.page import write_page
from pipelines.see.placement import locate_best_values
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec
from pipelines.see.summary import describe_best, summarize_run
from pipelines.see.terminal import format_summary
from pipelines.see.watch import watch_run
from pipelines.see.why import explain_trial

SPACE = "space: {units: {int_log2: [8, 16]}, layers: {int: [1, 2]}}\n"


@pytest.fixture(params=[*OLDER, PRESENT])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return copy_recording(request.param, tmp_path / "run")


@pytest.fixture(params=OLDER)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return copy_recording(request.param, tmp_path / "older")


# ---------------------------------------------------------------------- reading


def test_its_tables_have_all_columns_of_this_version(run: Path) -> None:
    loaded, present = load_run(run), load_run(copy_recording(PRESENT, run.parent / "present"))
    for name in ("events", "epochs", "trials"):
        columns = set(getattr(loaded, name).columns)
        assert columns == set(getattr(present, name).columns)
    assert (loaded.trials["status"] == "COMPLETED").any()
    assert loaded.audit is not None and len(loaded.audit.trials)


def test_what_the_model_expected_is_null_where_the_schema_had_no_column_for_it(
    tmp_path: Path,
) -> None:
    events = load_run(copy_recording("schema-1", tmp_path / "run")).events
    assert events[MODEL_COLUMNS].isna().all(axis=None)
    assert load_run(copy_recording("run-0.1", tmp_path / "later")).events["expected"].notna().any()


def test_show_says_what_it_came_to(run: Path) -> None:
    loaded = load_run(run)
    summary = summarize_run(loaded)
    assert summary["status"] == "finished"
    assert summary["epochs"] + len(loaded.audit.epochs if loaded.audit else []) == 90
    best = summary["best"]
    assert best["validation"]["accuracy"] == loaded.epochs["validation_accuracy"].max()
    assert best["test"].keys() == best["intervals"]["test"].keys() == {"accuracy", "log_loss"}
    lines = format_summary(summary, locate_best_values(loaded), loaded.objective)
    assert lines[0].startswith(f"best by validation accuracy: trial {best['trial']}, epoch ")


def test_report_writes_its_page(run: Path) -> None:
    write_page([run], run / "report.html")
    assert "Learning curves" in (run / "report.html").read_text(encoding="utf-8")


def test_predict_uses_its_best_model(run: Path, tmp_path: Path) -> None:
    best = describe_best(load_run(run))
    model = load_model(run / "best")
    assert best is not None and (model.trial, model.epoch) == (best["trial"], best["epoch"])
    frame, figures = model.predict("wine")
    assert len(frame) == 178
    assert figures["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("to", "tool"),
    [("csv", "pandas"), ("optuna", "optuna"), ("mlflow", "mlflow"), ("tensorboard", "tensorboard"),
     ("onnx", "onnx")],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_is_exported_to_every_tool(run: Path, to: str, tool: str, tmp_path: Path) -> None:
    pytest.importorskip(tool)
    out = tmp_path / f"exported.{to}"
    export(run, to=to, out=out)
    assert out.exists()
    if to == "csv":
        assert len(pd.read_csv(out)) == len(load_run(run).trials)


def test_a_new_run_starts_from_its_best_configurations(run: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPACE)
    before = read_all_bytes(run)
    new = searched(tmp_path / "new", trials=6, like=[run], spec_file=spec)
    best = next(iterate_configs_by_rank(load_run(run)))
    assert read_run_spec(new).search.initial_configs[0] == best
    assert read_all_bytes(run) == before


def test_why_explains_every_trial(run: Path) -> None:
    loaded = load_run(run)
    assert loaded.audit is not None
    for trial in [*loaded.trials["trial"], *loaded.audit.trials["trial"]]:
        text = explain_trial(loaded, trial)
        assert text.startswith(f"Trial {trial} began after ")
        assert "nan" not in text.lower() and "<NA>" not in text


def test_watch_draws_it_once_and_changes_nothing(run: Path) -> None:
    before = read_all_bytes(run)
    file = io.StringIO()
    watch_run(run, console=Console(file=file, width=100))
    assert "(finished)" in file.getvalue()
    assert read_all_bytes(run) == before


def test_it_can_be_compared_with_a_run_of_this_version(older: Path) -> None:
    present = copy_recording(PRESENT, older.parent / "present")
    comparison = compare_folders([older, present])
    assert len(format_comparison(comparison)) >= 3
    assert comparison.table["epochs"].gt(0).all()


@pytest.mark.slow
def test_its_pruning_can_be_audited_in_a_new_folder(run: Path, tmp_path: Path, caviar: Any) -> None:
    before = read_all_bytes(run)
    done = caviar(
        *"audit run --total-epochs 18 --pool inline --quiet --trust-trainer --out audits".split()
    )
    assert "false kills" in done.stdout
    assert read_all_bytes(run) == before


# ---------------------------------------------------------------------- not writing


def check_refusal(error: RunError, run: Path) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.startswith(f"{run}: was recorded by an older version of caviar")
    assert text.endswith(f"caviar search DATA --like {run}")


def test_whatever_would_write_to_it_is_refused_and_not_a_byte_is_changed(older: Path) -> None:
    before = read_all_bytes(older)
    for write in (
        lambda: api.resume(older, pool="inline"),
        lambda: api.resume(older, trials=3, pool="inline"),
        lambda: searched(older),
        lambda: repair(older),
    ):
        with pytest.raises(RunError) as caught:
            write()
        check_refusal(caught.value, older)
        assert read_all_bytes(older) == before


def test_a_damaged_one_is_not_repaired_by_another_version(older: Path) -> None:
    part = older / "epochs" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    before = read_all_bytes(older)
    with pytest.raises(RunError) as caught:
        repair(older)
    check_refusal(caught.value, older)
    assert read_all_bytes(older) == before


def test_replay_says_that_another_version_took_its_decisions(older: Path) -> None:
    with pytest.raises(RunError, match="another version of caviar took its decisions") as caught:
        replay_run(older)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "resume older --pool inline",
        "resume older --pool inline --trials 3",
        "search wine --out older --pool inline --trials 3",
        "repair older",
        "replay older",
        "finalists older --out older --pool inline",
        "audit older --total-epochs 18 --out older --pool inline",
    ],
)
def test_the_command_refuses_it_in_one_line_with_exit_2(
    words: str, tmp_path: Path, caviar: Any
) -> None:
    older = copy_recording("run-0.1", tmp_path / "older")
    before = read_all_bytes(older)
    done = caviar(*words.split(), code=2)
    assert re.fullmatch(r"caviar: older: [^\n]+\n", done.stderr)
    assert read_all_bytes(older) == before


@pytest.mark.parametrize("table", ["events", "epochs", "trials"])
def test_a_run_of_a_newer_version_is_refused_and_not_a_byte_is_changed(
    table: str, tmp_path: Path
) -> None:
    run = copy_recording(PRESENT, tmp_path / "run")
    rewrite_part(run / table / "part-00000.parquet", schema=99)
    before = read_all_bytes(run)
    for use in (
        lambda: load_run(run),
        lambda: api.resume(run, pool="inline"),
        lambda: repair(run),
        lambda: replay_run(run),
    ):
        with pytest.raises(RunError, match=r"schema 99|got 99") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert read_all_bytes(run) == before
