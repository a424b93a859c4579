"""docs/schema.md, made of the schemas in code: python -m pipelines.see.schema > docs/schema.md."""

from __future__ import annotations

from orchestrator.search.objective import Objective
from orchestrator.space.domains import Real
from orchestrator.space.space import Parameter, Space
from orchestrator.store.tables import SCHEMA_VERSION, Tables

__all__ = ["format_schema"]

_TABLES = {
    "events": "One row an event: every decision, and why. Append-only.",
    "epochs": "One row a trial and epoch, in the order in which they came in. Append-only.",
    "trials": "One row a trial, added up from the other two.",
}
_WORDS = {
    "double": "number", "int64": "whole number", "int32": "whole number", "string": "text",
    "bool": "true or false", "list<item: int64>": "list of whole numbers",
}  # fmt: skip


def format_schema() -> list[str]:
    """Every table with its columns; NAME and METRIC stand for a space's and a trainer's own."""
    tables = Tables(
        space=Space([Parameter(name="NAME", domain=Real(low=0, high=1))]),
        metrics={"train_METRIC": float, "validation_METRIC": float},
        objective=Objective(metric="validation_METRIC", maximize=False),
    )
    lines = [
        "# The tables of a run",
        "",
        "Each is a folder of Parquet files that are whole whenever they are read (`pandas."
        "read_parquet`, DuckDB, Polars); from Python, `caviar.load(RUN)` gives them as frames, "
        "without the trials of stage audit: those stand apart, in `load(RUN).audit`. "
        f"This is schema {SCHEMA_VERSION}; `python -m pipelines.see.schema` writes this page.",
        "",
        "NAME stands for each hyperparameter of the space (one that there is once a layer "
        "has a column for each: units_1, units_2), METRIC for each metric of the trainer: "
        "train_METRIC is from training (train_loss), validation_METRIC from the split that "
        "decides, test_METRIC from the one that has chosen nothing. The type "
        "of config_NAME is that of its values; several kinds in one choice are text, as JSON. A "
        "cell that means nothing in its row is null.",
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
