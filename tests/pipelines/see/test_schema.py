"""docs/schema.md says what the tables hold."""

from __future__ import annotations

from pathlib import Path

from test_runs import searched

from pipelines.see.run import load_run
from pipelines.see.schema import format_schema

PAGE = Path(__file__).parents[3] / "docs" / "schema.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8").splitlines() == format_schema()


def test_every_column_of_a_run_stands_on_the_page(tmp_path: Path) -> None:
    run = load_run(searched(tmp_path / "run", trials=9))
    told = {line.split(" | ")[0].removeprefix("| ") for line in format_schema() if line[:2] == "| "}
    prefixes = {name.partition("NAME")[0].partition("METRIC")[0] for name in told} - told
    assert prefixes == {"config_", "unit_", "train_", "validation_", "test_"}
    for frame in (run.events, run.epochs, run.trials):
        for column in frame.columns:
            assert column in told or column.startswith(tuple(prefixes)), column
