"""The page docs/schema.md, from the schemas in code.

To write it: python -m pipelines.see.schema > docs/schema.md.
"""

from __future__ import annotations

from orchestrator.search.objective import Objective
from orchestrator.space.domains import Real
from orchestrator.space.space import Parameter, Space
from orchestrator.store.tables import SCHEMA_VERSION, Tables

__all__ = ["format_schema"]

_TABLES = {
    "events": "One row for each event: every decision and its reason. Append-only.",
    "epochs": "One row for each epoch of each trial, in the order of the reports. Append-only.",
    "trials": "One row for each trial, computed from the other two tables.",
}
_WORDS = {
    "double": "number", "int64": "whole number", "int32": "whole number", "string": "text",
    "bool": "true or false", "list<item: int64>": "list of whole numbers",
}  # fmt: skip


def format_schema() -> list[str]:
    """Write every table with its columns as Markdown.

    NAME and METRIC stand for the names in a run's space and of its trainer's metrics.
    """
    tables = Tables(
        space=Space([Parameter(name="NAME", domain=Real(low=0, high=1))]),
        metrics={"train_METRIC": float, "validation_METRIC": float},
        objective=Objective(metric="validation_METRIC", maximize=False),
    )
    lines = [
        "# The tables of a run",
        "",
        "Each table is a folder of Parquet files that are whole whenever they are read (`pandas."
        "read_parquet`, DuckDB, Polars). From Python, `caviar.load(RUN)` gives the tables as "
        "frames. The trials of stage audit are not in them; they are in `caviar.load(RUN).audit`. "
        "`python -m pipelines.see.schema` writes this page.",
        "",
        f"This is schema {SCHEMA_VERSION}; each file names its schema in its metadata "
        "(`caviar_schema_version`). Runs of an older schema can be read: a column that they do not "
        "have is null. They cannot be continued.",
        "",
        "NAME stands for each hyperparameter of the space. A hyperparameter that every layer has "
        "is one column for each layer (units_1, units_2). METRIC stands for each metric of the "
        "trainer: train_METRIC is measured in training (train_loss), validation_METRIC on the "
        "split that decides, test_METRIC on the split that no decision has seen. The type of "
        "config_NAME is the type of its values; a choice of values of several types is text, as "
        "JSON. A cell that has no meaning in its row is null.",
    ]
    for table, columns in tables.columns.items():
        lines += ["", f"## {table}", "", _TABLES[table], "", "| column | type | meaning |"]
        lines.append("|---|---|---|")
        lines += [
            f"| {name} | {_WORDS[str(c.type)]} | {c.meaning} |" for name, c in columns.items()
        ]
    return lines


if __name__ == "__main__":
    print("\n".join(format_schema()))
