from __future__ import annotations

import contextlib
import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_examples import (
    apply_log,
    describe_search,
    draw_loss,
    limit_examples,
    make_search,
    make_tables,
    report_of,
    spec_of,
)

from orchestrator.errors import RunError
from orchestrator.search.budget import Budget
from orchestrator.search.events import Event, Kind, ModelTested, SessionStarted
from orchestrator.search.messages import Assignment, Failure, Observation
from orchestrator.search.trial import Status
from orchestrator.store import log as log_module
from orchestrator.store.lock import Lock
from orchestrator.store.log import Log
from orchestrator.store.reading import read_entries, read_table
from orchestrator.store.tables import Tables

SPEC = spec_of(eta=2, coarse_share=0.5, zooms=1, retries=1)


class Crash(BaseException):
    """The driver is gone: nothing catches it, nothing runs after it."""


class Driver:
    """A run as pipelines/runs/launch.py takes it up and runtime/session.py leads it, no clocks.

    Workers answer from a formula; `rng` says who answers next, so two sessions differ.
    """

    def __init__(self, run: Path, *, budget: Budget) -> None:
        tables = make_tables(SPEC)
        self.search = make_search(SPEC)
        self.log = Log(run, tables)
        self.seconds = 0.0
        for seq, at_seconds, entry in read_entries(run, tables):
            self.log.restore(seq, at_seconds, entry)
            self.seconds = max(self.seconds, at_seconds)
            self.search.apply(entry)
        self.before = describe_search(self.search)
        self.out: dict[int, tuple[Assignment, int]] = {}
        opening = SessionStarted(budget=budget, reason="a session")
        self.search.apply(opening)
        self.happened([opening])
        self.happened(self.search.stop("the last session ended without a word"))

    def happened(self, events: list[Event]) -> None:
        self.seconds += 0.5
        for event in events:
            self.log.append(event, self.seconds)

    def step(self, rng: np.random.Generator) -> bool:
        """Everyone gets something to do, then one of them answers."""
        while len(self.out) < 3:
            events = self.search.suggest()
            self.happened(events)
            if not events:
                break
            a = self.search.make_assignment(events[-1])
            self.out[a.trial] = a, a.start_epoch + 1
        if not self.out:
            return False
        trial = int(rng.choice(sorted(self.out)))
        a, epoch = self.out.pop(trial)
        if rng.random() < 0.05:
            failure = Failure(trial=trial, attempt=a.attempt, kind="lost", message="gone")
            events = self.search.fail(failure) or []
            self.happened(events)
            if events[-1].kind is Kind.RETRY:
                self.out[trial] = self.search.make_assignment(events[-1]), epoch
            return True
        report = report_of(a, epoch, draw_loss(a, epoch))
        self.seconds += 0.5
        decided = self.search.observe(report, self.seconds)
        assert decided is not None
        self.log.append(Observation(report=report, at_seconds=self.seconds), self.seconds)
        self.happened(decided)
        if not report.last:
            self.out[trial] = a, epoch + 1
        return True

    def go_on(self, rng: np.random.Generator, *, steps: int = 10_000, flush_every: int = 7) -> None:
        for i in range(steps):
            if not self.step(rng):
                break
            if i % flush_every == 0:
                self.log.flush()


@contextlib.contextmanager
def crash_before(rename: int) -> Iterator[None]:
    """The driver dies before its nth rename, from 0: what it was to put in place lies there half.

    A file becomes visible by a rename alone, so these are all the moments that make a difference.
    """
    count = itertools.count()

    def counting(before: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def replace(self: Path, target: Path) -> Path:
            if next(count) == rename:
                raise Crash
            return before(self, target)

        return replace

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename"):
            patch.setattr(Path, name, counting(getattr(Path, name)))
        with contextlib.suppress(Crash):
            yield


@contextlib.contextmanager
def parts_of(rows: int) -> Iterator[None]:
    """Parts that are full after so many rows."""
    before, log_module.PART_ROWS = log_module.PART_ROWS, rows
    try:
        yield
    finally:
        log_module.PART_ROWS = before


def column(run: Path, table: str, name: str) -> list[object]:
    return read_table(run / table).column(name).to_pylist()


def epochs_on_disk(run: Path) -> list[tuple[int, int]]:
    return list(zip(column(run, "epochs", "trial"), column(run, "epochs", "epoch"), strict=True))


def check_folder(run: Path, live: Driver) -> None:
    """All that was decided stands on its reports, each epoch once, and a restart knows as much."""
    pairs = epochs_on_disk(run)
    assert len(set(pairs)) == len(pairs)
    for trial in live.search.trials.values():
        on_disk = sorted(epoch for t, epoch in pairs if t == trial.id)
        assert on_disk[: trial.epoch] == list(range(1, trial.epoch + 1))
    seqs = column(run, "events", "seq") + column(run, "epochs", "seq")
    assert len(set(seqs)) == len(seqs)


def check_restart(run: Path, live: Driver) -> None:
    """Whoever takes the run up now knows what the live one knows."""
    again = apply_log(SPEC, (entry for _, _, entry in read_entries(run, make_tables(SPEC))))
    assert describe_search(again) == describe_search(live.search)


# ---------------------------------------------------------------------- parts


@given(rows=st.integers(1, 40), flush_every=st.integers(1, 30))
@limit_examples(6)
def test_a_log_in_many_parts_holds_all_that_happened_in_its_order(
    rows: int, flush_every: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, parts_of(rows):
        run = Path(folder)
        driver = Driver(run, budget=Budget(trials=8))
        wanted: list[Event | Observation] = []
        append = driver.log.append
        driver.log.append = lambda entry, at: (wanted.append(entry), append(entry, at))  # type: ignore[method-assign]
        driver.go_on(np.random.default_rng(rows), flush_every=flush_every)
        driver.log.flush(final=True)
        read = list(read_entries(run, make_tables(SPEC)))
        assert [seq for seq, _, _ in read] == list(range(len(read)))
        assert [entry for _, _, entry in read][1:] == wanted  # behind the session
        for table in ("events", "epochs"):
            parts = sorted((run / table).glob("*.parquet"))
            held = [pq.read_metadata(part).num_rows for part in parts]
            assert all(rows <= count for count in held[:-1])  # full: none is left half empty
            assert all(0 < count < rows + 20 * flush_every for count in held)
        trials = read_table(run / "trials").to_pylist()
        assert [row["trial"] for row in trials] == sorted(driver.search.trials)
        assert {row["trial"]: row["status"] for row in trials} == {
            t.id: t.status for t in driver.search.trials.values()
        }
        check_folder(run, driver)
        check_restart(run, driver)


def test_the_schema_is_complete_from_the_first_part(tmp_path: Path) -> None:
    """Readers drop a column that first appears later on: a test metric comes at the very end."""
    with parts_of(4):
        driver = Driver(tmp_path, budget=Budget(trials=5))
        driver.go_on(np.random.default_rng(0), flush_every=1)
        last = ModelTested(trial=0, metrics={"test_loss": 0.25}, reason="the end")
        driver.happened([last])
        driver.log.flush(final=True)
    tables = make_tables(SPEC)
    for name, schema in (("events", tables.events), ("epochs", tables.epochs)):
        parts = sorted((tmp_path / name).glob("*.parquet"))
        assert len(parts) > 1
        for part in parts:
            read = pq.read_schema(part)
            assert read.equals(schema)
            assert read.metadata[b"caviar_schema_version"] == b"3"
    assert pd.read_parquet(tmp_path / "events")["test_loss"].max() == 0.25
    assert pd.read_parquet(tmp_path / "trials")["test_loss"].max() == 0.25


# ---------------------------------------------------------------------- crashes


@pytest.mark.parametrize("flush_every", [4, 25])
@pytest.mark.parametrize("rename", range(10))
def test_after_any_crashes_each_epoch_stands_once_and_a_restart_knows_all(
    rename: int, flush_every: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(rename)
    with parts_of(25):
        for moment in (rename, 2 * rename % 7):
            with crash_before(moment):
                Driver(tmp_path, budget=Budget(trials=10)).go_on(rng, flush_every=flush_every)
        driver = Driver(tmp_path, budget=Budget(trials=10))
        driver.go_on(rng, flush_every=flush_every)
        driver.log.flush(final=True)
    assert len(driver.search.trials) == 10 and driver.search.is_settled()
    assert not list(tmp_path.glob("*/.*"))
    check_folder(tmp_path, driver)
    check_restart(tmp_path, driver)


@pytest.mark.parametrize("rename", range(8))
def test_what_a_crash_leaves_on_disk_is_all_that_had_happened_up_to_a_moment(
    rename: int, tmp_path: Path
) -> None:
    """Of one flush both tables are there, or neither."""
    driver = Driver(tmp_path, budget=Budget(trials=12))
    happened: list[Event | Observation] = []
    append = driver.log.append
    driver.log.append = lambda e, at: (happened.append(e), append(e, at))  # type: ignore[method-assign]
    flushed = {0}
    flush = driver.log.flush
    driver.log.flush = lambda **_: (flush(), flushed.add(len(happened)))  # type: ignore[method-assign]
    with crash_before(rename):
        driver.go_on(np.random.default_rng(rename), flush_every=9)
    flushed.add(len(happened))  # the one it died in
    Log(tmp_path, make_tables(SPEC))  # the next writer mends what it finds
    found = [entry for _, _, entry in read_entries(tmp_path, make_tables(SPEC))][1:]
    assert found == happened[: len(found)]
    assert len(found) in flushed


def test_a_run_that_crashed_can_be_resumed_again_and_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for rename in (3, 2, 4, 1, 2):
        with crash_before(rename):
            Driver(tmp_path, budget=Budget(trials=6)).go_on(rng, steps=8, flush_every=3)
    first = Driver(tmp_path, budget=Budget(trials=6))
    first.go_on(rng)
    first.log.flush(final=True)
    assert first.search.counts[Status.COMPLETED]
    second = Driver(tmp_path, budget=Budget(trials=6))
    assert second.before == describe_search(first.search)
    assert not second.step(rng)


@pytest.mark.parametrize("rename", [0, 1, 2])
def test_a_flush_that_failed_is_made_up_for_by_the_next(rename: int, tmp_path: Path) -> None:
    """A disk that is full for a moment: run.py flushes once more when it closes."""
    driver = Driver(tmp_path, budget=Budget(trials=6))
    rng = np.random.default_rng(1)
    for steps in (4, 8):
        for _ in range(steps):
            driver.step(rng)
        with crash_before(rename):
            driver.log.flush()
    driver.log.flush(final=True)
    check_folder(tmp_path, driver)
    check_restart(tmp_path, driver)


def test_what_a_killed_writer_left_half_done_is_removed(tmp_path: Path) -> None:
    for name in ("events", "epochs", "trials"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".part-00000.parquet.tmp").write_bytes(b"PAR1")
    Lock(tmp_path).release()  # the next writer removes them
    driver = Driver(tmp_path, budget=Budget(trials=2))
    assert not list(tmp_path.glob("*/.*"))
    driver.go_on(np.random.default_rng(0))
    driver.log.flush(final=True)
    check_restart(tmp_path, driver)


@pytest.mark.parametrize("name", ["events", "epochs"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_part_that_was_cut_short_is_an_error_that_names_the_file(
    name: str, share: float, tmp_path: Path
) -> None:
    driver = Driver(tmp_path, budget=Budget(trials=3))
    driver.go_on(np.random.default_rng(0))
    driver.log.flush(final=True)
    part = tmp_path / name / "part-00000.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RunError, match=f"{name}/part-00000.parquet") as caught:
        Driver(tmp_path, budget=Budget(trials=3))
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=f"{name}/part-00000.parquet"):
        read_table(tmp_path / name)


def test_staged_events_that_were_cut_short_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    driver = Driver(tmp_path, budget=Budget(trials=3))
    with crash_before(2):
        driver.go_on(np.random.default_rng(0))
    (staged,) = (tmp_path / "events").glob(".*.staged")
    staged.write_bytes(staged.read_bytes()[:50])
    with pytest.raises(RunError, match=r"part-00000\.parquet"):
        Driver(tmp_path, budget=Budget(trials=3))


def test_tables_of_another_version_or_another_space_are_refused_by_name(tmp_path: Path) -> None:
    driver = Driver(tmp_path, budget=Budget(trials=2))
    driver.log.flush()
    other: Tables = make_tables(spec_of("rate: 1"))
    with pytest.raises(RunError, match=r"part-00000\.parquet.*spec\.yaml"):
        list(read_entries(tmp_path, other))
    part = tmp_path / "events" / "part-00000.parquet"
    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata({"caviar_schema_version": "99"}), part)
    with pytest.raises(RunError, match=r"part-00000\.parquet.*schema 3, got 99"):
        Driver(tmp_path, budget=Budget(trials=2))


def test_a_table_without_parts_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="epochs: needs at least one part"):
        read_table(tmp_path / "epochs")
    assert list(read_entries(tmp_path, make_tables(SPEC))) == []


# ---------------------------------------------------------------------- readers


@pytest.mark.parametrize(
    ("reader", "tries"), [("pandas", 1), ("ours", 1), ("log", 1), ("duckdb", 5), ("polars", 5)]
)
def test_the_tables_can_be_read_while_they_are_written(
    reader: str, tries: int, tmp_path: Path
) -> None:
    """A thread flushes as fast as it can; what readers count never goes down.

    DuckDB and Polars open a file by its name once for its end and once more for its columns. If it
    is replaced in between they say that it is broken; asked again, they find it whole.
    """
    driver = Driver(tmp_path, budget=Budget(trials=400))
    driver.go_on(np.random.default_rng(0), steps=3, flush_every=1)
    glob = tmp_path / "epochs" / "*.parquet"
    read: dict[str, Callable[[], int]] = {
        "pandas": lambda: len(pd.read_parquet(tmp_path / "epochs")),
        "duckdb": lambda: duckdb.sql(f"select count(distinct seq) from '{glob}'").fetchall()[0][0],
        "polars": lambda: len(pl.read_parquet(glob)),
        "ours": lambda: read_table(tmp_path / "epochs").num_rows,
        "log": lambda: sum(1 for _ in read_entries(tmp_path, make_tables(SPEC))),
    }
    done = threading.Event()

    def write() -> None:
        rng = np.random.default_rng(0)
        while not done.wait(0.005) and driver.step(rng):
            driver.log.flush(final=True)

    writer = threading.Thread(target=write)
    seen = 0
    with parts_of(60):
        writer.start()
        try:
            for _ in range(30):
                count = patient(read[reader], tries)
                assert count >= seen
                seen = count
        finally:
            done.set()
            writer.join()
    assert seen > 0


def patient(read: Callable[[], int], tries: int) -> int:
    """What a reader returns, asked so many times at most."""
    for _ in range(tries - 1):
        try:
            return read()
        except (duckdb.Error, pl.exceptions.PolarsError, OSError):
            pass
    return read()


# ---------------------------------------------------------------------- how often


def test_a_flush_that_takes_long_comes_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual clock: a file takes 3 s, and writing may have a twentieth of the time."""
    now = [0.0]
    monkeypatch.setattr(log_module.time, "monotonic", lambda: now[0])
    before = log_module._write_part

    def slow(path: Path, *what: object, **how: object) -> None:
        now[0] += 0.0 if path.parent.name == "trials" else 3.0
        before(path, *what, **how)

    driver = Driver(tmp_path, budget=Budget(trials=2))
    assert not driver.log.due()
    now[0] = 1.5
    assert driver.log.due()
    monkeypatch.setattr(log_module, "_write_part", slow)
    driver.log.flush()
    spent = now[0] - 1.5
    assert spent >= 3.0
    now[0] += 0.9 * spent / 0.05
    assert not driver.log.due()
    now[0] += 0.2 * spent / 0.05
    assert driver.log.due()
