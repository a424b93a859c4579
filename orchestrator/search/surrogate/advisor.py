"""What the results so far advise: where to look next, and which trial is worth training on.

The search method tells the advisor which trials start, which ones run and which results came in.
The advisor keeps these in that order, and every answer is a pure function of them and of the seed.
So a resumed run gets the same advice, however often and in which order it was asked before.

The cost of an answer does not grow with the number of trials: the model holds at most
`MOST + BLOCK` results, and its hyperparameters are fitted again when there are two fifths more.
"""

from __future__ import annotations

import functools
import math
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from orchestrator.search.events import Forecast
from orchestrator.search.objective import WORST, Score
from orchestrator.search.random_streams import Purpose, stream
from orchestrator.search.surrogate.acquisition import (
    candidates,
    expected_improvement,
    refine_candidates,
)
from orchestrator.search.surrogate.gaussian_process import Array, Columns, Posterior, Prior, fit
from orchestrator.space.domains import Choice, Point
from orchestrator.space.space import Space

__all__ = ["Advisor", "Proposal"]

BEGINNING = 12  #: results before the model is asked, or the number of dimensions plus 2 if larger
MOST = 240  #: results in the model: the best `BEST` of all, and a random part of the others
BEST = 160
BLOCK = 60  #: results taken in one by one before the choice is made again
GROWTH = 1.4  #: growth of the number of results until the hyperparameters are fitted again
FIRST_STEPS, STEPS = 30, 5  #: steps of L-BFGS-B in the first fit, and in each later one
SOFT = 1.0  #: added to (loss - best) / (median - best) before the logarithm is taken
ELITES = 8  #: best trials around which candidates are drawn
CLOSE = 16  #: candidates whose improvement is computed exactly: those where it may be largest
#: The best result may owe this many standard deviations of the noise to chance; more is an outlier.
NOISE_ALLOWANCE = 2.0
MAX_LOSS = 1e100  #: larger losses count as this much
PENDING = 64  #: running trials that the model takes into account, the latest ones


class Proposal(NamedTuple):
    """A point to try, and the loss that the model expects there."""

    point: Point
    forecast: Forecast


P = ParamSpec("P")
R = TypeVar("R")


def _on_one_thread(answer: Callable[P, R]) -> Callable[P, R]:
    """Two BLAS threads give other bits than one; and beside workers they are seven times slower."""

    @functools.wraps(answer)
    def answered(*args: P.args, **kwargs: P.kwargs) -> R:
        with _threads().limit(limits=1):
            return answer(*args, **kwargs)

    return answered


@functools.cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


class Advisor:
    """Keeps the results and answers from a Gaussian process; see the module's docstring.

    Losses: smaller is better; the loss of a trial that went bad is inf.
    """

    def __init__(self, space: Space, *, seed: int, max_epochs: int) -> None:
        self._space = space
        self._seed = seed
        self._last = math.log(max(max_epochs, 2))
        self._columns = _columns(space)
        self._points: list[Point] = []  # by trial
        self._tried: set[bytes] = set()  # the same points
        self._trial: list[int] = []  # of each result, in the order in which they came
        self._epoch: list[int] = []
        self._loss: list[float] = []
        self._tie: list[float] = []  # what breaks ties
        self._ranked: list[tuple[Score, int]] = []  # (score, result), best first
        self._running: dict[int, None] = {}  # trials, in the order in which they were handed out
        self._theta = Prior.of(self._columns).mean
        self._fitted = 0  # results that theta was fitted to
        self._base: _Base | None = None
        self._view: _View | None = None

    # ------------------------------------------------------------------ what happened

    def add_trial(self, point: Point) -> None:
        """The next trial begins, at this point (NaN where inactive)."""
        self._points.append(point)
        self._tried.add(point.tobytes())

    def mark_running(self, trial: int) -> None:
        """A trial is being trained."""
        self._running[trial] = None
        self._view = None

    def mark_idle(self, trial: int) -> None:
        """A trial is not being trained any more."""
        self._running.pop(trial, None)
        self._view = None

    def add_result(self, trial: int, epoch: int, score: Score) -> None:
        """A trial's assignment has ended with this score; WORST if the trial went bad."""
        insort(self._ranked, (score, len(self._trial)))
        self._trial.append(trial)
        self._epoch.append(epoch)
        self._loss.append(score[0])
        self._tie.append(score[1])
        self._view = None

    # ------------------------------------------------------------------ advice

    @property
    def beginning(self) -> int:
        """Number of trials that begin before the model is asked."""
        return max(BEGINNING, len(self._space) + 2)

    @property
    def ready(self) -> bool:
        """Whether there are enough results: half of the first trials are back, one is sound."""
        enough = len(self._trial) >= self.beginning // 2 and len(self._points) >= self.beginning
        return enough and len(self._space) > 0 and self._ranked[0][0] < WORST

    @_on_one_thread
    def propose(self, draw: int) -> Proposal | None:
        """A point whose result at the last epoch is expected to improve most on the best so far.

        None where every point that was thought of breaks a constraint.
        """
        view = self._current_view()
        rng = stream(self._seed, draw, Purpose.PROPOSE)

        def worth(points: Array) -> Array:
            allowed = self._space.allowed(points)
            return view.improvements(self._inputs(points), allowed=allowed)

        points = candidates(self._space, view.elites, rng)
        found = refine_candidates(
            self._space, points, worth(points), worth, elites=view.elites, rng=rng
        )
        found = found[self._space.allowed(found)]
        new = (p for p in found if p.tobytes() not in self._tried)
        point = next(new, found[0] if len(found) else None)
        return None if point is None else Proposal(point, self._forecast(view, point))

    @_on_one_thread
    def choose(self, trials: Sequence[int]) -> tuple[int, Forecast]:
        """The place of the trial expected to improve most on the best, trained to the end."""
        view = self._current_view()
        x = self._inputs(np.array([self._points[t] for t in trials]))
        place = int(np.argmax(view.improvements(x, allowed=np.ones(len(x)))))
        return place, self._forecast(view, self._points[trials[place]])

    # ------------------------------------------------------------------ the model

    def _forecast(self, view: _View, point: Point) -> Forecast:
        x = self._inputs(point[None])
        mean, across = view.posterior.mean(x, _END)
        deviation = view.posterior.deviation(across)
        low, middle, high = view.scale.losses(mean[0] + deviation[0] * np.array([-1.0, 0.0, 1.0]))
        return Forecast(expected=float(middle), low=float(low), high=float(high))

    def _current_view(self) -> _View:
        """The model with all results and all that runs."""
        if self._view is None:
            base = self._fit_all_results()
            y, scale = self._objective(base.results)
            posterior = base.posterior
            without_noise = posterior.observe(y)
            running = list(self._running)[-PENDING:]
            if running:
                # As if each were trained to the end: it may yet be, so its neighbours are no use.
                points = np.array([self._points[t] for t in running])
                posterior.imagine(self._inputs(points), np.ones(len(running)))
            self._view = _View(
                posterior=posterior,
                scale=scale,
                best=max(
                    float(y.min()), float(without_noise.min()) - NOISE_ALLOWANCE * posterior.noise
                ),
                elites=np.array([self._points[t] for t in self._elites()]),
            )
        return self._view

    def _fit_all_results(self) -> _Base:
        """Results in the order they came; one fitted to the first n is the same whoever asks when.

        The hyperparameters are those fitted to the results there were at the last threshold; those
        results are taken in at once, the rest one by one.
        """
        n = len(self._trial)
        base = self._base
        while (due := self._next_fit()) <= n:
            chosen = self._select_results(due)
            x, t = self._model_inputs(chosen)
            y, _ = self._objective(chosen)
            steps = STEPS if self._fitted else FIRST_STEPS
            self._theta = fit(self._columns, x, t, y, start=self._theta, steps=steps)
            self._fitted, base = due, None
        since = n - (n - self._fitted) % BLOCK if n > MOST else self._fitted
        if base is None or base.since != since:
            chosen = self._select_results(since)
            base = _Base(since, since, chosen, Posterior(self._columns, self._theta))
            base.posterior.add(*self._model_inputs(chosen))
        base.posterior.forget(len(base.results))
        for i in range(base.upto, n):
            base.posterior.add(*self._model_inputs([i]))
            base.results.append(i)
        base.upto = n
        self._base = base
        return base

    def _next_fit(self) -> int:
        """The number of results at which the hyperparameters are fitted next."""
        if not self._fitted:
            return self.beginning // 2
        return max(self._fitted + 2, math.ceil(self._fitted * GROWTH))

    def _select_results(self, n: int) -> list[int]:
        """Which of the first n results the model holds: all, or the best and a random rest."""
        if n <= MOST:
            return list(range(n))
        ranking = [i for _, i in self._ranked if i < n]
        rest = stream(self._seed, n, Purpose.CHOOSE).choice(n - BEST, MOST - BEST, replace=False)
        return sorted([*ranking[:BEST], *(ranking[BEST + int(k)] for k in rest)])

    def _objective(self, results: Sequence[int]) -> tuple[Array, _Scale]:
        """Scores as the model has them, mean 0 and standard deviation 1, and the way back.

        The metric that breaks ties has a say too, the more of the losses are equal: where they are
        counts of a few hundred validation examples, it still tells which way is down.
        """
        loss, best, spread = _compress_losses(np.array([self._loss[i] for i in results]))
        y = _standardise(loss)
        if tied := 1 - len(np.unique(loss)) / len(loss):
            tie, _, _ = _compress_losses(np.array([self._tie[i] for i in results]))
            y = _standardise(y + tied * _standardise(tie))
        # and back by regression: the loss to expect where the objective is y
        slope = float(y @ (loss - loss.mean())) / len(y)
        return y, _Scale(best, spread, float(loss.mean()), slope)

    def _elites(self) -> list[int]:
        elites: dict[int, None] = {}
        for score, i in self._ranked:
            if len(elites) == ELITES or (score == WORST and elites):
                break
            elites[self._trial[i]] = None
        return list(elites)

    def _model_inputs(self, results: Sequence[int]) -> tuple[Array, Array]:
        points = np.array([self._points[self._trial[i]] for i in results])
        return self._inputs(points), self._time(np.array([self._epoch[i] for i in results]))

    def _time(self, epochs: Array) -> Array:
        return np.asarray(np.log(epochs) / self._last)

    def _inputs(self, points: Array) -> Array:
        """Points of shape (n, dimensions) as columns of numbers, (n, columns).

        What is not active lies in the middle: two that are both inactive do not differ there.
        """
        if len(self._columns.dimension) == len(self._space):
            return np.where(np.isnan(points), 0.5, points)
        parts = []
        for d, u in zip(self._space.dimensions, points.T, strict=True):
            inactive = np.isnan(u)
            if isinstance(d.domain, Choice):
                k = len(d.domain.options)
                hot = np.eye(k)[d.domain.places(np.where(inactive, 0.0, u))]
                parts.append(np.where(inactive[:, None], 1 / k, hot) / math.sqrt(2))
            else:
                parts.append(np.where(inactive, 0.5, u)[:, None])
        return np.hstack(parts)


_END = np.ones(1)  #: the last epoch's time


@dataclass(slots=True)
class _Base:
    """The model of the results alone."""

    since: int  #: so many results were there when some were chosen and taken in at once
    upto: int  #: so many are there now; all that came since were taken in
    results: list[int]  #: those in the model
    posterior: Posterior


@dataclass(frozen=True, slots=True)
class _Scale:
    """From the model's objective back to losses."""

    best: float
    spread: float
    middle: float
    width: float

    def losses(self, y: Array) -> Array:
        stretched = np.exp(y * self.width + self.middle) - SOFT
        return np.asarray(self.best + self.spread * stretched)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """The model with what runs thought of, and what to compare with."""

    posterior: Posterior
    scale: _Scale
    best: float
    elites: Array

    def improvements(self, x: Array, *, allowed: Array) -> Array:
        """The expected improvement at the last epoch; shape (n,).

        0 at those that are not allowed or have no chance to be the best of these.
        """
        mean, across = self.posterior.glance(x, _END)
        most = expected_improvement(mean, self.posterior.deviation_at_most(across), self.best)
        close = np.argsort(-most * allowed, kind="stable")[:CLOSE]
        worth = np.zeros(len(x))
        deviation = self.posterior.deviation(across[:, close])
        worth[close] = expected_improvement(mean[close], deviation, self.best) * allowed[close]
        return worth


def _compress_losses(losses: Array) -> tuple[Array, float, float]:
    """log(1 + (loss - best) / (median - best)), the best loss, and what it is divided by.

    What is far from the best should not shape the model; what went bad counts as the worst.
    """
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return np.zeros(len(losses)), 0.0, 1.0
    losses, finite = np.clip(losses, -MAX_LOSS, MAX_LOSS), np.clip(finite, -MAX_LOSS, MAX_LOSS)
    best, worst = float(finite.min()), float(finite.max())
    spread = max(float(np.median(finite)) - best, (worst - best) / 1e9) or 1.0
    return np.log(SOFT + (np.minimum(losses, worst) - best) / spread), best, spread


def _standardise(values: Array) -> Array:
    """Mean 0 and standard deviation 1; all 0 where they are alike."""
    width = float(values.std())
    centred = values - values.mean()
    return np.asarray(centred / width if width > 1e-9 else 0.0 * centred)


def _columns(space: Space) -> Columns:
    dimension: list[int] = []
    bent: list[bool] = []
    for i, d in enumerate(space.dimensions):
        choice = isinstance(d.domain, Choice)
        width = len(d.domain.options) if isinstance(d.domain, Choice) else 1
        dimension += [i] * width
        bent += [not choice] * width
    return Columns(np.array(dimension, dtype=int), np.array(bent, dtype=bool))
