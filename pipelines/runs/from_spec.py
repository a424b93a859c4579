"""What a spec is turned into before a session: search, tables, data, the workers' job."""

from __future__ import annotations

from orchestrator.errors import RunError
from orchestrator.runtime.trainer import Job, choose_objective
from orchestrator.search.search import Search
from orchestrator.store.tables import Tables
from pipelines.data.datasets import Table, compute_fingerprint, read_table
from pipelines.data.prepare import PreparedData, prepare_table
from pipelines.runs.spec import Spec
from pipelines.runs.trust import load_spec_trainer

__all__ = [
    "make_job",
    "make_search",
    "make_tables",
    "prepare_spec_table",
    "read_run_data",
]


def make_search(spec: Spec) -> Search:
    """The search of a run before its first event."""
    return Search(spec.parameters(), spec.search, seed=spec.seed, max_epochs=spec.max_epochs)


def make_tables(spec: Spec) -> Tables:
    """The schemas of a run's tables.

    Raises:
        SpecError: If the trainer cannot be loaded or is not trusted, or does not have the metric.
    """
    trainer, _ = load_spec_trainer(spec)
    return Tables(
        space=spec.parameters(),
        metrics={name: kind for name, (kind, _) in trainer.metrics.items()},
        objective=choose_objective(trainer, spec.metric),
    )


def make_job(spec: Spec, data: PreparedData) -> Job:
    """What each worker of a run is made with.

    Raises:
        SpecError: If the trainer cannot be loaded or is not trusted, or does not have the metric.
    """
    trainer, code = load_spec_trainer(spec)
    return Job(
        trainer=spec.trainer,
        data=data.data,
        max_epochs=spec.max_epochs,
        objective=choose_objective(trainer, spec.metric),
        code=code,
    )


def read_run_data(spec: Spec) -> PreparedData:
    """The data of an existing run, read again and checked against its fingerprint.

    Raises:
        InputError: If it cannot be read, or its values are no longer those the run was made with.
    """
    table = read_table(spec.data.source, target=spec.data.target, test=spec.data.test)
    if compute_fingerprint(table) != spec.data.fingerprint:
        raise RunError(
            f"{spec.data.source}: its values are not those this run was made with; "
            f"put the old file back, or begin a new run with `caviar search`"
        )
    return prepare_spec_table(spec, table)


def prepare_spec_table(spec: Spec, table: Table) -> PreparedData:
    """A table split and encoded as the spec says."""
    return prepare_table(
        table,
        task=spec.data.task,
        seed=spec.seed,
        validation_share=spec.data.validation_share,
        test_share=spec.data.test_share,
    )
