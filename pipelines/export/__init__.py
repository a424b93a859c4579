"""`caviar export`: a run in the formats of the tools people have.

Each format is a file here with one function, `write(run, out)`; what it needs is imported
there and comes with an optional extra of the same name.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import RunError
from orchestrator.log import written_to
from pipelines.analysis import load

__all__ = ["FORMATS", "export"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    module: str
    needs: str  #: the package that has to be there
    out: str  #: in the run's folder, unless named
    told: str  #: what to do with it, after its name


FORMATS = {
    "optuna": _Format(
        module="to_optuna", needs="optuna", out="optuna.db",
        told="optuna-dashboard sqlite:///{out}",
    ),
    "mlflow": _Format(
        module="to_mlflow", needs="mlflow", out="mlflow",
        told="mlflow ui --backend-store-uri sqlite:///{out}/mlflow.db",
    ),
    "tensorboard": _Format(
        module="to_tensorboard", needs="tensorboard", out="tensorboard",
        told="tensorboard --logdir {out}",
    ),
    "csv": _Format(
        module="to_csv", needs="pandas", out="trials.csv", told="one row a trial",
    ),
    "onnx": _Format(
        module="to_onnx", needs="onnx", out="best/model.onnx",
        told="the best model; its metadata names columns and classes",
    ),
}  # fmt: skip


def export(folder: Path, *, to: str, out: Path | None = None) -> str:
    """Write a run in another tool's format; where it is and what opens it, in words.

    Raises:
        RunError: If the tool is not installed, `out` is there already, or there is no run.
    """
    found = FORMATS[to]
    try:
        importlib.import_module(found.needs)
    except ImportError as e:
        raise RunError(
            f"export --to {to} needs the package {found.needs}, which is not there ({e}); "
            f"type: pip install 'caviar[{to}]'"
        ) from e
    run = load(folder)
    out = out or folder / found.out
    if out.exists():
        raise RunError(f"{out}: is there already; remove it, or give another name with --out")
    with written_to(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        importlib.import_module(f"pipelines.export.{found.module}").write(run, out)
    return f"{out}: {found.told.format(out=out)}"
