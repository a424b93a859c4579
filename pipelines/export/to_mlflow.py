"""An MLflow folder: a database with one experiment, in which each trial is an MLflow run."""

from __future__ import annotations

import logging
import math
import os
import time
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported: nothing is sent

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import URL, make_url

from orchestrator.search.trial import Status
from pipelines.see.configs import read_trial_config
from pipelines.see.epochs import group_curves, list_run_metrics
from pipelines.see.run import RunTables, resolve_status

__all__ = ["format_url", "write"]

DATABASE = "mlflow.db"  #: MLflow 3.17 refuses folders of files, its older form
MAX_METRICS = 1_000  #: metrics in one call of MLflow
STATES = {
    Status.COMPLETED: "FINISHED",
    Status.PAUSED: "KILLED",
    Status.PRUNED: "KILLED",
    Status.DIVERGED: "FAILED",
    Status.FAILED: "FAILED",
    Status.STOPPED: "KILLED",
}


def format_url(out: Path) -> str:
    """Write the URL of the database in the folder, escaped only where it has to be.

    MLflow creates the folder under the name in the URL, so an escaped é would give another folder.
    """
    plain, path = f"sqlite:///{out / DATABASE}", str(out / DATABASE)
    if make_url(plain).database == path:
        return plain
    return str(URL.create("sqlite", database=path))


def write(run: RunTables, out: Path) -> None:
    """Write every trial with its configuration, its metrics by epoch and its status."""
    # It logs each table that it makes, and texts of the run with all their control characters.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    out.mkdir()
    client = MlflowClient(tracking_uri=format_url(out.absolute()))
    place = out.absolute().parents[1] / out.name  # final place: MLflow stores whole paths
    experiment = client.create_experiment(
        run.folder.resolve().name, artifact_location=(place / "artifacts").as_uri()
    )
    begun = time.time() - float(run.events["at_seconds"].max())
    curves = group_curves(run)
    names = list_run_metrics(run)

    def milliseconds(at_seconds: float) -> int:
        return int(1000 * (begun + at_seconds))

    for _, row in run.trials.iterrows():
        trial = int(row["trial"])
        curve = curves.get(trial)
        at = [0.0] if curve is None else list(curve["at_seconds"])
        mlflow_run = client.create_run(
            experiment, start_time=milliseconds(min(at)), run_name=f"trial {trial}"
        )
        metrics = (
            []
            if curve is None
            else [
                Metric(name, float(r[name]), milliseconds(r["at_seconds"]), int(r["epoch"]))
                for r in curve.to_dict("records")
                for name in names
                if math.isfinite(r[name])
            ]
        )
        tags = [RunTag("caviar.trial", str(trial)), RunTag("stage", str(row["stage"]))]
        params = [Param(name, str(value)) for name, value in read_trial_config(run, trial).items()]
        client.log_batch(mlflow_run.info.run_id, params=params, tags=tags)
        for first in range(0, len(metrics), MAX_METRICS):
            client.log_batch(mlflow_run.info.run_id, metrics=metrics[first : first + MAX_METRICS])
        status = resolve_status(run, row["status"])
        if status is not Status.RUNNING:
            client.set_terminated(mlflow_run.info.run_id, STATES[status], milliseconds(max(at)))
