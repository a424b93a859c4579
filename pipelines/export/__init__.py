"""`caviar export`: a run in the formats of other tools.

A format is a file here with a function `write(run, out)`, and a row of FORMATS. The file imports
the packages that it needs, which come with an optional extra of the same name. `write` fills a
temporary folder beside the final place; the result is moved there when it is complete.
"""

from __future__ import annotations

import importlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator.errors import RunError

__all__ = ["FORMATS", "export"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    module: str  #: name of the module in this package that writes the format
    out: str  #: name of the result in the run's folder, unless the user gives one
    usage: str  #: command or note for the user; {url} and {out} are filled in


FORMATS = {
    "optuna": _Format(
        module="to_optuna", out="optuna.db", usage="optuna-dashboard {url}",
    ),
    "mlflow": _Format(
        module="to_mlflow", out="mlflow",
        usage="with the full mlflow (pip install mlflow), mlflow ui --backend-store-uri {url}",
    ),
    "tensorboard": _Format(
        module="to_tensorboard", out="tensorboard", usage="tensorboard --logdir {out}",
    ),
    "csv": _Format(
        module="to_csv", out="trials.csv", usage="one row for each trial",
    ),
    "onnx": _Format(
        module="to_onnx", out="best/model.onnx",
        usage="the best model; its metadata names columns and classes",
    ),
}  # fmt: skip


def export(folder: Path, *, to: str, out: Path | None = None) -> str:
    """Write a run in another tool's format, and say where it is and what opens it.

    Raises:
        RunError: If the tool is not installed, `out` exists already, or the folder holds no run.
    """
    from orchestrator.store.files import reporting_write_errors
    from pipelines.see.run import load_run

    export_format = FORMATS[to]
    run = load_run(folder)
    out = out or folder / export_format.out
    if out.exists():
        raise RunError(f"{out}: exists already; remove it, or give another name with `out`")
    try:
        exporter = importlib.import_module(f"pipelines.export.{export_format.module}")
        with reporting_write_errors(out.parent):
            out.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as unfinished:
                whole = Path(unfinished) / out.name
                exporter.write(run, whole)
                whole.replace(out)
    except ImportError as e:
        raise RunError(
            f"export --to {to} needs the package {e.name or to}, which cannot be imported ({e}); "
            f"type: pip install 'caviar[{to}]'"
        ) from e
    url = exporter.format_url(out) if "{url}" in export_format.usage else ""
    return f"{out}: {export_format.usage.format(out=shlex.quote(str(out)), url=shlex.quote(url))}"
