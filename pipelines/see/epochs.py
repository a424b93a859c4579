"""Views of a run's epochs table: all epochs, each trial's curve, the metrics."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipelines.see.run import RunTables

__all__ = ["concat_epochs", "group_curves", "list_run_metrics"]


def concat_epochs(run: RunTables) -> pd.DataFrame:
    """Every epoch that was trained, those of audits included."""
    parts = [part.epochs for part in (run, run.audit) if part is not None and len(part.epochs)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def group_curves(run: RunTables) -> dict[Any, pd.DataFrame]:
    """By trial: its epochs; a trial without an epoch is left out."""
    return dict(list(run.epochs.groupby("trial"))) if len(run.epochs) else {}


def list_run_metrics(run: RunTables) -> list[str]:
    """The names of the metrics of each epoch, those of training and of validation."""
    return [str(n) for n in run.epochs if str(n).startswith(("train_", "validation_"))]
