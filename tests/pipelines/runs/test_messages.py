"""A message to a trial that is being trained: what worker, log and search do with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_runs import check_tables

from orchestrator.runtime.session import Session
from orchestrator.runtime.worker import restore_trainer
from orchestrator.search.events import TrialAdjusted
from orchestrator.search.messages import Entry, Observation
from orchestrator.store.reading import read_entries
from pipelines.runs import launch
from pipelines.runs.execution import ExecutionOptions, make_budget
from pipelines.runs.from_spec import make_job, make_search, make_tables, read_run_data
from pipelines.runs.new_spec import SearchRequest
from pipelines.runs.repair import replay_run
from pipelines.see.run import load_run
from pipelines.see.run_spec import read_run_spec
from pipelines.see.terminal import SilentWatcher
from pipelines.see.why import explain_trial


class Adjusting(SilentWatcher):
    """Lowers the learning rate of every third trial after its second epoch."""

    def __init__(self) -> None:
        self.due: list[TrialAdjusted] = []
        self.delivered: list[TrialAdjusted] = []

    def handle_entry(self, entry: Entry, at_seconds: float) -> None:
        if isinstance(entry, Observation) and entry.report.epoch == 2 and not entry.report.last:
            trial, attempt = entry.report.trial, entry.report.attempt
            changes = {"learning_rate": 1e-5}
            if trial % 3 == 0:
                message = TrialAdjusted(
                    trial=trial, attempt=attempt, changes=changes, reason="by hand"
                )
                self.due.append(message)

    def tick(self, session: Session) -> None:
        self.delivered += [message for message in self.due if session.deliver(message)]
        self.due.clear()


@pytest.fixture(scope="module")
def adjusted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Adjusting]:
    folder = tmp_path_factory.mktemp("adjusted") / "run"
    watcher = Adjusting()
    launch.search(
        SearchRequest(
            source="wine", spec={"search": {"pruning": "none", "zooms": 0}}, max_epochs=6
        ),
        out=folder,
        budget=make_budget(None, 9, None),
        options=ExecutionOptions(pool="inline"),
        make_watcher=lambda *_: watcher,
    )
    return folder, watcher


def test_each_message_is_one_event_before_the_first_epoch_that_it_changed(
    adjusted: tuple[Path, Adjusting],
) -> None:
    folder, watcher = adjusted
    check_tables(folder)
    run = load_run(folder)
    rows = run.events[run.events["kind"] == "adjust"]
    assert sorted(rows["trial"]) == sorted(m.trial for m in watcher.delivered) == [0, 3, 6]
    for row in rows.itertuples():
        assert json.loads(row.details) == {"changes": {"learning_rate": 1e-5}}
        epochs = run.epochs[run.epochs["trial"] == row.trial].set_index("epoch")["seq"]
        assert epochs[row.epoch] < row.seq < epochs[row.epoch + 1]
    assert set(run.trials["epochs"]) == {6}


def test_replay_agrees_and_why_names_the_event(adjusted: tuple[Path, Adjusting]) -> None:
    folder, _ = adjusted
    assert replay_run(folder).difference == ""
    assert "event adjust" in explain_trial(load_run(folder), 3)


@pytest.mark.parametrize("epochs", [1, 2, 3, 6])
def test_a_trial_trained_again_from_its_log_comes_to_the_same_numbers(
    adjusted: tuple[Path, Adjusting], epochs: int
) -> None:
    folder, _ = adjusted
    spec = read_run_spec(folder)
    search, job = make_search(spec), make_job(spec, read_run_data(spec))
    for seq, _, entry in read_entries(folder, make_tables(spec)):
        search.apply(entry, seq=seq)
    logged = load_run(folder).epochs.set_index(["trial", "epoch"])
    for trial in search.trials.values():
        trainer = restore_trainer(
            job, trial.config, trial.seed, None, epoch=epochs - 1, received=trial.received
        )
        found = trainer.epoch()
        assert found == {name: logged.loc[(trial.id, epochs), name] for name in found}
