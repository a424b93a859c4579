"""A run as Python users see it: its tables, its best model, its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from caviar._paths import make_path

if TYPE_CHECKING:
    import pandas as pd

    from caviar._search import PoolName
    from orchestrator.search.objective import Objective
    from orchestrator.space.space import Space
    from pipelines.data.model import Model
    from pipelines.see.compare import RunComparison
    from pipelines.see.run import RunTables

__all__ = ["Run", "compare", "load", "load_model"]


class Run:
    """A run as it was when it was loaded; `caviar.load(run.folder)` reads it again.

    Audits (trials that pruning left behind and that were trained on to judge it) stand apart, in
    `audit`: no other table or figure counts them.
    """

    def __init__(self, tables: RunTables) -> None:
        self._tables = tables

    def __repr__(self) -> str:
        return f"<caviar.Run {self.folder}: {self.status}, {len(self.trials)} trials>"

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self._tables.folder

    @property
    def status(self) -> str:
        """How the run stands: running, finished, interrupted, failed or killed."""
        return self._tables.status

    @property
    def trials(self) -> pd.DataFrame:
        """The trials, one row for each: configuration, status, best result."""
        return self._tables.trials

    @property
    def epochs(self) -> pd.DataFrame:
        """The epochs, one row for each trial and epoch: metrics, times."""
        return self._tables.epochs

    @property
    def events(self) -> pd.DataFrame:
        """The decisions in their order, each with its reason."""
        return self._tables.events

    @property
    def objective(self) -> Objective:
        """The metric that decides, and the metric that breaks its ties."""
        return self._tables.objective

    @property
    def space(self) -> Space:
        """The search space; read from the run's spec when it is asked for."""
        return self._tables.space

    @property
    def audit(self) -> Run | None:
        """The tables of the run's audits, or None if the run has no audits."""
        return Run(self._tables.audit) if self._tables.audit is not None else None

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The best epoch with its trial, configuration and metrics, or None before the first."""
        from pipelines.see.summary import describe_best

        return describe_best(self._tables)

    def summary(self) -> dict[str, Any]:
        """What the run came to, as plain values: what `caviar show --json` prints."""
        from pipelines.see.summary import summarize_run

        return summarize_run(self._tables)

    def predict(self, data: str | Path | pd.DataFrame) -> pd.DataFrame:
        """Predict rows with the best model; a row of the result for each row of the data.

        Args:
            data: A file or a built-in data set, or a frame with the columns of the training data.

        Raises:
            InputError: If the run has no model yet, or the data lacks a column.
        """
        model = load_model(self.folder / "best")
        if isinstance(data, str | Path):
            return model.predict(str(data))[0]
        with TemporaryDirectory(prefix="caviar-") as folder:
            file = Path(folder) / "rows.parquet"
            data.rename(columns=str).to_parquet(file, index=False)
            return model.predict(str(file))[0]

    def report(self, out: str | Path | None = None) -> Path:
        """Write one page of charts that opens offline; return its path.

        Args:
            out: The file; None = report.html in the run's folder.
        """
        from pipelines.see.page import write_page

        page = make_path("out", out) if out is not None else self.folder / "report.html"
        write_page([self.folder], page)
        return page

    def resume(
        self,
        *,
        time: str | float | None = None,
        trials: int | None = None,
        epochs: int | None = None,
        workers: int | None = None,
        pool: PoolName = "ray",
        address: str | None = None,
        epoch_timeout: str | float | None = None,
        mirror: str | None = None,
        trust_trainer: bool = False,
        progress: bool = False,
    ) -> Run:
        """Continue the run where it stopped; the arguments are those of `caviar.resume`."""
        from caviar._search import resume

        return resume(
            self.folder,
            time=time,
            trials=trials,
            epochs=epochs,
            workers=workers,
            pool=pool,
            address=address,
            epoch_timeout=epoch_timeout,
            mirror=mirror,
            trust_trainer=trust_trainer,
            progress=progress,
        )


def load(folder: str | Path) -> Run:
    """Load the tables of a run, which may be running.

    Raises:
        InputError: If there is no run in the folder, or a table cannot be read.
    """
    from pipelines.see.run import load_run as load_tables

    return Run(load_tables(make_path("folder", folder)))


def load_model(folder: str | Path) -> Model:
    """Load a model from the folder best/ of a run.

    Raises:
        InputError: If it is not there, is damaged, or belongs to a user's trainer.
    """
    from pipelines.data.model import load_model

    return load_model(make_path("folder", folder))


def compare(folders: Sequence[str | Path]) -> RunComparison:
    """Compare runs: results, differences of their specs, a paired test where seeds match.

    Raises:
        InputError: If there are fewer than two, or different metrics decide them.
    """
    from pipelines.see.compare import compare_folders

    return compare_folders([make_path("folders", folder) for folder in folders])
