"""Commands that bring new data to a run's model: `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.errors import RunError
from pipelines.cli import options as o
from pipelines.cli.output import print_lines, print_notes, require_writable

__all__ = ["predict"]


def predict(
    run: o.RunArgument,
    data: o.DataArgument,
    out: Annotated[
        Path, typer.Option(metavar="FILE.parquet", help="the file to write the predictions to")
    ],
) -> None:
    """Predict the rows of DATA with RUN's best model; reads only its best/ folder."""
    from orchestrator.store.files import atomic_write, make_folder, remove_leftovers
    from orchestrator.store.run_files import check_run_files
    from pipelines.data.model import load_model
    from pipelines.see.formatting import format_number

    if out.suffix != ".parquet":
        raise RunError(f"--out needs a name that ends in .parquet, got {out}")
    require_writable(out)
    check_run_files(run)
    model = load_model(run / "best")
    print_notes(model.notes)
    frame, metrics = model.predict(data)
    try:
        make_folder(out.parent)
        remove_leftovers(out.parent)
        with atomic_write(out) as file:
            frame.to_parquet(file, index=False)
    except OSError as e:
        raise RunError(f"--out needs a file that can be written, got {out}: {e.strerror}") from e
    values = ", ".join(f"{name} {format_number(value)}" for name, value in metrics.items())
    print_lines([f"{len(frame)} predictions in {out}" + (f": {values}" if values else "")])
