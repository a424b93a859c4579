"""A run in the tools people have: each result is opened with the tool itself."""

from __future__ import annotations

import importlib
import json
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_runs import searched

from orchestrator.errors import RunError
from orchestrator.search.objective import WORST
from orchestrator.search.trial import Incumbent
from pipelines.data.encode import decode_target, encode_features
from pipelines.data.model import load_model, read_best_identity, save_model
from pipelines.export import FORMATS, export
from pipelines.see.configs import read_trial_config
from pipelines.see.run import RunTables, load_run
from pipelines.see.summary import describe_best


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("export") / "run", trials=25)


def test_optuna_reads_every_trial_with_its_values_states_and_scales(
    run: Path, tmp_path: Path
) -> None:
    optuna = pytest.importorskip("optuna")
    out = tmp_path / "optuna.db"
    assert f"optuna-dashboard sqlite:///{out}" in export(run, to="optuna", out=out)
    study = optuna.load_study(study_name="run", storage=f"sqlite:///{out}")
    known = load_run(run)
    assert len(study.trials) == len(known.trials)
    top = describe_best(known)
    assert top is not None
    assert study.user_attrs["caviar_best_trial"] == top["trial"]
    assert study.user_attrs["caviar_best_epoch"] == top["epoch"]
    complete = {"COMPLETED": "COMPLETE", "PAUSED": "PRUNED", "PRUNED": "PRUNED",
                "DIVERGED": "FAIL", "FAILED": "FAIL"}  # fmt: skip
    for trial, (_, row) in zip(study.trials, known.trials.iterrows(), strict=True):
        own = known.epochs[known.epochs["trial"] == row["trial"]]
        assert trial.state.name == complete[row["status"]]
        assert trial.intermediate_values == dict(
            zip(own["epoch"], own["validation_accuracy"], strict=True)
        )
        config = read_trial_config(known, int(row["trial"]))
        for name, value in trial.params.items():
            expected = 1 - config[name[4:]] if name.startswith("1 - ") else config[name]
            assert value == expected
    assert (
        study.best_value
        == known.trials.loc[known.trials["status"] == "COMPLETED", "validation_accuracy"].max()
    )
    scales = study.trials[0].distributions
    assert scales["learning_rate"].log
    near_one = [d for name, d in scales.items() if name.startswith("1 - ")]
    assert all(d.log and 0 < d.low < d.high <= 1 for d in near_one)


def test_tensorboard_reads_the_curves_and_the_hyperparameters(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    export(run, to="tensorboard", out=tmp_path / "logs")
    known = load_run(run)
    assert len(list((tmp_path / "logs").glob("trial-*"))) == len(known.trials)
    for trial in (0, 7):
        read = EventAccumulator(str(tmp_path / "logs" / f"trial-{trial:06d}"))
        read.Reload()
        own = known.epochs[known.epochs["trial"] == trial]
        scalars = read.Scalars("validation_accuracy")
        assert [s.step for s in scalars] == list(own["epoch"])
        np.testing.assert_allclose([s.value for s in scalars], own["validation_accuracy"], 1e-6)
        content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        rate = data.session_start_info.hparams["learning_rate"].number_value
        assert rate == known.trials.iloc[trial]["config_learning_rate"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, about MLflow
def test_mlflow_reads_every_run(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    export(run, to="mlflow", out=tmp_path / "mlflow")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "run"]
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    known = load_run(run)
    assert len(runs) == len(known.trials)
    by_trial = {int(r.data.tags["caviar.trial"]): r for r in runs}
    for trial in (0, 7):
        own = known.epochs[known.epochs["trial"] == trial]
        history = client.get_metric_history(by_trial[trial].info.run_id, "validation_accuracy")
        read = {m.step: m.value for m in history}
        assert read == dict(zip(own["epoch"], own["validation_accuracy"], strict=True))
        rate = float(by_trial[trial].data.params["learning_rate"])
        assert rate == known.trials.iloc[trial]["config_learning_rate"]


def test_the_csv_has_the_trials_table(run: Path, tmp_path: Path) -> None:
    export(run, to="csv", out=tmp_path / "trials.csv")
    read = pd.read_csv(tmp_path / "trials.csv")
    known = load_run(run).trials
    assert list(read.columns) == list(known.columns)
    pd.testing.assert_series_equal(
        read["validation_accuracy"], known["validation_accuracy"], check_dtype=False
    )
    parents = known["parents"].dropna()
    assert [json.loads(p) for p in read["parents"].dropna()] == [list(p) for p in parents]


def table(folder: Path, task: str) -> Path:
    """Numbers with gaps and a long tail, text with rare values and gaps."""
    rng = np.random.default_rng(0)
    n = 400
    words = rng.choice(["a", "b", "c c", *(f"rare{i}" for i in range(80))], size=n)
    frame = pd.DataFrame({
        "straight": np.where(rng.random(n) < 0.1, np.nan, rng.normal(1e6, 3, n)),
        "word": np.where(rng.random(n) < 0.1, None, words),
        "tailed": rng.lognormal(0, 2, n),
        "flag": rng.choice(["yes", "no"], size=n),
    })  # fmt: skip
    score = np.log(frame["tailed"]) + (frame["flag"] == "yes") + rng.normal(0, 0.3, n)
    target = {
        "regression": 1000 + 20 * score,
        "two": np.where(score > 0.5, "up", "down"),
        "three": np.digitize(score, [-1, 1]),
    }[task]
    path = folder / f"{task}.csv"
    frame.assign(target=target).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("task", ["regression", "two", "three"])
def test_the_onnx_model_gives_what_ours_gives_from_the_rows_as_they_stand(
    task: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    data = table(tmp_path, task)
    kind = "regression" if task == "regression" else "classification"
    folder = searched(tmp_path / "run", str(data), trials=6, task=kind)
    export(folder, to="onnx")
    session = runtime.InferenceSession(str(folder / "best" / "model.onnx"))
    told = session.get_modelmeta().custom_metadata_map
    frame = pd.read_csv(data, keep_default_na=False, na_values={"straight": ""})
    frame.loc[0, "word"] = "never seen"
    feed = {"numbers": frame[json.loads(told["columns"])].to_numpy(float)}
    feed |= {
        i.name: frame[[i.name]].to_numpy(object)
        for i in session.get_inputs() if i.name != "numbers"
    }  # fmt: skip
    (out,) = session.run(None, feed)
    model = load_model(folder / "best")
    assert (int(told["trial"]), int(told["epoch"])) == (model.trial, model.epoch)
    ours = model.compute_outputs(encode_features(model.preprocessing, frame))
    if task == "regression":
        assert out.dtype == np.float64
        natural = decode_target(model.preprocessing, ours)[:, None]
        scale = model.preprocessing.target_scale
        np.testing.assert_allclose(out, natural, rtol=0, atol=2e-6 * scale)  # float32 in between
    else:
        assert json.loads(told["classes"]) == list(model.preprocessing.classes)
        np.testing.assert_allclose(out, ours, atol=1e-5)


@pytest.mark.parametrize("task", ["regression", "two"])
def test_a_text_column_may_have_any_name_in_onnx(task: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    frame = pd.read_csv(table(tmp_path, task))
    names = ["numbers", "numbers_", "c0", "n3", "prediction", "probabilities"]
    for name in names:
        frame.insert(0, name, frame["flag"])
    data = tmp_path / "named.csv"
    frame.to_csv(data, index=False)
    kind = "regression" if task == "regression" else "classification"
    folder = searched(tmp_path / "run", str(data), trials=4, task=kind)
    export(folder, to="onnx")
    session = runtime.InferenceSession(str(folder / "best" / "model.onnx"))
    frame = pd.read_csv(data, keep_default_na=False, na_values={"straight": ""})
    columns = json.loads(session.get_modelmeta().custom_metadata_map["columns"])
    inputs = {i.name: i.type for i in session.get_inputs()}
    assert inputs.pop("numbers__") == "tensor(double)"
    assert set(inputs) >= set(names)
    feed = {name: frame[[name]].to_numpy(object) for name in inputs}
    (out,) = session.run(None, feed | {"numbers__": frame[columns].to_numpy(float)})
    model = load_model(folder / "best")
    ours = model.compute_outputs(encode_features(model.preprocessing, frame))
    if task == "regression":
        ours = decode_target(model.preprocessing, ours)[:, None]
    np.testing.assert_allclose(out, ours, atol=1e-4)


def test_a_new_best_model_takes_the_onnx_of_the_old_one_with_it(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    folder = searched(tmp_path / "run", trials=4)
    export(folder, to="onnx")
    onnx = folder / "best" / "model.onnx"
    model = load_model(folder / "best")
    save_model(
        folder / "best",
        Incumbent(score=WORST, trial=99, epoch=1),
        state=dict(model.weights),
        config=model.config,
        trainer="caviar.trainers:BatchNormClassifier",
        preprocessing=model.preprocessing,
    )
    assert read_best_identity(folder / "best") == (99, 1)
    assert not onnx.exists()
    export(folder, to="onnx")
    assert onnx.exists()


def test_onnx_of_the_built_in_digits(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from sklearn.datasets import load_digits

    folder = searched(tmp_path / "run", "digits", trials=4)
    export(folder, to="onnx", out=tmp_path / "digits.onnx")
    session = runtime.InferenceSession(str(tmp_path / "digits.onnx"))
    x = load_digits().data
    (out,) = session.run(None, {"numbers": x})
    model = load_model(folder / "best")
    frame = pd.DataFrame(x, columns=list(model.preprocessing.columns))
    np.testing.assert_allclose(
        out, model.compute_outputs(encode_features(model.preprocessing, frame)), atol=1e-5
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, about MLflow
@pytest.mark.parametrize("to", FORMATS)
def test_a_broken_off_export_leaves_nothing(
    to: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(to if to != "csv" else "pandas")
    exporter = importlib.import_module(f"pipelines.export.to_{to}")
    write = exporter.write

    def broken_off(run: RunTables, out: Path) -> None:
        write(run, out)
        raise KeyboardInterrupt

    monkeypatch.setattr(exporter, "write", broken_off)
    with pytest.raises(KeyboardInterrupt):
        export(run, to=to, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, about MLflow
def test_mlflow_without_its_database_is_one_line_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setitem(sys.modules, "alembic", None)
    with pytest.raises(RunError, match=r"package alembic.*pip install 'caviar\[mlflow\]'"):
        export(run, to="mlflow", out=tmp_path / "mlflow")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, about MLflow
@pytest.mark.parametrize("place", ["with space/é", "we?ird #dir"])
def test_a_folder_of_any_name_is_written_to_and_its_command_can_be_pasted(
    place: str, run: Path, tmp_path: Path
) -> None:
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    folder = tmp_path / place
    told = export(run, to="optuna", out=folder / "o.db").partition(": ")[2]
    command, url = shlex.split(told)
    assert command == "optuna-dashboard"
    assert [s.study_name for s in optuna.get_all_study_summaries(storage=url)] == ["run"]
    told = export(run, to="mlflow", out=folder / "mlflow")
    assert "pip install mlflow" in told
    url = shlex.split(told.partition("mlflow ui --backend-store-uri ")[2])[0]
    found = MlflowClient(tracking_uri=url).get_experiment_by_name("run")
    assert found.artifact_location == (folder / "mlflow" / "artifacts").as_uri()
    assert {p.name for p in folder.iterdir()} == {"o.db", "mlflow"}
    logdir = export(run, to="tensorboard", out=folder / "logs").partition(": ")[2]
    assert shlex.split(logdir) == ["tensorboard", "--logdir", str(folder / "logs")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, about MLflow
@pytest.mark.parametrize("status", ["STOPPED", "RUNNING"])
def test_no_trial_of_a_run_that_has_ended_looks_alive(
    status: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    known = load_run(run)
    trials = known.trials.assign(status=status)
    monkeypatch.setattr(
        "pipelines.see.run.load_run", lambda _: replace(known, trials=trials, status="killed")
    )
    export(run, to="optuna", out=tmp_path / "o.db")
    study = optuna.load_study(study_name="run", storage=f"sqlite:///{tmp_path}/o.db")
    assert [t.state.name for t in study.trials] == ["PRUNED"] * len(trials)
    assert study.trials[0].user_attrs["status"] == "STOPPED"
    export(run, to="mlflow", out=tmp_path / "mlflow")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("run").experiment_id])
    assert [r.info.status for r in found] == ["KILLED"] * len(trials)


def test_what_is_not_installed_or_there_already_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "trials.csv"
    out.write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        export(run, to="csv", out=out)
    assert out.read_text() == "mine"
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "pipelines.export.to_optuna", raising=False)
    with pytest.raises(RunError, match=r"needs the package optuna.*pip install 'caviar\[optuna\]'"):
        export(run, to="optuna", out=tmp_path / "x.db")
    assert not (tmp_path / "x.db").exists()


def test_every_format_of_the_command_line_is_there() -> None:
    from pipelines.cli.look import Format

    assert {f.value for f in Format} == set(FORMATS)


# ---------------------------------------------------------------------- killed


def list_names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


KILLED = """
import os, sys
from pathlib import Path
import pipelines.export as export_module
before = export_module.move

def die(source, target):
    if sys.argv[3] == "after":
        before(source, target)
    os.kill(os.getpid(), 9)

export_module.move = die
export_module.export(Path(sys.argv[1]), to="csv", out=Path(sys.argv[2]))
"""


def export_and_die(run: Path, out: Path, moment: str) -> None:
    """Export in a process that is killed before or after the result is moved to its place."""
    command = [sys.executable, "-c", KILLED, str(run), str(out), moment]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_export_that_was_killed_at_its_end_is_complete_after_the_next(
    moment: str, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "trials.csv"
    export_and_die(run, out, moment)
    assert out.exists() == (moment == "after")
    assert len(list_names(out.parent)) == 1 + out.exists()
    assert export(run, to="csv", out=out) == f"{out}: one row for each trial"
    assert list_names(out.parent) == ["trials.csv"]
    assert len(pd.read_csv(out)) == len(load_run(run).trials)
    with pytest.raises(RunError, match="exists already"):
        export(run, to="csv", out=out)


def test_what_a_killed_export_left_does_not_give_away_a_file_of_the_user(
    run: Path, tmp_path: Path
) -> None:
    export_and_die(run, tmp_path / "a.csv", "before")
    export_and_die(run, tmp_path / "b.csv", "after")
    for name in ("a.csv", "c.csv"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(RunError, match="exists already"):
            export(run, to="csv", out=tmp_path / name)
        assert (tmp_path / name).read_text() == "mine"
