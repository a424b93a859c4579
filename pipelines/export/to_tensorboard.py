"""TensorBoard logs: a folder for each trial with its metrics by epoch, and HParams over all."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tensorboard.summary.writer.record_writer import RecordWriter

from orchestrator.search.trial import Status
from orchestrator.space.domains import Choice
from orchestrator.space.space import Dimension
from orchestrator.store.files import atomic_write, make_folder
from pipelines.see.configs import read_trial_config
from pipelines.see.epochs import group_curves, list_run_metrics
from pipelines.see.run import RunTables

__all__ = ["write"]

SUCCEEDED = (Status.COMPLETED, Status.PAUSED, Status.PRUNED)


def write(run: RunTables, out: Path) -> None:
    """Write scalars train_…, validation_… by epoch, and hyperparameters with their ranges."""
    names = list_run_metrics(run)
    begun = time.time() - float(run.events["at_seconds"].max())
    experiment = api_pb2.Experiment(
        hparam_infos=[_make_hparam_info(d) for d in run.space.dimensions],
        metric_infos=[
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=name))
            for name in _order_metrics(run, names)
        ],
        time_created_secs=begun,
    )
    content = _make_summary(metadata.EXPERIMENT_TAG, experiment=experiment)
    _write_events(out, begun, [Event(wall_time=begun, summary=content)])
    curves = group_curves(run)
    for _, row in run.trials.iterrows():
        trial = int(row["trial"])
        start = SessionStartInfo(group_name=f"trial-{trial}", start_time_secs=begun)
        for name, value in read_trial_config(run, trial).items():
            field = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            setattr(start.hparams[name], field, value)
        good = Status(row["status"]) in SUCCEEDED
        end = SessionEndInfo(
            status=api_pb2.STATUS_SUCCESS if good else api_pb2.STATUS_FAILURE,
            end_time_secs=begun,
        )
        began = _make_summary(metadata.SESSION_START_INFO_TAG, session_start_info=start)
        ended = _make_summary(metadata.SESSION_END_INFO_TAG, session_end_info=end)
        curve = curves[trial].to_dict("records") if trial in curves else []
        scalars = [
            Event(
                wall_time=begun + r["at_seconds"],
                step=int(r["epoch"]),
                summary=Summary(
                    value=[
                        Summary.Value(tag=name, simple_value=float(r[name]))
                        for name in names
                        if math.isfinite(r[name])
                    ]
                ),
            )
            for r in curve
        ]
        first = [Event(wall_time=begun, summary=began)]
        _write_events(
            out / f"trial-{trial:06d}",
            begun,
            [*first, *scalars, Event(wall_time=begun, summary=ended)],
        )


def _order_metrics(run: RunTables, names: list[str]) -> list[str]:
    """Put the metric that decides first, because TensorBoard colours by the first one."""
    return sorted(names, key=lambda name: name != run.objective.metric)


def _make_hparam_info(d: Dimension) -> Any:
    domain = d.domain
    info = api_pb2.HParamInfo(name=d.name)
    if isinstance(domain, Choice):
        if all(isinstance(v, bool) for v in domain.options):
            info.type = api_pb2.DATA_TYPE_BOOL
        elif all(isinstance(v, str) for v in domain.options):
            info.type = api_pb2.DATA_TYPE_STRING
        else:
            info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_discrete.extend(domain.options)
    else:
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value = float(domain.low)
        info.domain_interval.max_value = float(domain.high)
    return info


def _make_summary(tag: str, **content: Any) -> Any:
    """Make the event for the HParams plugin, which reads all of it from the tag's metadata."""
    data = metadata.create_summary_metadata(HParamsPluginData(**content))
    return Summary(value=[Summary.Value(tag=tag, metadata=data, tensor=metadata.NULL_TENSOR)])


def _write_events(folder: Path, begun: float, summaries: list[Event]) -> None:
    """Write an event file, in this thread: TensorBoard's EventFileWriter writes in one of its own,
    where an error such as a full disk is lost.
    """
    head = Event(wall_time=begun, file_version="brain.Event:2")
    make_folder(folder)
    with atomic_write(folder / f"events.out.tfevents.{int(begun):010d}.caviar") as file:
        records = RecordWriter(file)
        for event in (head, *summaries):
            records.write(event.SerializeToString())
