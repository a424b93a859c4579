"""What `caviar plan` and `caviar space` print, beside numbers that are computed here."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare
from test_bad_input import typed

SPEC = """
space: {dropout: {linear: [0, 0.5]}, optimizer: adam}
search: {method: asha, sampler: random}
"""


RunCommand = Callable[[str], list[str]]


def printed(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """The lines that a command prints in this process."""
    capsys.readouterr()
    assert typed(words, monkeypatch) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out.splitlines()


@pytest.fixture
def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> RunCommand:
    """Types a command in this process, in a folder with a spec; gives the lines it printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return lambda words: printed(words, monkeypatch, capsys)


def sections(lines: list[str]) -> dict[str, str]:
    """A plan's lines by their first word."""
    return {line[:10].strip(): line[10:] for line in lines}


# ---------------------------------------------------------------------- plan


def test_a_plan_counts_the_rows_inputs_and_classes_of_the_data(run_command: RunCommand) -> None:
    lines = run_command("plan digits --trials 9 --max-epochs 9 --workers 2")
    assert [line[:10].strip() for line in lines] == [
        "data", "decides", "rungs", "budget", "an epoch", "about", "", "disk",
    ]  # fmt: skip
    plan = sections(lines)
    train, validation, test, inputs, classes = map(int, re.findall(r"\d+", plan["data"]))
    assert train + validation + test == 1797  # the rows of scikit-learn's digits
    assert abs(test - 0.15 * 1797) <= 5 and abs(validation - 0.15 * 1797) <= 5
    assert classes == 10
    assert 0 < inputs <= 64
    assert plan["decides"] == "validation accuracy"
    assert plan["budget"] == "9 trials, 2 workers"


def test_a_plan_of_trials_without_pruning_trains_each_to_the_end(run_command: RunCommand) -> None:
    Path("all.yaml").write_text("search: {method: random}")
    plan = sections(run_command("plan wine --spec all.yaml --trials 30 --max-epochs 9 --workers 3"))
    assert plan["about"].startswith("30 trials, 270 epochs, ")
    assert plan[""].strip() == "30 to epoch 9"
    assert plan["rungs"].endswith("all trials go on")


def test_a_plan_names_the_rungs_and_how_many_trials_reach_each(run_command: RunCommand) -> None:
    plan = sections(
        run_command("plan wine --spec spec.yaml --trials 81 --max-epochs 27 --workers 2")
    )
    assert plan["rungs"].startswith("1, 3, 9, 27 epochs, about 1/3")
    reached = {int(e): int(n) for n, e in re.findall(r"(\d+) to epoch (\d+)", plan[""])}
    assert list(reached) == [1, 3, 9, 27]
    counts = list(reached.values())
    assert counts[0] == 81
    assert counts == sorted(counts, reverse=True)
    for above, below in itertools.pairwise(counts):
        # a third, and about as many as the root of all that were promoted too early: Li et al. 2020
        assert above / 3 - 1 <= below <= above / 3 + math.sqrt(above)
    trials, epochs = map(int, re.findall(r"(\d+) (?:trials|epochs)", plan["about"]))
    steps = zip((1, 3, 9, 27), (0, 1, 3, 9), counts, strict=True)
    assert (trials, epochs) == (81, sum((rung - before) * n for rung, before, n in steps))


def test_a_large_plan_is_scaled_from_a_smaller_one(run_command: RunCommand) -> None:
    Path("all.yaml").write_text("search: {method: random}")
    plan = sections(run_command("plan wine --spec all.yaml --trials 20000 --max-epochs 3"))
    assert plan["about"].startswith("20000 trials, 60000 epochs, ")


def test_limits_of_several_kinds_are_alternatives(run_command: RunCommand) -> None:
    plan = sections(run_command("plan wine --time 90s --total-epochs 500 --workers 2"))
    assert plan["budget"] == "1 min 30 s or 500 epochs, whichever ends first, 2 workers"
    (epochs,) = re.findall(r"(\d+) epochs", plan["about"])
    assert int(epochs) <= 500


def test_a_plan_without_a_budget_is_of_a_minute(run_command: RunCommand) -> None:
    assert sections(run_command("plan wine --workers 2"))["budget"] == "1 min, 2 workers"


# ---------------------------------------------------------------------- space


def test_a_space_shows_each_hyperparameter_with_its_range_in_the_order_of_the_spec(
    run_command: RunCommand,
) -> None:
    lines = run_command("space --spec spec.yaml")
    names = [line.split()[0] for line in lines[2 : lines.index("", 2)]]
    assert names[:5] == [
        "learning_rate", "optimizer", "momentum_beta", "rmsprop_decay", "adam_beta1",
    ]  # fmt: skip
    shown = dict(zip(names, lines[2:], strict=False))
    assert re.search(r"dropout +linear \[0, 0\.5\] +0 \|.{10}\| 0\.5$", shown["dropout"])
    assert re.search(r"optimizer +fixed at adam$", shown["optimizer"])
    assert lines[0].endswith("1024 draws of the random sampler")
    assert "three of them:" in lines
    # with adam alone the other optimizers' hyperparameters can never be active
    warned = [line.split(":")[1].strip() for line in lines if line.startswith("warning: ")]
    assert warned == ["momentum_beta", "rmsprop_decay"]
    assert run_command("space")[-1] == "no warnings"


def test_the_draws_of_a_choice_are_as_likely_as_each_other(run_command: RunCommand) -> None:
    (line,) = [row for row in run_command("space") if row.startswith("  optimizer")]
    shares = [int(share) for share in re.findall(r"(\d+)%", line)]
    assert shares == [25, 25, 25, 25]  # Sobol's: 1,024 is a multiple of 4
    (line,) = [row for row in run_command("space --spec spec.yaml") if "schedule " in row]
    shares = [int(share) for share in re.findall(r"(\d+)%", line)]
    assert chisquare(np.array(shares) / 100 * 1024, [256] * 4, sum_check=False).pvalue > 1e-6


def test_the_active_share_of_a_conditional_follows_its_condition(
    run_command: RunCommand,
) -> None:
    lines = run_command("space")
    active = {
        line.split()[0]: int(line.split("% active")[0].split()[-1])
        for line in lines
        if "% active" in line
    }
    assert active["momentum_beta"] == active["rmsprop_decay"] == active["adam_beta1"] == 25
    assert active["schedule_rate"] == 50  # two of four schedules
    assert (active["units_2"], active["units_3"], active["units_4"]) == (75, 50, 25)


def test_a_histogram_has_a_bar_for_each_decade_of_a_log_range(run_command: RunCommand) -> None:
    (line,) = [row for row in run_command("space") if row.startswith("  learning_rate ")]
    bars = re.search(r"0\.0001 \|(.+)\| 1 by decade", line)
    assert bars is not None
    assert len(bars[1]) == round(math.log10(1 / 1e-4))
    assert set(bars[1]) == {"█"}  # Sobol draws each decade equally often


def test_the_three_configurations_shown_are_within_the_ranges(run_command: RunCommand) -> None:
    lines = run_command("space --seed 3")
    shown = lines[lines.index("three of them:") + 1 :][:3]
    for line in shown:
        values = dict(pair.split("=") for pair in line.split())
        assert 1e-4 <= float(values["learning_rate"]) <= 1
        assert values["optimizer"] in ("sgd", "momentum", "rmsprop", "adam")
        assert ("momentum_beta" in values) == (values["optimizer"] == "momentum")
        assert sum(name.startswith("units_") for name in values) == int(values["layers"])
    assert run_command("space --seed 3") == lines
    assert run_command("space --seed 4") != lines


def test_a_scale_that_would_waste_the_search_is_warned_of(run_command: RunCommand) -> None:
    Path("bad.yaml").write_text("space: {learning_rate: {linear: [1e-4, 1]}}")
    assert any(
        line.startswith("warning: ") and "learning_rate" in line
        for line in run_command("space --spec bad.yaml")
    )


@pytest.mark.parametrize("command", ["space", "plan wine --trials 3"])
def test_a_key_under_its_old_name_is_noted_once(command: str, run_command: RunCommand) -> None:
    Path("old.yaml").write_text(
        "space: {dropout: {linear: [0, 0.5], usual: 0.1}}\nsearch: {width: 4}\n"
    )
    notes = [line for line in run_command(f"{command} --spec old.yaml") if line.startswith("note:")]
    assert notes == [
        "note: old.yaml: search.width is called max_in_flight now; the old name still works",
        "note: old.yaml: space.dropout.usual is called start_at now; the old name still works",
    ]
