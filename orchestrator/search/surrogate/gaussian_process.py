"""A Gaussian process over configurations and epochs: it predicts losses from the results so far.

    k((x, t), (x', t')) = v * matern(r) * (1 + w * exp(-(t - t')^2 / 2 l^2)) / (1 + w)

Here r is the distance of two configurations, each coordinate divided by its own length scale, and
t is the logarithm of the epoch, scaled to [0, 1]. So similar configurations have similar curves,
and two epochs of one curve agree more the closer they are. Rasmussen & Williams 2006, "Gaussian
Processes for Machine Learning", chapters 2 and 5 and section 4.2 (Matern 5/2). Using one kernel
over configurations and epochs follows multi-task and freeze-thaw Bayesian optimization (Swersky,
Snoek & Adams 2013, NeurIPS; 2014, arXiv:1406.3896).

Each coordinate is warped before distances are taken: w = 1 - (1 - u^a)^b. This is Kumaraswamy's
distribution function, in place of the beta distribution of Snoek et al. 2014, arXiv:1402.0929. It
makes a response even that is steep at one end of a range, as happens on a badly chosen scale.

The hyperparameters (length scales, v, w, l, noise, a, b) maximise the posterior density; L-BFGS-B
finds them with the exact gradient. The functions take and return arrays and know nothing of trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

__all__ = ["Columns", "Posterior", "Prior", "fit"]

_ROOT5 = math.sqrt(5.0)
_JITTER = 1e-5  #: share of the unit variance added to the noise; keeps the factorisation stable
_EDGE = 1e-6  #: u stays at least this far from 0 and 1, where the warp has no finite slope
_BLOCK = 64  #: rows of covariances computed at a time, so that they stay in the cache
#: Hyperparameters stay within this many standard deviations of their prior's mean.
_MAX_DEVIATIONS = 2.5

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Columns:
    """The form of the inputs: the dimension of each column, and the columns that are warped.

    A number is one column in [0, 1]; a choice of k options is k columns with one 1 / sqrt(2) in
    them, so that two different options are 1 apart. The columns of a dimension share one length
    scale.
    """

    dimension: Array  #: index of each column's dimension, from 0, rising; shape (columns,)
    numeric: Array  #: mask of the columns that hold a number and are warped; shape (columns,)

    @property
    def dimensions(self) -> int:
        """Number of dimensions; each has one length scale."""
        return int(self.dimension[-1]) + 1 if len(self.dimension) else 0


@dataclass(frozen=True, slots=True)
class Prior:
    """Normal prior of each hyperparameter's logarithm.

    benchmarks/search_constants.py measures the effect of its constants. The expected length scales
    grow with the square root of the number of dimensions, as the distance of two random points does
    (Hvarfner, Hellsten & Nardi 2024, arXiv:2402.02229).
    """

    mean: Array  #: mean of each logarithm
    deviation: Array  #: standard deviation of each logarithm

    @classmethod
    def for_columns(cls, columns: Columns) -> Prior:
        """Build the prior for inputs of this form."""
        d, numeric = columns.dimensions, int(columns.numeric.sum())
        length = math.log(LENGTH_SCALE * math.sqrt(max(d, 1)))
        named = [  # mean and standard deviation of the logarithm
            (0.0, 1.0),  # v; the objectives have a standard deviation of 1
            (math.log(0.5), 1.0),  # w
            (math.log(0.5), 0.7),  # l, on the logarithm of the epoch, scaled to [0, 1]
            (math.log(1e-3), NOISE_DEVIATION),  # noise
        ]
        mean = np.array([length] * d + [m for m, _ in named] + [0.0] * (2 * numeric))
        deviation = np.array([0.5] * d + [s for _, s in named] + [WARP_DEVIATION] * (2 * numeric))
        return cls(mean, deviation)


#: A coordinate's length scale before any result, divided by the root of the number of dimensions.
LENGTH_SCALE = 0.62
#: Standard deviation of log noise in the prior: from no noise to a sixth of the whole variance.
NOISE_DEVIATION = 2.0
WARP_DEVIATION = 0.5  #: standard deviation, in the prior, of the logarithm of a warp's exponents


class _Kernel:
    """The covariance function at one set of hyperparameters.

    Args:
        columns: The form of the inputs.
        theta: Logarithms of the hyperparameters, in the order of `Prior.for_columns`.
    """

    def __init__(self, columns: Columns, theta: Array) -> None:
        d, numeric = columns.dimensions, int(columns.numeric.sum())
        self.columns = columns
        self.length = np.exp(theta[:d])[columns.dimension]
        self.v, self.w, self.l, self.noise = (float(x) for x in np.exp(theta[d : d + 4]))
        self.noise += _JITTER
        self.a, self.b = np.exp(theta[d + 4 :]).reshape(2, numeric)
        self._powers = np.ones((2, len(columns.numeric)))
        self._powers[:, columns.numeric] = self.a, self.b

    def scale_inputs(self, x: Array) -> Array:
        """Warp inputs of shape (n, columns), and divide them by the length scales."""
        u = np.minimum(np.maximum(x, _EDGE), 1 - _EDGE)
        a, b = self._powers
        return np.asarray((1 - (1 - u**a) ** b) / self.length)

    def compute_matern(
        self, p: Array, q: Array, out: Iterable[Array]
    ) -> tuple[Array, Array, Array]:
        """Compute Matern 5/2 of scaled inputs, root = sqrt(5) r, and exp(-root).

        The three results have shape (len(p), len(q)) and are written to the arrays of `out`.
        Allocating memory at this size costs more than the arithmetic (3.4 ms against 1.6).
        """
        matern, root, e = out
        np.matmul(p, -10 * q.T, out=matern)
        matern += 5 * (p * p).sum(axis=1)[:, None]
        matern += 5 * (q * q).sum(axis=1)
        np.abs(matern, out=matern)  # rounding may give a value below 0
        np.sqrt(matern, out=root)
        matern *= 1 / 3
        matern += root
        matern += 1
        np.exp(np.negative(root, out=e), out=e)
        matern *= e
        return matern, root, e

    def compute_epoch_factor(self, s: Array, t: Array) -> Array:
        """Compute the kernel's factor for log epochs s and t, times v; shape (len(s), len(t))."""
        e = np.exp((s[:, None] - t) ** 2 * (-0.5 / self.l**2))
        return np.asarray(self.v / (1 + self.w) * (1 + self.w * e))

    def compute_covariances(self, p: Array, s: Array, q: Array, t: Array) -> Array:
        """Compute covariances of f at scaled inputs, shape (len(p), len(q)).

        `s` has the length of `p`, or length 1 if all of `p` are at the same epoch.
        """
        matern, _, _ = self.compute_matern(p, q, np.empty((3, len(p), len(q))))
        matern *= self.compute_epoch_factor(s, t)
        return matern

    def approximate_covariances(self, p: Array, s: Array, q: Array, t: Array) -> Array:
        """Compute covariances in single precision, for comparing many candidates.

        NumPy's exp takes 9 ns for a double and 2 ns for a single on a processor without AVX-512.
        Distances are differences of larger numbers, so they are computed in double precision.
        """
        left = np.column_stack([p, 5 * (p * p).sum(axis=1), np.ones(len(p))])
        right = np.column_stack([-10 * q, np.ones(len(q)), 5 * (q * q).sum(axis=1)]).T
        time = self.compute_epoch_factor(s, t).astype(np.float32)
        covariances = np.empty((len(p), len(q)), np.float32)
        squares = np.empty((min(len(p), _BLOCK), len(q)))
        roots = np.empty_like(squares, np.float32)
        for first in range(0, len(p), _BLOCK):
            block = covariances[first : first + _BLOCK]
            square, root = squares[: len(block)], roots[: len(block)]
            block[...] = np.matmul(left[first : first + _BLOCK], right, out=square)
            np.sqrt(np.abs(block, out=block), out=root)
            block *= 1 / 3
            block += root
            block += 1
            block *= np.exp(np.negative(root, out=root), out=root)
            block *= time if len(s) == 1 else time[first : first + _BLOCK]
        return covariances


def fit(columns: Columns, x: Array, t: Array, y: Array, *, start: Array, steps: int) -> Array:
    """Find the hyperparameters' logarithms with the highest posterior density.

    Args:
        columns: The form of the inputs.
        x: Inputs, shape (n, columns).
        t: Logarithms of the epochs, in [0, 1], shape (n,).
        y: Objectives with mean 0 and standard deviation 1, shape (n,).
        start: First value of the search: the last fit's result, or the prior's mean.
        steps: Maximum number of iterations of L-BFGS-B.

    Returns:
        The new hyperparameters, or `start` if the covariances could not be factorised.
    """
    density = _NegativeLogPosterior(columns, x, t, y)
    prior = density.prior
    reach = _MAX_DEVIATIONS * prior.deviation
    optimum = minimize(
        density,
        np.clip(start, prior.mean - reach, prior.mean + reach),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(prior.mean - reach, prior.mean + reach, strict=True)),
        options={"maxiter": steps, "maxfun": 2 * steps},
    )
    return np.asarray(optimum.x) if optimum.fun < _SINGULAR_LOSS else start


_SINGULAR_LOSS = 1e10  #: value returned if the covariance matrix cannot be factorised


class _NegativeLogPosterior:
    """Negative log posterior density of the hyperparameters, up to a constant.

    With W = alpha alpha' - K^-1 and alpha = K^-1 y, the gradient is -1/2 sum_ij W_ij dK_ij
    (Rasmussen & Williams, 5.9). A sum of F_ij (p_i - p_j)^2 over all pairs is computed as two
    products, not with a matrix of differences for each column. There are few different epochs (the
    rungs), so terms that depend on epochs are first summed for each pair of rungs.
    """

    def __init__(self, columns: Columns, x: Array, t: Array, y: Array) -> None:
        self.prior = Prior.for_columns(columns)
        self._columns, self._x, self._y = columns, x, y
        rungs, rung_of_result = np.unique(t, return_inverse=True)
        self._gap = (rungs[:, None] - rungs) ** 2
        self._rungs = rungs
        self._on = (rung_of_result[:, None] == np.arange(len(rungs))).astype(float)  # (n, rungs)
        self._scratch = np.empty((5, len(y), len(y)))

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Negative log posterior density at `theta`, and its gradient."""
        columns, prior, x, y, on = self._columns, self.prior, self._x, self._y, self._on
        d, n = columns.dimensions, len(y)
        k = _Kernel(columns, theta)
        p = k.scale_inputs(x)
        matern, root, e = k.compute_matern(p, p, self._scratch[:3])
        over_time = k.compute_epoch_factor(self._rungs, self._rungs)
        time = np.matmul(on @ over_time, on.T, out=self._scratch[3])
        cov = np.multiply(matern, time, out=self._scratch[4])
        cov.flat[:: n + 1] += k.noise
        low, failed = lapack.dpotrf(cov.T, lower=1, overwrite_a=1)
        if failed:
            return _SINGULAR_LOSS, np.zeros_like(theta)
        alpha, _ = lapack.dpotrs(low, y, lower=1)
        z = (theta - prior.mean) / prior.deviation
        loss = 0.5 * float(y @ alpha) + float(np.log(np.diag(low)).sum()) + 0.5 * float(z @ z)

        inverse, _ = lapack.dpotri(low, lower=1, overwrite_c=1)  # lower half; zeros above
        weight = np.outer(alpha, alpha)
        weight -= inverse
        weight -= inverse.T
        weight.flat[:: n + 1] += np.diag(inverse)
        g = np.empty_like(theta)
        g[d + 3] = -0.5 * (k.noise - _JITTER) * float(np.trace(weight))
        matern *= weight
        pairs = on.T @ matern @ on
        se = np.exp(-0.5 * self._gap / k.l**2)
        share = k.w * k.v / (1 + k.w)
        g[d] = -0.5 * float(np.vdot(pairs, over_time))
        g[d + 1] = -0.5 * share * float(np.vdot(pairs, se - 1)) / (1 + k.w)
        g[d + 2] = -0.5 * share / k.l**2 * float(np.vdot(pairs, se * self._gap))

        # d matern / d (p_i - p_j)^2 = -5/6 (1 + root) exp(-root)
        weight *= time
        root += 1
        weight *= root
        weight *= e
        weight *= 5 / 3
        rows = weight.sum(axis=1)[:, None]
        pull = p * rows - weight @ p  # gradient of the loss with respect to the scaled inputs
        g[:d] = -np.bincount(columns.dimension, weights=(p * pull).sum(axis=0), minlength=d)

        u = np.clip(x[:, columns.numeric], _EDGE, 1 - _EDGE)
        u_a = u**k.a
        rest = 1 - u_a
        pull = pull[:, columns.numeric] * (k.b * rest**k.b / k.length[columns.numeric])
        numeric = len(k.a)
        g[d + 4 : d + 4 + numeric] = (pull * u_a * np.log(u) / rest).sum(axis=0) * k.a
        g[d + 4 + numeric :] = -(pull * np.log(rest)).sum(axis=0)
        g += z / prior.deviation
        return loss, g


class Posterior:
    """Posterior distribution of f after some results, at fixed hyperparameters.

    Results are added a few at a time; each addition appends a block to the Cholesky factor, in
    O(n^2). Pending results, of trials that still run, are added in the same way: their values are
    unknown, but knowing that they will come makes f more certain there. The latest inputs can be
    removed again at no cost.
    """

    def __init__(self, columns: Columns, theta: Array) -> None:
        self._kernel = _Kernel(columns, theta)
        self._n = 0
        self._inputs = np.empty((0, len(columns.dimension)))  # scaled; more than n rows fit
        self._times = np.empty(0)
        self._factor = np.empty((0, 0), order="F")  # only the lower half is read
        self._alpha = np.empty(0)

    def __len__(self) -> int:
        return self._n

    @property
    def noise(self) -> float:
        """Standard deviation of a result around f."""
        return math.sqrt(self._kernel.noise)

    def truncate(self, n: int) -> None:
        """Keep only the first n inputs; `condition_on` must be called again before predicting."""
        self._n = min(n, self._n)

    def add_inputs(self, x: Array, t: Array) -> None:
        """Add inputs of shape (m, columns) at log epochs t; `condition_on` sets their results."""
        k, n, m = self._kernel, self._n, len(t)
        end = n + m
        self._make_room(end)
        p = self._inputs[n:end] = k.scale_inputs(x)
        self._times[n:end] = t
        rows = k.compute_covariances(p, t, self._inputs[:end], self._times[:end])
        corner = rows[:, n:]
        corner.flat[:: m + 1] += k.noise
        if n:
            across = self._solve(rows[:, :n].T)
            self._factor[n:end, :n] = across.T
            corner = corner - across.T @ across
        self._factor[n:end, n:end] = np.linalg.cholesky(corner)
        self._n = end

    def add_pending(self, x: Array, t: Array) -> None:
        """Add inputs whose results are pending: the uncertainty shrinks, the mean stays."""
        self.add_inputs(x, t)
        weights = np.zeros(len(t))  # the weight of a result that is equal to its mean
        self._alpha = np.append(self._alpha, weights)

    def _make_room(self, n: int) -> None:
        room, used = len(self._times), self._n
        if n <= room:
            return
        room = max(n, 2 * room)
        factor = np.empty((room, room), order="F")
        factor[:used, :used] = self._factor[:used, :used]
        self._factor = factor
        self._inputs = np.resize(self._inputs, (room, self._inputs.shape[1]))
        self._times = np.resize(self._times, room)

    def condition_on(self, y: Array) -> Array:
        """Set the results y, shape (n,), of all inputs; return the posterior mean of f there."""
        self._alpha = self._solve(self._solve(y[:, None]), transposed=True)[:, 0]
        return np.asarray(y - self._kernel.noise * self._alpha)

    def predict_mean(self, x: Array, t: Array) -> tuple[Array, Array]:
        """Posterior mean of f, shape (m,), and the covariances with the results, shape (n, m)."""
        across = self._kernel.compute_covariances(
            self._kernel.scale_inputs(x), t, *self._added_inputs()
        ).T
        return np.asarray(self._alpha @ across), across

    def approximate_mean(self, x: Array, t: Array) -> tuple[Array, Array]:
        """`predict_mean` in single precision, at a fraction of its cost for many inputs."""
        across = self._kernel.approximate_covariances(
            self._kernel.scale_inputs(x), t, *self._added_inputs()
        ).T
        return np.asarray(self._alpha.astype(np.float32) @ across), across

    def predict_deviation(self, across: Array) -> Array:
        """Standard deviation of f at points that have these covariances with the results."""
        solved = self._solve(across)
        left = self._kernel.v - np.einsum("ij,ij->j", solved, solved)
        return np.asarray(np.sqrt(np.maximum(left, 1e-12)))

    def bound_deviation(self, across: Array) -> Array:
        """Upper bound of `predict_deviation`, from the nearest result; a tenth of the cost."""
        nearest = np.abs(across).max(axis=0)
        left = self._kernel.v - nearest**2 / (self._kernel.v + self._kernel.noise)
        return np.asarray(np.sqrt(np.maximum(left, 1e-12)))

    def _added_inputs(self) -> tuple[Array, Array]:
        return self._inputs[: self._n], self._times[: self._n]

    def _solve(self, across: Array, *, transposed: bool = False) -> Array:
        low = self._factor[:, : self._n]
        solved, failed = lapack.dtrtrs(low, across, lower=1, trans=int(transposed))
        assert not failed
        return np.asarray(solved)
