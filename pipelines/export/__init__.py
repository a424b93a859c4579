"""`caviar export`: a run in the formats of other tools.

A format is a file here with a function `write(run, out)`, and a row of FORMATS. The file imports
the packages that it needs, which come with an optional extra of the same name. `write` fills a
temporary folder beside the final place; the result is moved there when it is complete. An export
that was killed after that move is complete, too: the same command then says so.
"""

from __future__ import annotations

import importlib
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import CaviarError, RunError
from orchestrator.quote import get_first_line
from orchestrator.store.files import (
    TEMPORARIES,
    atomic_write,
    make_folder,
    move,
    remove_leftovers,
    reporting_write_errors,
    sync_tree,
    temporary_folder,
)

if TYPE_CHECKING:
    from pipelines.see.run import RunTables

__all__ = ["FORMATS", "export"]

#: File in the temporary folder that names the result once it is complete.
_COMPLETE = ".caviar-complete"
MAX_NAME_BYTES = 4096  #: bytes of the name of a result, which that file holds


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
    from pipelines.see.run import load_run

    export_format = FORMATS[to]
    run = load_run(folder)
    out = out or folder / export_format.out
    if out.exists() and not _is_from_killed_export(out):
        raise RunError(f"{out}: exists already; remove it, or give another name with `out`")
    try:
        exporter = importlib.import_module(f"pipelines.export.{export_format.module}")
        with reporting_write_errors(out.parent):
            make_folder(out.parent)
            remove_leftovers(out.parent)
            if not out.exists():
                _write(exporter.write, run, out)
    except ImportError as e:
        raise RunError(
            f"export --to {to} needs the package {e.name or to}, which cannot be imported ({e}); "
            f"type: pip install 'caviar[{to}]'"
        ) from e
    url = exporter.format_url(out) if "{url}" in export_format.usage else ""
    return f"{out}: {export_format.usage.format(out=shlex.quote(str(out)), url=shlex.quote(url))}"


def _write(write: Callable[[RunTables, Path], None], run: RunTables, out: Path) -> None:
    with temporary_folder(out.parent) as folder:
        result = folder / out.name
        try:
            write(run, result)
        except (CaviarError, OSError, ImportError):
            raise
        except (
            Exception
        ) as e:  # the tools refuse some names and values, each with errors of its own
            raise RunError(
                f"{run.folder}: cannot be written as {out.name}: {get_first_line(e)}"
            ) from e
        sync_tree(result)
        with atomic_write(folder / _COMPLETE) as file:
            file.write(os.fsencode(out.name))
        move(result, out)


def _is_from_killed_export(out: Path) -> bool:
    """Whether an export was killed between the move of its result to `out` and its end."""
    return any(
        mark.is_file()
        and mark.stat().st_size < MAX_NAME_BYTES
        and mark.read_bytes() == os.fsencode(out.name)
        and not (mark.parent / out.name).exists()
        for mark in out.parent.glob(f"{TEMPORARIES}/{_COMPLETE}")
    )
