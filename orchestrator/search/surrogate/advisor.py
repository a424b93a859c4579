"""The advisor: from the results so far, it proposes new points and ranks paused trials.

The search method reports to the advisor which trials start, which ones run and which results came
in. The advisor stores these in order, and every answer is a pure function of them and of the seed.
So a resumed run gets the same advice, however often and in which order it was asked before.

The cost of an answer does not grow with the number of trials: the model holds at most
`MAX_RESULTS + BLOCK_SIZE` results, and its hyperparameters are fitted again each time the number of
results has grown by two fifths.
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
from orchestrator.search.random_streams import Purpose, make_generator
from orchestrator.search.surrogate.acquisition import (
    expected_improvement,
    propose_candidates,
    refine_candidates,
)
from orchestrator.search.surrogate.gaussian_process import Array, Columns, Posterior, Prior, fit
from orchestrator.space.domains import Choice, Point
from orchestrator.space.space import Space

__all__ = ["Advisor", "Proposal"]

#: Trials that start before the model is asked; the number of dimensions plus 2 if that is larger.
INITIAL_TRIALS = 12
#: Maximum of results that are chosen for the model: the best `BEST_RESULTS`, the rest at random.
MAX_RESULTS = 240
BEST_RESULTS = 160  #: number of results that are chosen for the model because they are the best
BLOCK_SIZE = 60  #: results that are added one by one before the model's results are chosen again
GROWTH = 1.4  #: the hyperparameters are fitted again when the results have grown by this factor
FIRST_STEPS, STEPS = 30, 5  #: iterations of L-BFGS-B in the first fit, and in each later one
LOG_OFFSET = 1.0  #: added to (loss - best) / (median - best) before the logarithm is taken
ELITES = 8  #: number of best trials around which candidates are drawn
#: Number of candidates whose improvement is computed exactly: those where it may be largest.
EXACT_CANDIDATES = 16
#: The best result may owe this many standard deviations of the noise to chance; more is an outlier.
NOISE_ALLOWANCE = 2.0
MAX_LOSS = 1e100  #: larger losses are replaced by this value
MAX_PENDING = 64  #: maximum of running trials that the model takes into account; the latest ones


class Proposal(NamedTuple):
    """A point to try, and the loss that the model expects there."""

    point: Point
    forecast: Forecast


P = ParamSpec("P")
R = TypeVar("R")


def _with_one_thread(answer: Callable[P, R]) -> Callable[P, R]:
    """Limit BLAS to one thread while the method runs.

    Two threads give different bits than one. Beside busy workers they are also seven times slower.
    """

    @functools.wraps(answer)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with _thread_controller().limit(limits=1):
            return answer(*args, **kwargs)

    return wrapper


@functools.cache
def _thread_controller() -> ThreadpoolController:
    return ThreadpoolController()


class Advisor:
    """Results of a search, and the Gaussian process that answers from them; see the module.

    Smaller losses are better; the loss of a trial that went bad is inf.
    """

    def __init__(self, space: Space, *, seed: int, max_epochs: int) -> None:
        self._space = space
        self._seed = seed
        self._log_max_epochs = math.log(max(max_epochs, 2))
        self._columns = _make_columns(space)
        self._points: list[Point] = []  # point of each trial
        self._tried: set[bytes] = set()  # the bytes of `_points`
        self._trial_of_result: list[int] = []  # trial of each result, in order of arrival
        self._epoch_of_result: list[int] = []
        self._loss_of_result: list[float] = []
        self._tie_of_result: list[float] = []  # the second part of each score, which breaks ties
        self._ranking: list[tuple[Score, int]] = []  # (score, result), best first
        self._running: dict[int, None] = {}  # running trials, in the order of their assignments
        self._theta = Prior.for_columns(self._columns).mean
        self._fitted_results = 0  # number of results that theta was fitted to
        self._result_model: _ResultModel | None = None
        self._current_model: _CurrentModel | None = None

    # ------------------------------------------------------------------ what happened

    def add_trial(self, point: Point) -> None:
        """Add the next trial, which trains the configuration at `point` (NaN where inactive)."""
        self._points.append(point)
        self._tried.add(point.tobytes())

    def mark_running(self, trial: int) -> None:
        """Note that a trial is being trained."""
        self._running[trial] = None
        self._current_model = None

    def mark_idle(self, trial: int) -> None:
        """Note that a trial is not being trained any more."""
        self._running.pop(trial, None)
        self._current_model = None

    def add_result(self, trial: int, epoch: int, score: Score) -> None:
        """Add the score at the end of a trial's assignment; WORST if the trial went bad."""
        insort(self._ranking, (score, len(self._trial_of_result)))
        self._trial_of_result.append(trial)
        self._epoch_of_result.append(epoch)
        self._loss_of_result.append(score[0])
        self._tie_of_result.append(score[1])
        self._current_model = None

    # ------------------------------------------------------------------ advice

    @property
    def initial_trials(self) -> int:
        """Number of trials that start before the model is asked."""
        return max(INITIAL_TRIALS, len(self._space) + 2)

    @property
    def ready(self) -> bool:
        """Whether half of the initial trials have a result, and at least one result is finite."""
        enough = (
            len(self._trial_of_result) >= self.initial_trials // 2
            and len(self._points) >= self.initial_trials
        )
        return enough and len(self._space) > 0 and self._ranking[0][0] < WORST

    @_with_one_thread
    def propose(self, draw: int) -> Proposal | None:
        """Return the point that is expected to improve most on the best, at the last epoch.

        The answer is None if every candidate breaks a constraint.
        """
        model = self._model_with_running()
        rng = make_generator(self._seed, draw, Purpose.PROPOSE)

        def compute_improvements(points: Array) -> Array:
            allowed = self._space.allowed_mask(points)
            return model.expected_improvements(self._make_inputs(points), allowed=allowed)

        points = propose_candidates(self._space, model.elites, rng)
        refined = refine_candidates(
            self._space,
            points,
            compute_improvements(points),
            compute_improvements,
            elites=model.elites,
            rng=rng,
        )
        refined = refined[self._space.allowed_mask(refined)]
        new = (p for p in refined if p.tobytes() not in self._tried)
        point = next(new, refined[0] if len(refined) else None)
        return None if point is None else Proposal(point, self._make_forecast(model, point))

    @_with_one_thread
    def choose_trial(self, trials: Sequence[int]) -> tuple[int, Forecast]:
        """Return the index of the trial expected to improve most if trained to the end."""
        model = self._model_with_running()
        x = self._make_inputs(np.array([self._points[t] for t in trials]))
        index = int(np.argmax(model.expected_improvements(x, allowed=np.ones(len(x)))))
        return index, self._make_forecast(model, self._points[trials[index]])

    # ------------------------------------------------------------------ the model

    def _make_forecast(self, model: _CurrentModel, point: Point) -> Forecast:
        x = self._make_inputs(point[None])
        mean, across = model.posterior.predict_mean(x, _LAST_EPOCH)
        deviation = model.posterior.predict_deviation(across)
        low, middle, high = model.scale.to_losses(
            mean[0] + deviation[0] * np.array([-1.0, 0.0, 1.0])
        )
        return Forecast(expected=float(middle), low=float(low), high=float(high))

    def _model_with_running(self) -> _CurrentModel:
        """Return the model of all results and of all running trials."""
        if self._current_model is None:
            base = self._fit_all_results()
            y, scale = self._make_objective(base.results)
            posterior = base.posterior
            without_noise = posterior.condition_on(y)
            running = list(self._running)[-MAX_PENDING:]
            if running:
                # Each running trial counts as trained to the end, since it may still be promoted:
                # its neighbours promise little.
                points = np.array([self._points[t] for t in running])
                posterior.add_pending(self._make_inputs(points), np.ones(len(running)))
            self._current_model = _CurrentModel(
                posterior=posterior,
                scale=scale,
                best=max(
                    float(y.min()), float(without_noise.min()) - NOISE_ALLOWANCE * posterior.noise
                ),
                elites=np.array([self._points[t] for t in self._choose_elites()]),
            )
        return self._current_model

    def _fit_all_results(self) -> _ResultModel:
        """Return the model of all results; it depends on their order, not on earlier questions.

        The hyperparameters were fitted when the number of results passed the last threshold. The
        results up to there are added at once, the later ones one by one.
        """
        n = len(self._trial_of_result)
        base = self._result_model
        while (due := self._count_for_next_fit()) <= n:
            chosen = self._select_results(due)
            x, t = self._select_inputs(chosen)
            y, _ = self._make_objective(chosen)
            steps = STEPS if self._fitted_results else FIRST_STEPS
            self._theta = fit(self._columns, x, t, y, start=self._theta, steps=steps)
            self._fitted_results, base = due, None
        block_start = (
            n - (n - self._fitted_results) % BLOCK_SIZE if n > MAX_RESULTS else self._fitted_results
        )
        if base is None or base.block_start != block_start:
            chosen = self._select_results(block_start)
            base = _ResultModel(
                block_start, block_start, chosen, Posterior(self._columns, self._theta)
            )
            base.posterior.add_inputs(*self._select_inputs(chosen))
        base.posterior.truncate(len(base.results))
        for i in range(base.count, n):
            base.posterior.add_inputs(*self._select_inputs([i]))
            base.results.append(i)
        base.count = n
        self._result_model = base
        return base

    def _count_for_next_fit(self) -> int:
        """Return the number of results at which the hyperparameters are fitted next."""
        if not self._fitted_results:
            return self.initial_trials // 2
        return max(self._fitted_results + 2, math.ceil(self._fitted_results * GROWTH))

    def _select_results(self, n: int) -> list[int]:
        """Choose from the first n results: all, or the best ones and a random part of the rest."""
        if n <= MAX_RESULTS:
            return list(range(n))
        ranking = [i for _, i in self._ranking if i < n]
        rest = make_generator(self._seed, n, Purpose.CHOOSE).choice(
            n - BEST_RESULTS, MAX_RESULTS - BEST_RESULTS, replace=False
        )
        return sorted([*ranking[:BEST_RESULTS], *(ranking[BEST_RESULTS + int(k)] for k in rest)])

    def _make_objective(self, results: Sequence[int]) -> tuple[Array, _LossScale]:
        """Return the model's objective, standardised, and the scale that converts it to losses.

        The more losses are equal, the more the metric that breaks ties counts. Losses that are
        counts of a few hundred validation examples are often equal; that metric still shows a
        direction.
        """
        loss, best, spread = _compress_losses(np.array([self._loss_of_result[i] for i in results]))
        y = _standardise(loss)
        if tied := 1 - len(np.unique(loss)) / len(loss):
            tie, _, _ = _compress_losses(np.array([self._tie_of_result[i] for i in results]))
            y = _standardise(y + tied * _standardise(tie))
        # the way back, by linear regression: the compressed loss to expect where the objective is y
        slope = float(y @ (loss - loss.mean())) / len(y)
        return y, _LossScale(best, spread, float(loss.mean()), slope)

    def _choose_elites(self) -> list[int]:
        elites: dict[int, None] = {}
        for score, i in self._ranking:
            if len(elites) == ELITES or (score == WORST and elites):
                break
            elites[self._trial_of_result[i]] = None
        return list(elites)

    def _select_inputs(self, results: Sequence[int]) -> tuple[Array, Array]:
        points = np.array([self._points[self._trial_of_result[i]] for i in results])
        return self._make_inputs(points), self._scale_epochs(
            np.array([self._epoch_of_result[i] for i in results])
        )

    def _scale_epochs(self, epochs: Array) -> Array:
        return np.asarray(np.log(epochs) / self._log_max_epochs)

    def _make_inputs(self, points: Array) -> Array:
        """Convert points of shape (n, dimensions) to model inputs of shape (n, columns).

        An inactive dimension gets the middle of its range, so two points in which it is inactive do
        not differ there.
        """
        if len(self._columns.dimension) == len(self._space):
            return np.where(np.isnan(points), 0.5, points)
        parts = []
        for d, u in zip(self._space.dimensions, points.T, strict=True):
            inactive = np.isnan(u)
            if isinstance(d.domain, Choice):
                k = len(d.domain.options)
                hot = np.eye(k)[d.domain.to_indexes(np.where(inactive, 0.0, u))]
                parts.append(np.where(inactive[:, None], 1 / k, hot) / math.sqrt(2))
            else:
                parts.append(np.where(inactive, 0.5, u)[:, None])
        return np.hstack(parts)


_LAST_EPOCH = np.ones(1)  #: logarithm of the last epoch, on the model's scale from 0 to 1


@dataclass(slots=True)
class _ResultModel:
    """The model of the results alone, without the running trials."""

    block_start: int  #: number of results when the model's results were last chosen
    count: int  #: number of results so far; the model holds all that came after block_start
    results: list[int]  #: numbers of the results in the model
    posterior: Posterior


@dataclass(frozen=True, slots=True)
class _LossScale:
    """Conversion of the model's objective to losses; see `_make_objective`."""

    best: float  #: the best loss
    spread: float  #: median loss minus best loss
    mean: float  #: mean of the compressed losses
    slope: float  #: change of the compressed loss per unit of the objective

    def to_losses(self, y: Array) -> Array:
        stretched = np.exp(y * self.slope + self.mean) - LOG_OFFSET
        return np.asarray(self.best + self.spread * stretched)


@dataclass(frozen=True, slots=True, kw_only=True)
class _CurrentModel:
    """The model of results and running trials, with the objective to improve on."""

    posterior: Posterior
    scale: _LossScale
    best: float  #: the objective to improve on
    elites: Array  #: points of the best trials, shape (elites, dimensions)

    def expected_improvements(self, x: Array, *, allowed: Array) -> Array:
        """Expected improvement at the last epoch, shape (n,).

        It is 0 at points that are not allowed, and at those that cannot be the best of these.
        """
        mean, across = self.posterior.approximate_mean(x, _LAST_EPOCH)
        bound = expected_improvement(mean, self.posterior.bound_deviation(across), self.best)
        top = np.argsort(-bound * allowed, kind="stable")[:EXACT_CANDIDATES]
        improvements = np.zeros(len(x))
        deviation = self.posterior.predict_deviation(across[:, top])
        improvements[top] = expected_improvement(mean[top], deviation, self.best) * allowed[top]
        return improvements


def _compress_losses(losses: Array) -> tuple[Array, float, float]:
    """Return log(1 + (loss - best) / (median - best)), the best loss, and the divisor.

    The logarithm makes losses far from the best count less. A trial that went bad counts as the
    worst finite loss.
    """
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return np.zeros(len(losses)), 0.0, 1.0
    losses, finite = np.clip(losses, -MAX_LOSS, MAX_LOSS), np.clip(finite, -MAX_LOSS, MAX_LOSS)
    best, worst = float(finite.min()), float(finite.max())
    spread = max(float(np.median(finite)) - best, (worst - best) / 1e9) or 1.0
    return np.log(LOG_OFFSET + (np.minimum(losses, worst) - best) / spread), best, spread


def _standardise(values: Array) -> Array:
    """Shift and scale values to mean 0 and standard deviation 1; all 0 if the values are equal."""
    width = float(values.std())
    centred = values - values.mean()
    return np.asarray(centred / width if width > 1e-9 else 0.0 * centred)


def _make_columns(space: Space) -> Columns:
    dimension: list[int] = []
    bent: list[bool] = []
    for i, d in enumerate(space.dimensions):
        choice = isinstance(d.domain, Choice)
        width = len(d.domain.options) if isinstance(d.domain, Choice) else 1
        dimension += [i] * width
        bent += [not choice] * width
    return Columns(np.array(dimension, dtype=int), np.array(bent, dtype=bool))
