from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_examples import Play, draw_loss, play_out, select_events, spec_of

from orchestrator.errors import SpecError
from orchestrator.search.budget import Budget
from orchestrator.search.events import Kind
from orchestrator.search.methods import METHODS, Setup, make_method
from orchestrator.search.objective import WORST
from orchestrator.search.spec import SearchSpec
from orchestrator.search.trial import Incumbent, Status, Trial

DOCS = Path(__file__).parents[3] / "docs" / "search.md"


def make_trial(number: int, config: dict[str, Any], *scores: float, order: int = 0) -> Trial:
    best = min(scores, default=None)
    return Trial(
        id=number, config=config, point=np.empty(0), seed=number, stage="given", zoom=None,
        parents=(), stop_epoch=9, status=Status.COMPLETED, epoch=len(scores),
        best=WORST if best is None else (best, 0.0), best_order=order,
        best_epoch=0 if best is None else scores.index(best) + 1,
    )  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_every_method_plays_a_whole_search_and_goes_on_from_its_log(name: str) -> None:
    configs = [{"rate": 0.1, "width": 8, "kind": "a"}, {"rate": 0.5, "width": 16, "kind": "b"}]
    parts = {"sampler": None, "pruning": None, "zooms": None, "rungs": None}
    spec = spec_of(method=name, initial_configs=configs, **parts)
    play = Play(spec, seed=1, budget=Budget(trials=20))
    play_out(play, np.random.default_rng(1), workers=3, loss=draw_loss, steps=40)
    play.resume()
    play_out(play, np.random.default_rng(2), workers=3, loss=draw_loss)
    play.search.validate()
    assert play.search.choose_model() is not None
    play.check_replay()


def test_the_method_that_the_documentation_shows_climbs_and_resumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    lines = [line for line in block.partition("class ")[2].splitlines() if line.strip()]
    assert len(lines) <= 20
    monkeypatch.setitem(METHODS, "hill_climb", namespace["HillClimbMethod"])
    spec = spec_of("x: {linear: [0, 1]}\ny: {linear: [0, 1]}", method="hill_climb")
    play = Play(spec, seed=4, budget=Budget(trials=150))

    def bowl(assignment: Any, epoch: int) -> float:
        return float((assignment.config["x"] - 0.3) ** 2 + (assignment.config["y"] - 0.8) ** 2)

    play_out(play, np.random.default_rng(0), workers=3, loss=bowl, steps=100)
    play.resume()
    play_out(play, np.random.default_rng(0), workers=3, loss=bowl)
    starts = select_events(play, Kind.START)
    near = [bowl(e, 1) for e in starts[75:] if e.reason == "near the best"]
    random = [bowl(e, 1) for e in starts[75:] if e.reason != "near the best"]
    assert len(near) > 30 and np.median(near) < np.median(random) / 4
    play.check_replay()


def test_finalists_ship_the_best_of_the_configuration_with_the_best_mean() -> None:
    method = METHODS["finalists"](make_setup())
    trials = [
        make_trial(0, {"rate": 1}, 0.1, 0.05),
        make_trial(1, {"rate": 2}, 0.2, 0.1),
        make_trial(2, {"rate": 1}, 0.9),
        make_trial(3, {"rate": 2}, 0.11),
        make_trial(4, {"rate": 3}, 0.01),
        make_trial(5, {"rate": 3}),  # no result: its configuration comes last
    ]
    lucky = Incumbent(score=(0.01, 0.0), trial=4, epoch=1)
    shipped = method.choose_model(trials, lucky)
    assert shipped == Incumbent(score=(0.1, 0.0), trial=1, epoch=2)


def test_of_equal_finalists_the_result_that_came_first_is_shipped() -> None:
    trials = [make_trial(0, {"rate": 1}, 0.1, order=9), make_trial(1, {"rate": 2}, 0.1, order=3)]
    shipped = METHODS["finalists"](make_setup()).choose_model(
        trials, Incumbent(score=(0.1, 0.0), trial=1, epoch=1)
    )
    assert shipped is not None and shipped.trial == 1


def make_setup(**search: Any) -> Setup:
    spec = SearchSpec(**{"pruning": "none", "sampler": "none", "rungs": (9,)} | search)
    return Setup(space=spec_of().parameters(), spec=spec, seed=0, max_epochs=9)


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        ({"method": "tpe"}, r"search\.method needs one of caviar \| asha .* got 'tpe'"),
        ({"method": "asha", "pruning": "shares"}, r"shares with method: caviar alone"),
        ({"method": "asha", "sampler": "lhs"}, r"search\.sampler needs one of sobol .* got 'lhs'"),
    ],
)
def test_a_part_that_there_is_not_is_an_error_that_names_those_there_are(
    part: dict[str, str], complaint: str
) -> None:
    with pytest.raises(SpecError, match=complaint):
        make_method(make_setup(**part))
