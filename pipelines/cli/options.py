"""The arguments and options of the command line that several commands share, each written once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AddressOption",
    "DataArgument",
    "DeterministicOption",
    "EpochTimeoutOption",
    "JsonOption",
    "LikeOption",
    "LogLevel",
    "MaxEpochsOption",
    "MetricOption",
    "MirrorOption",
    "OutOption",
    "PoolKind",
    "PoolOption",
    "QuietOption",
    "RunArgument",
    "RunsArgument",
    "SeedOption",
    "SpecOption",
    "TargetOption",
    "Task",
    "TaskOption",
    "TestOption",
    "TimeOption",
    "TotalEpochsOption",
    "TrialsOption",
    "TrustOption",
    "WorkersOption",
]


class Task(StrEnum):
    """What the target is."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class PoolKind(StrEnum):
    """Where trials are trained."""

    RAY = "ray"
    INLINE = "inline"


class LogLevel(StrEnum):
    """How much the log says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="digits, wine, breast_cancer, diabetes; or a .csv .tsv .data .txt .parquet .npz file; "
        "or a folder in MNIST's IDX layout",
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")]
RunsArgument = Annotated[
    list[Path], typer.Argument(metavar="RUN [RUN…]", help="the folders of one or several runs")
]
TargetOption = Annotated[str | None, typer.Option(help="the column to predict [the last one]")]
TestOption = Annotated[str | None, typer.Option(help="a file with a separate test set")]
TaskOption = Annotated[
    Task | None, typer.Option(help="what the target is [guessed from its values]")
]
SpecOption = Annotated[
    Path | None, typer.Option(help="a YAML file with what differs from the defaults")
]
TimeOption = Annotated[str | None, typer.Option(help="budget of time: 60s, 10m, 2h")]
TrialsOption = Annotated[int | None, typer.Option(help="budget of trials")]
TotalEpochsOption = Annotated[int | None, typer.Option(help="budget of epochs, over all trials")]
MaxEpochsOption = Annotated[int | None, typer.Option(help="the most epochs of one trial [27]")]
MetricOption = Annotated[
    str | None, typer.Option(help="the metric that decides [the trainer's first]")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="number of workers [one for each processor]")
]
LikeOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="RUN", help="try the best configurations of this run first; repeatable"),
]
SeedOption = Annotated[int | None, typer.Option(help="same seed, same draws [0]")]
DeterministicOption = Annotated[
    bool,
    typer.Option("--deterministic", help="same seed, same run, with any number of workers"),
]
OutOption = Annotated[Path | None, typer.Option(help="the run's folder [runs/NAME-DATE-TIME]")]
AddressOption = Annotated[
    str | None, typer.Option(help="the Ray cluster to use: auto or HOST:PORT [a local one]")
]
EpochTimeoutOption = Annotated[
    str | None,
    typer.Option(help="a worker is killed if a trial's first epoch takes longer [10m]"),
]
MirrorOption = Annotated[
    str | None,
    typer.Option(metavar="URI", help="keep a copy of RUN's folder here: a folder, s3://, gs:// …"),
]
PoolOption = Annotated[PoolKind, typer.Option(help="train in Ray actors, or in this process")]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-trainer", help="allow the code of the trainer that the spec names"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="print the final summary alone")]
