"""Spaces, toy trainers and simulated runs that several tests of the orchestrator share."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from orchestrator.runtime.trainer import Job
from orchestrator.search.budget import Budget
from orchestrator.search.events import Assigning, Event, Kind, SessionStarted, TrialEvent
from orchestrator.search.messages import Assignment, Failure, Observation, Report
from orchestrator.search.objective import WORST, Objective
from orchestrator.search.search import Search
from orchestrator.search.trial import Status
from orchestrator.space.domains import Choice, Integer, Real
from orchestrator.space.space import Parameter, Space
from orchestrator.store.tables import Tables
from pipelines.runs.spec import Spec, load_spec
from pipelines.runs.yaml_text import parse_yaml

HERE = str(Path(__file__).parent)

#: A space with conditions, a condition on a condition, one value per layer, and every scale.
CONDITIONAL = """
rate: {log: [1e-4, 1]}
optimizer: {choice: [sgd, momentum, adam]}
beta: {reverse_log: [0.9, 0.999], when: {optimizer: [momentum, adam]}}
nesterov: {choice: [true, false], when: {optimizer: momentum}}
lookahead: {int: [2, 9], when: {nesterov: true}}
epsilon: {fixed: 1e-8, when: {optimizer: adam}}
layers: {int: [1, 3]}
units: {int_log2: [4, 64], per: layers}
drop: {linear: [0, 0.5], per: layers, when: {optimizer: sgd}}
clip: {choice: [none, 1, 2.5]}
activation: relu
"""
SMALL = "rate: {log: [1e-4, 1]}\nwidth: {int_log2: [4, 64]}\nkind: {choice: [a, b]}"


def limit_examples(examples: int) -> settings:
    """Let Hypothesis try this many examples: always the same ones, and without a deadline."""
    return settings(max_examples=examples, deadline=None, derandomize=True)


def space_of(text: str = SMALL) -> Space:
    return spec_of(text).parameters()


def spec_of(
    text: str = SMALL, *, max_epochs: int = 9, constraints: Iterable[str] = (), **search: Any
) -> Spec:
    """Make a spec whose space is this YAML text; `search` replaces parts of the method."""
    rungs = [r for r in (1, 3, 9, 27, 81) if r < max_epochs] + [max_epochs]
    if search.get("pruning") == "shares":
        search = {"method": "caviar"} | search
    if "method" not in search:
        search = {"method": "asha", "sampler": "sobol", "zooms": 2} | search
    content = {
        "data": {"source": "nowhere.csv"},
        "trainer": "search_examples:Toy",
        "max_epochs": max_epochs,
        "space": parse_yaml(text, source="test"),
        "constraints": list(constraints),
        "search": {"rungs": rungs} | search,
    }
    return load_spec(content, source="test")


def make_search(spec: Spec, *, seed: int = 0) -> Search:
    return Search(spec.parameters(), spec.search, seed=seed, max_epochs=spec.max_epochs)


def apply_log(spec: Spec, log: Iterable[Event | Observation], *, seed: int = 0) -> Search:
    """Apply all entries of a log to a fresh search, and return the search."""
    search = make_search(spec, seed=seed)
    for entry in log:
        search.apply(entry)
    return search


def describe_search(search: Search) -> dict[str, Any]:
    """Collect the whole public state of a search as values that can be compared."""
    trials = {}
    for trial in search.trials.values():
        trials[trial.id] = asdict(replace(trial, point=np.empty(0))) | {
            "point": trial.point.tobytes()
        }
        trials[trial.id].pop("id")
    return {
        "trials": trials,
        "incumbent": search.incumbent,
        "epochs": search.epochs,
        "zoom": search.zoom,
        "counts": dict(search.counts),
        "budget": search.budget,
        "progress": search.progress(),
        "settled": search.is_settled(),
    }


def report_of(a: Assignment, epoch: int, loss: float, *, cause: str = "") -> Report:
    bad = bool(cause) or not math.isfinite(loss)
    return Report(
        trial=a.trial,
        attempt=a.attempt,
        epoch=epoch,
        metrics={"train_loss": loss, "validation_loss": loss},
        score=WORST if bad else (loss, 0.0),
        seconds=0.5,
        worker=0,
        cause=cause or ("validation_loss is not finite" if bad else ""),
        last=bad or epoch == a.stop_epoch,
    )


# ---------------------------------------------------------------------- the life of a trial

_LETTERS = {
    Kind.START: "s", Kind.PROMOTE: "m", Kind.RETRY: "r", Kind.PAUSE: "p", Kind.COMPLETE: "c",
    Kind.DIVERGE: "d", Kind.FAIL: "f", Kind.PRUNE: "k", Kind.STOP: "x",
}  # fmt: skip
#: All valid event sequences: retries and promotions any number of times, then at most one end.
LIFE = re.compile(r"s(r|xr)*(pm(r|xr)*)*(x|p|pk|c|d|f|k)?")


def encode_events(log: Iterable[Event | Observation]) -> dict[int, str]:
    """Encode the events of each trial as a word, with one letter for each event."""
    words: dict[int, str] = {}
    for entry in log:
        if isinstance(entry, TrialEvent) and entry.kind in _LETTERS:
            words[entry.trial] = words.get(entry.trial, "") + _LETTERS[entry.kind]
    return words


def select_events(play: Play, *kinds: Kind) -> list[Event]:
    """Select the events of these kinds, in order."""
    return [e for e in play.log if isinstance(e, Event) and e.kind in kinds]


class Play:
    """A search with simulated workers; the caller decides which worker does what next.

    Every method checks what must always hold. `log` holds all applied entries, in order.
    """

    def __init__(self, spec: Spec, *, seed: int = 0, budget: Budget) -> None:
        self.spec, self.seed = spec, seed
        self.search = make_search(spec, seed=seed)
        self.log: list[Event | Observation] = []
        self.out: dict[int, tuple[Assignment, int]] = {}  # trial -> assignment, its next epoch
        self.losses: dict[int, list[float]] = {}  # losses of every accepted epoch, by trial
        self.old: list[Report] = []  # reports that may be repeated
        self.lost: dict[int, int] = {}  # lost workers of each trial's present assignment
        self.seconds = 0.0
        self._take([SessionStarted(budget=budget, reason="a session")], apply=True)

    # -- possible events

    def suggest(self) -> bool:
        """Let a free worker ask for an assignment; return whether there is one."""
        before = len(self.search.trials)
        events = self.search.suggest()
        self._take(events)
        most = self.search.budget.trials
        assert most is None or len(self.search.trials) <= max(most, before)
        if not events or not isinstance(events[-1], Assigning):
            return False
        last = events[-1]
        if last.kind is Kind.PROMOTE:
            self.lost[last.trial] = 0
            self._check_promotion(last)
        self._hand_out(last)
        return True

    def report(self, trial: int, loss: float, *, cause: str = "") -> list[Event]:
        """Report the next epoch of a trial that is trained."""
        assignment, epoch = self.out[trial]
        report = report_of(assignment, epoch, loss, cause=cause)
        self.seconds += 1.0
        events = self.search.observe(report, self.seconds)
        assert events is not None
        self.log.append(Observation(report=report, at_seconds=self.seconds))
        self._take(events)
        self.losses.setdefault(trial, []).append(report.score[0])
        assert len(self.losses[trial]) == epoch
        self.old.append(report)
        if report.last:
            del self.out[trial]
            assert len(events) == 1
            self.search.validate()
            if report.cause:
                assert events[0].kind is Kind.DIVERGE
        else:
            self.out[trial] = assignment, epoch + 1
            assert events == []
        return events

    def fail(self, trial: int, kind: str) -> list[Event]:
        """Let a trainer raise an error, or a worker die."""
        assignment, _ = self.out.pop(trial)
        failure = Failure(trial=trial, attempt=assignment.attempt, kind=kind, message="boom")
        events = self.search.fail(failure)
        assert events is not None
        self._take(events)
        self.lost[trial] = self.lost.get(trial, 0) + (kind == "lost")
        is_retried = kind == "lost" and self.lost[trial] <= self.spec.search.retries
        assert [e.kind for e in events] == [Kind.RETRY if is_retried else Kind.FAIL]
        if is_retried:
            self._hand_out(events[-1])
        assert self.search.fail(failure) is None  # a failure is handled only once
        return events

    def repeat(self, number: int) -> None:
        """Repeat a report, or send one of an abandoned worker; it must change nothing."""
        if self.old:
            before = describe_search(self.search)
            report = self.old[number % len(self.old)]
            assert self.search.observe(report, self.seconds) is None
            late = replace(report, attempt=report.attempt + 99)
            assert self.search.observe(late, self.seconds) is None
            assert describe_search(self.search) == before

    def evict(self) -> None:
        """Give up a paused trial to make space for checkpoints."""
        waiting = [t.id for t in self.search.trials.values() if t.status is Status.PAUSED]
        events = self.search.evict(self.search.trials, "no room")
        self._take(events)
        assert [e.trial for e in events] == [] if not waiting else events[0].trial in waiting

    def resume(self, budget: Budget | None = None) -> None:
        """End the session, and let another one go on from the log alone."""
        self._take(self.search.stop("stopped by hand"))
        stopped = [t for t, word in encode_events(self.log).items() if word.endswith("x")]
        assert not self.search.counts[Status.RUNNING]
        fresh = apply_log(self.spec, self.log, seed=self.seed)
        assert describe_search(fresh) == describe_search(self.search)
        self.search, self.out = fresh, {}
        budget = budget or self.search.budget
        self._take([SessionStarted(budget=budget, reason="a session")], apply=True)
        for _ in stopped:  # the stopped trials go on first
            assert self.suggest()
        assert self.out.keys() == set(stopped)

    def check(self) -> None:
        """Check what must always hold: the invariants of the search, and those of the play."""
        self.search.validate()
        for trial, word in encode_events(self.log).items():
            assert LIFE.fullmatch(word), (trial, word)
        running = {t.id for t in self.search.trials.values() if t.status is Status.RUNNING}
        assert running == self.out.keys()
        assert all(e.reason for e in self.log if isinstance(e, Event))

    def check_replay(self) -> None:
        """Check that a fresh search with the same log has the same state and decides the same."""
        fresh = apply_log(self.spec, self.log, seed=self.seed)
        assert describe_search(fresh) == describe_search(self.search)
        for _ in range(3):
            assert fresh.suggest() == self.search.suggest()

    # -- inside

    def _take(self, events: Iterable[Event], *, apply: bool = False) -> None:
        for event in events:
            if apply:
                self.search.apply(event)
            self.log.append(event)

    def _hand_out(self, event: Event) -> None:
        assert event.trial is not None
        a = self.search.make_assignment(event)
        done = len(self.losses.get(a.trial, []))
        assert a.attempt == event.attempt
        assert a.start_epoch == event.start_epoch == done < a.stop_epoch <= self.spec.max_epochs
        assert a.trial not in self.out
        self.out[a.trial] = a, done + 1

    def _check_promotion(self, event: Event) -> None:
        """Check that a diverged trial is never promoted."""
        assert event.trial is not None
        word = encode_events(self.log)[event.trial]
        assert "d" not in word and "f" not in word
        assert self.losses[event.trial][-1] < math.inf


def play_out(
    play: Play,
    rng: np.random.Generator,
    *,
    workers: int,
    loss: Callable[[Assignment, int], float],
    steps: int = 10_000,
    mishaps: float = 0.0,
) -> Play:
    """Play until nothing is left to do, or for `steps` steps, with reports in random order."""
    for _ in range(steps):
        while len(play.out) < workers and play.suggest():
            pass
        limit = play.search.budget.epochs
        if not play.out or (limit is not None and play.search.epochs >= limit):
            break
        trial = int(rng.choice(sorted(play.out)))
        if rng.random() < mishaps:
            play.fail(trial, str(rng.choice(["raised", "lost"])))
        else:
            play.report(trial, loss(*play.out[trial]))
    return play


def draw_loss(assignment: Assignment, epoch: int) -> float:
    """Draw the loss on a random learning curve of the trial; one curve in ten diverges."""
    rng = np.random.default_rng(assignment.seed)
    asymptote, head, luck = rng.random(3)
    if luck < 0.1 and epoch >= 2:
        return math.inf
    return float(asymptote + head / epoch)


# ---------------------------------------------------------------------- what Hypothesis draws


@st.composite
def reals(draw: st.DrawFn) -> Real:
    """Real domains of every scale, with a range of up to about a hundred decades."""
    scale = draw(st.sampled_from(["linear", "log", "reverse_log"]))
    if scale == "linear":
        low = draw(st.floats(-1e6, 1e6))
        return Real(low=low, high=low + draw(st.floats(1e-3, 1e6)))
    top = draw(st.floats(-60, 40)) if scale == "log" else draw(st.floats(-13, 0.5))
    bottom = top - draw(st.floats(0.01, 50 if scale == "log" else 2))
    if scale == "log":
        return Real(low=10**bottom, high=10**top, scale="log")
    return Real(low=1 - 10**top, high=1 - 10**bottom, scale="reverse_log")


@st.composite
def integers(draw: st.DrawFn) -> Integer:
    """Integer domains of both scales."""
    scale = draw(st.sampled_from(["linear", "log2"]))
    low = draw(st.integers(1 if scale == "log2" else -(10**6), 10**6))
    return Integer(low=low, high=low + draw(st.integers(1, 10**6)), scale=scale)


values = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet="ab1.e-_ é'\"", max_size=5),
)


@st.composite
def choices(draw: st.DrawFn, options: st.SearchStrategy[Any] = values) -> Choice:
    """Choices with options of mixed types, without repeats."""
    drawn = draw(st.lists(options, min_size=1, max_size=6, unique_by=lambda v: (type(v), v)))
    return Choice(options=tuple(drawn))


domains = st.one_of(reals(), integers(), choices())


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Spaces with a condition, a layer count, and up to four parameters of any kind."""
    texts = st.lists(st.text(alphabet="abcdef", min_size=1, max_size=4), min_size=1, max_size=3)
    switch = Choice(options=tuple(draw(texts.map(dict.fromkeys).map(tuple))))
    parameters = [Parameter(name="switch", domain=switch)]
    low = draw(st.integers(1, 3))
    parameters.append(
        Parameter(name="layers", domain=Integer(low=low, high=low + draw(st.integers(1, 2))))
    )
    for i, domain in enumerate(draw(st.lists(domains, max_size=4))):
        when = {"switch": (switch.options[0],)} if draw(st.booleans()) else {}
        per = "layers" if draw(st.booleans()) else None
        parameters.append(Parameter(name=f"p{i}", domain=domain, when=when, per=per))
    return Space(draw(st.permutations(parameters)))


def points(space: Space) -> st.SearchStrategy[np.ndarray]:
    size = len(space)
    return st.lists(st.floats(0, 1), min_size=size, max_size=size).map(np.array)


# ---------------------------------------------------------------------- toy trainers


OBJECTIVE = Objective(metric="validation_loss", maximize=False)
METRICS: Mapping[str, type] = {"train_loss": float, "validation_loss": float}


def make_tables(spec: Spec) -> Tables:
    return Tables(space=spec.parameters(), metrics=METRICS, objective=OBJECTIVE)


class Toy:
    """A random walk as a trainer; its state is exact, so a resumed trial trains identically."""

    metrics: ClassVar = {"validation_loss": (float, "min"), "train_loss": (float, "none")}

    def __init__(self, config: Mapping[str, Any], *, seed: int, data: Any, max_epochs: int) -> None:
        self.config, self.data = dict(config), data
        self._rng = np.random.default_rng(seed)
        self._weights = np.zeros(3)
        self._epochs = 0

    def epoch(self) -> dict[str, float]:
        """Train one epoch; `config` says what goes wrong in which epoch."""
        self._epochs += 1
        self._weights += self.config.get("scale", 1.0) * self._rng.normal(size=3)
        loss = float(np.sum(self._weights**2))
        if self._epochs == self.config.get("raises_in"):
            raise RuntimeError("the kettle is empty\nsecond line")
        if self._epochs == self.config.get("nan_in"):
            loss = math.nan
        if self._epochs == self.config.get("explodes_in"):
            loss = 1e9
        metrics = {"validation_loss": loss, "train_loss": loss}
        return {**metrics, **self.config.get("extra", {})}

    def state(self) -> dict[str, Any]:
        return {
            "weights": self._weights.copy(),
            "epochs": self._epochs,
            "rng": str(self._rng.bit_generator.state["state"]["state"]),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self._weights = np.array(state["weights"])
        self._epochs = int(state["epochs"])
        whole = self._rng.bit_generator.state
        whole["state"]["state"] = int(state["rng"])
        self._rng.bit_generator.state = whole

    def adjust(self, changes: Mapping[str, Any]) -> None:
        self.config |= changes


class Forgetful(Toy):
    """A trainer that does not report a metric that it declares."""

    def epoch(self) -> dict[str, float]:
        return {"validation_loss": super().epoch()["validation_loss"]}


class Silent:
    """A trainer that declares no metrics."""


def job(trainer: str = "Toy") -> Job:
    return Job(
        trainer=f"search_examples:{trainer}",
        data=None,
        max_epochs=27,
        objective=OBJECTIVE,
    )


def assignment(*, start: int = 0, stop: int = 3, **config: Any) -> Assignment:
    return Assignment(
        trial=4,
        config=config,
        seed=11,
        start_epoch=start,
        stop_epoch=stop,
        attempt=2,
        explode_above=1e4,
        best_score=WORST,
    )


# ---------------------------------------------------------------------- other processes


def run_in_another_process(code: str, *, hash_seed: int = 123) -> str:
    """Run code in another process, with another hash seed for strings; return its output."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([HERE, *filter(None, sys.path)]),
        "PYTHONHASHSEED": str(hash_seed),
    }
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()
