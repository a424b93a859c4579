"""A Gaussian process over configurations and epochs: what the results so far say about the rest.

    k((x, t), (x', t')) = v * matern(r) * (1 + w * exp(-(t - t')^2 / 2 l^2)) / (1 + w)

with r the distance of two configurations, each coordinate divided by a length of its own, and t the
logarithm of the epoch in [0, 1]. So two configurations that are alike have curves that are alike,
and the epochs of one curve agree with each other the more the closer they are. Rasmussen & Williams
2006, "Gaussian Processes for Machine Learning", chapters 2 and 5 and section 4.2 (Matern 5/2);
multi-fidelity with one kernel over both as Swersky, Snoek & Adams 2013, arXiv:1406.3896, has it.

Each coordinate is bent before distances are taken, w = 1 - (1 - u^a)^b (Kumaraswamy's distribution
function, in place of the beta distribution of Snoek et al. 2014, arXiv:1402.0929): a response that
is steep at one end of a range, as it is where a scale was chosen badly, becomes even.

The hyperparameters (lengths, v, w, l, noise, a, b) are those of the highest posterior density,
found by L-BFGS-B on the exact gradient. Arrays in, arrays out: nothing here knows of trials.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

__all__ = ["Columns", "Posterior", "Prior", "fit"]

_ROOT5 = math.sqrt(5.0)
_JITTER = 1e-5  #: of the unit variance, added to the noise: keeps the factorisation stable
_EDGE = 1e-6  #: u is kept this far from 0 and 1, where the bending has no finite slope
_BLOCK = 64  #: rows of covariances worked out at a time, so that they stay in the cache
_WIDTH = 2.5  #: hyperparameters stay within so many standard deviations of their prior's middle

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of the inputs belongs to which dimension, and which are bent.

    A number is one column in [0, 1]; a choice of k options is k columns with one 1 / sqrt(2) in
    them, so that two different options are 1 apart. The columns of a dimension share a length.
    """

    dimension: Array  #: shape (columns,), whole numbers from 0, rising
    bent: Array  #: shape (columns,), the columns that hold a number

    @property
    def dimensions(self) -> int:
        """How many lengths there are."""
        return int(self.dimension[-1]) + 1 if len(self.dimension) else 0


@dataclass(frozen=True, slots=True)
class Prior:
    """Where each hyperparameter's logarithm is expected: normal, with these means and widths.

    benchmarks/search_constants.py measures what they bring. The lengths grow with the root of the
    number of dimensions, as the distance of two random points does (Hvarfner, Hellsten & Nardi
    2024, arXiv:2402.02229).
    """

    mean: Array
    width: Array

    @classmethod
    def of(cls, columns: Columns) -> Prior:
        """The prior for inputs of this form."""
        d, bent = columns.dimensions, int(columns.bent.sum())
        length = math.log(LENGTH * math.sqrt(max(d, 1)))
        named = [  # of the logarithm: mean, width
            (0.0, 1.0),  # v, of objectives with a standard deviation of 1
            (math.log(0.5), 1.0),  # w
            (math.log(0.5), 0.7),  # l, of the logarithm of the epoch in [0, 1]
            (math.log(1e-3), NOISE),  # noise
        ]
        mean = np.array([length] * d + [m for m, _ in named] + [0.0] * (2 * bent))
        width = np.array([0.5] * d + [s for _, s in named] + [BENT] * (2 * bent))
        return cls(mean, width)


LENGTH = 0.62  #: of a coordinate, before any result, times the root of the number of dimensions
NOISE = 2.0  #: width of the noise's prior: from none to a sixth of all the variance there is
BENT = 0.5  #: width of the prior of the exponents that bend a coordinate


class _Kernel:
    """The kernel at one set of hyperparameters (their logarithms, in the order of `Prior.of`)."""

    def __init__(self, columns: Columns, theta: Array) -> None:
        d, bent = columns.dimensions, int(columns.bent.sum())
        self.columns = columns
        self.length = np.exp(theta[:d])[columns.dimension]
        self.v, self.w, self.l, self.noise = (float(x) for x in np.exp(theta[d : d + 4]))
        self.noise += _JITTER
        self.a, self.b = np.exp(theta[d + 4 :]).reshape(2, bent)

    def scaled(self, x: Array) -> Array:
        """Inputs of shape (n, columns), bent and divided by the lengths."""
        scaled = x.copy()
        u = np.clip(x[:, self.columns.bent], _EDGE, 1 - _EDGE)
        scaled[:, self.columns.bent] = 1 - (1 - u**self.a) ** self.b
        scaled /= self.length
        return scaled

    def matern(self, p: Array, q: Array, out: Iterable[Array]) -> tuple[Array, Array, Array]:
        """Matern 5/2 of scaled inputs; and root = sqrt(5) r, exp(-root); each (len(p), len(q)).

        They are written to the three arrays of `out`: at this size it is the operating
        system's handing out of memory that costs, not the arithmetic (3.4 ms against 1.6).
        """
        matern, root, e = out
        np.matmul(p, -2 * q.T, out=matern)
        matern += (p * p).sum(axis=1)[:, None]
        matern += (q * q).sum(axis=1)
        np.maximum(matern, 0.0, out=matern)
        matern *= 5.0
        np.sqrt(matern, out=root)
        matern /= 3
        matern += root
        matern += 1
        np.exp(np.negative(root, out=e), out=e)
        matern *= e
        return matern, root, e

    def over_time(self, s: Array, t: Array, out: Array | None = None) -> tuple[Array, Array]:
        """The part of the logarithms of the epochs, times v, and its squared exponential."""
        gap = np.subtract(s[:, None], t, out=None if out is None else out[0])
        gap *= gap
        gap *= -0.5 / self.l**2
        e = np.exp(gap, out=gap)
        share = self.v / (1 + self.w)
        time = np.multiply(e, self.w * share, out=None if out is None else out[1])
        time += share
        return time, e

    def between(self, p: Array, s: Array, q: Array, t: Array) -> Array:
        """The covariances of f at scaled inputs, shape (len(p), len(q)); s may be one for all."""
        covariances = np.empty((len(p), len(q)))
        scratch = np.empty((2, min(len(p), _BLOCK), len(q)))
        for first in range(0, len(p), _BLOCK):
            rows = slice(first, first + _BLOCK)
            block = covariances[rows]
            self.matern(p[rows], q, out=(block, *scratch[:, : len(block)]))
            block *= self.over_time(s if len(s) == 1 else s[rows], t)[0]
        return covariances


def fit(columns: Columns, x: Array, t: Array, y: Array, *, start: Array, steps: int) -> Array:
    """The hyperparameters' logarithms at the highest posterior density, from `start` on.

    Args:
        columns: The form of the inputs.
        x: Inputs, shape (n, columns).
        t: Logarithms of the epochs, in [0, 1], shape (n,).
        y: Objectives with mean 0 and standard deviation 1, shape (n,).
        start: Where to begin: the last fit's result, or the prior's mean.
        steps: At most so many iterations of L-BFGS-B.

    Returns:
        The new hyperparameters; `start` where none were better.
    """
    prior = Prior.of(columns)
    reach = _WIDTH * prior.width
    scratch = np.empty((6, len(y), len(y)))
    found = minimize(
        lambda theta: _loss(columns, prior, theta, x, t, y, scratch),
        np.clip(start, prior.mean - reach, prior.mean + reach),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(prior.mean - reach, prior.mean + reach, strict=True)),
        options={"maxiter": steps, "maxfun": 2 * steps},
    )
    return np.asarray(found.x) if found.fun < _IMPOSSIBLE else start


_IMPOSSIBLE = 1e10  #: the loss where the covariances cannot be factorised


def _loss(
    columns: Columns, prior: Prior, theta: Array, x: Array, t: Array, y: Array, scratch: Array
) -> tuple[float, Array]:
    """Minus the logarithm of the posterior density, up to a constant, and its gradient.

    With W = alpha alpha' - K^-1, alpha = K^-1 y, the gradient is -1/2 sum_ij W_ij dK_ij (Rasmussen
    & Williams, 5.9). A sum of F_ij (p_i - p_j)^2 over all pairs is taken as two products instead of
    a matrix of differences for each column.
    """
    d, n = columns.dimensions, len(y)
    k = _Kernel(columns, theta)
    p = k.scaled(x)
    matern, root, e = k.matern(p, p, scratch[:3])
    time, se = k.over_time(t, t, scratch[3:5])
    cov = np.multiply(matern, time, out=scratch[5])
    cov.flat[:: n + 1] += k.noise
    low, failed = lapack.dpotrf(cov.T, lower=1, overwrite_a=1)
    if failed:
        return _IMPOSSIBLE, np.zeros_like(theta)
    alpha, _ = lapack.dpotrs(low, y, lower=1)
    off = (theta - prior.mean) / prior.width
    loss = 0.5 * float(y @ alpha) + float(np.log(np.diag(low)).sum()) + 0.5 * float(off @ off)

    inverse, _ = lapack.dpotri(low, lower=1, overwrite_c=1)  # its lower half, clean = 0 above
    weight = np.outer(alpha, alpha)
    weight -= inverse
    weight -= inverse.T
    weight.flat[:: n + 1] += np.diag(inverse)
    g = np.empty_like(theta)
    g[d + 3] = -0.5 * (k.noise - _JITTER) * float(np.trace(weight))
    matern *= weight
    g[d] = -0.5 * float(np.vdot(matern, time))
    share = k.w * k.v / (1 + k.w)
    matern_se = np.multiply(matern, se, out=se)
    g[d + 1] = -0.5 * share * float(matern_se.sum() - matern.sum()) / (1 + k.w)
    gap = np.subtract(t[:, None], t, out=matern)
    gap *= gap
    g[d + 2] = -0.5 * share / k.l**2 * float(np.vdot(matern_se, gap))

    # d matern / d (p_i - p_j)^2 = -5/6 (1 + root) exp(-root)
    weight *= time
    root += 1
    weight *= root
    weight *= e
    weight *= 5 / 3
    rows = weight.sum(axis=1)[:, None]
    pull = p * rows - weight @ p  # the loss's gradient in the scaled inputs
    g[:d] = -np.bincount(columns.dimension, weights=(p * pull).sum(axis=0), minlength=d)

    u = np.clip(x[:, columns.bent], _EDGE, 1 - _EDGE)
    u_a = u**k.a
    rest = 1 - u_a
    pull = pull[:, columns.bent] * (k.b * rest**k.b / k.length[columns.bent])
    bent = len(k.a)
    g[d + 4 : d + 4 + bent] = (pull * u_a * np.log(u) / rest).sum(axis=0) * k.a
    g[d + 4 + bent :] = -(pull * np.log(rest)).sum(axis=0)
    g += off / prior.width
    return loss, g


class Posterior:
    """What is known of f after some results, at fixed hyperparameters.

    Results are added a few at a time (a block of the Cholesky factor each, O(n^2)), and so are
    stand-ins for results that are still to come: what they will be is not known, but that they will
    come makes f more certain there.
    """

    def __init__(self, columns: Columns, theta: Array) -> None:
        self._kernel = _Kernel(columns, theta)
        width = len(columns.dimension)
        self._p, self._t = np.empty((0, width)), np.empty(0)
        self._low = np.empty((0, 0))
        self._y = self._alpha = np.empty(0)

    def __len__(self) -> int:
        return len(self._t)

    def copy(self) -> Posterior:
        """A second one, to add to without changing the first."""
        return copy.copy(self)  # its arrays are replaced, never written to

    def add(self, x: Array, t: Array) -> None:
        """Take in inputs of shape (m, columns) at epochs t; `observe` says what came of them."""
        k, n, m = self._kernel, len(self._t), len(t)
        p = k.scaled(x)
        low = np.zeros((n + m, n + m), order="F")
        low[:n, :n] = self._low
        corner = k.between(p, t, p, t)
        corner.flat[:: m + 1] += k.noise
        if n:
            across = self._solved(self._across(p, t))
            low[n:, :n] = across.T
            corner -= across.T @ across
        low[n:, n:] = np.linalg.cholesky(corner)
        self._low, self._p, self._t = low, np.vstack([self._p, p]), np.append(self._t, t)

    def observe(self, y: Array) -> None:
        """The results at all that was added, shape (n,)."""
        self._y = y
        self._alpha, _ = lapack.dpotrs(self._low, y, lower=1)

    def imagine(self, x: Array, t: Array) -> None:
        """Add what is to come, as if it came out as expected: only the uncertainty changes."""
        expected, _ = self.mean(x, t)
        self.add(x, t)
        self.observe(np.append(self._y, expected))

    def mean(self, x: Array, t: Array) -> tuple[Array, Array]:
        """The expectation of f, shape (m,), and the covariances with the results, (n, m)."""
        across = self._across(self._kernel.scaled(x), t)
        return np.asarray(self._alpha @ across), across

    def deviation(self, across: Array) -> Array:
        """The standard deviation of f at points with these covariances with the results."""
        solved = self._solved(across)
        left = self._kernel.v - np.einsum("ij,ij->j", solved, solved)
        return np.asarray(np.sqrt(np.maximum(left, 1e-12)))

    def deviation_at_most(self, across: Array) -> Array:
        """An upper bound of `deviation` at a tenth of its cost: from the nearest result alone."""
        nearest = np.abs(across).max(axis=0)
        left = self._kernel.v - nearest**2 / (self._kernel.v + self._kernel.noise)
        return np.asarray(np.sqrt(np.maximum(left, 1e-12)))

    def _across(self, p: Array, t: Array) -> Array:
        """Covariances of the results with scaled inputs, (n, m), laid out as LAPACK has it."""
        return self._kernel.between(p, t, self._p, self._t).T

    def _solved(self, across: Array) -> Array:
        solved, _ = lapack.dtrtrs(self._low, across, lower=1)
        return np.asarray(solved)
