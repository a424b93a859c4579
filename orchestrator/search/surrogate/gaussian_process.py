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
        self._powers = np.ones((2, len(columns.bent)))
        self._powers[:, columns.bent] = self.a, self.b

    def scaled(self, x: Array) -> Array:
        """Inputs of shape (n, columns), bent and divided by the lengths."""
        u = np.minimum(np.maximum(x, _EDGE), 1 - _EDGE)
        a, b = self._powers
        return np.asarray((1 - (1 - u**a) ** b) / self.length)

    def matern(self, p: Array, q: Array, out: Iterable[Array]) -> tuple[Array, Array, Array]:
        """Matern 5/2 of scaled inputs; and root = sqrt(5) r, exp(-root); each (len(p), len(q)).

        They are written to the three arrays of `out`: at this size it is the operating
        system's handing out of memory that costs, not the arithmetic (3.4 ms against 1.6).
        """
        matern, root, e = out
        np.matmul(p, -10 * q.T, out=matern)
        matern += 5 * (p * p).sum(axis=1)[:, None]
        matern += 5 * (q * q).sum(axis=1)
        np.abs(matern, out=matern)  # rounding may have gone below 0
        np.sqrt(matern, out=root)
        matern *= 1 / 3
        matern += root
        matern += 1
        np.exp(np.negative(root, out=e), out=e)
        matern *= e
        return matern, root, e

    def over_time(self, s: Array, t: Array) -> Array:
        """The part of the logarithms of the epochs, times v; shape (len(s), len(t))."""
        e = np.exp((s[:, None] - t) ** 2 * (-0.5 / self.l**2))
        return np.asarray(self.v / (1 + self.w) * (1 + self.w * e))

    def between(self, p: Array, s: Array, q: Array, t: Array) -> Array:
        """The covariances of f at scaled inputs, shape (len(p), len(q)); s may be one for all."""
        matern, _, _ = self.matern(p, q, np.empty((3, len(p), len(q))))
        matern *= self.over_time(s, t)
        return matern

    def glance(self, p: Array, s: Array, q: Array, t: Array) -> Array:
        """`between` in single precision, for the many that are compared.

        NumPy's exp of doubles takes 9 ns where a processor has no AVX-512, of singles 2. The
        distances are differences of larger numbers, so they are taken in double.
        """
        left = np.column_stack([p, 5 * (p * p).sum(axis=1), np.ones(len(p))])
        right = np.column_stack([-10 * q, np.ones(len(q)), 5 * (q * q).sum(axis=1)]).T
        time = self.over_time(s, t).astype(np.float32)
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
    evidence = _Evidence(columns, x, t, y)
    prior = evidence.prior
    reach = _WIDTH * prior.width
    found = minimize(
        evidence,
        np.clip(start, prior.mean - reach, prior.mean + reach),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(prior.mean - reach, prior.mean + reach, strict=True)),
        options={"maxiter": steps, "maxfun": 2 * steps},
    )
    return np.asarray(found.x) if found.fun < _IMPOSSIBLE else start


_IMPOSSIBLE = 1e10  #: the loss where the covariances cannot be factorised


class _Evidence:
    """Minus the logarithm of the posterior density of hyperparameters, up to a constant.

    With W = alpha alpha' - K^-1, alpha = K^-1 y, the gradient is -1/2 sum_ij W_ij dK_ij (Rasmussen
    & Williams, 5.9). A sum of F_ij (p_i - p_j)^2 over all pairs is taken as two products instead of
    a matrix of differences for each column; and as there are few different epochs (the rungs), what
    hangs on them is summed per pair of rungs first.
    """

    def __init__(self, columns: Columns, x: Array, t: Array, y: Array) -> None:
        self.prior = Prior.of(columns)
        self._columns, self._x, self._y = columns, x, y
        rungs, place = np.unique(t, return_inverse=True)
        self._gap = (rungs[:, None] - rungs) ** 2
        self._rungs = rungs
        self._on = (place[:, None] == np.arange(len(rungs))).astype(float)  # (n, rungs)
        self._scratch = np.empty((5, len(y), len(y)))

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """It and its gradient."""
        columns, prior, x, y, on = self._columns, self.prior, self._x, self._y, self._on
        d, n = columns.dimensions, len(y)
        k = _Kernel(columns, theta)
        p = k.scaled(x)
        matern, root, e = k.matern(p, p, self._scratch[:3])
        over_time = k.over_time(self._rungs, self._rungs)
        time = np.matmul(on @ over_time, on.T, out=self._scratch[3])
        cov = np.multiply(matern, time, out=self._scratch[4])
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
    come makes f more certain there. The latest can be forgotten again at no cost.
    """

    def __init__(self, columns: Columns, theta: Array) -> None:
        self._kernel = _Kernel(columns, theta)
        self._n = 0
        self._inputs = np.empty((0, len(columns.dimension)))  # scaled; room for more than n
        self._times = np.empty(0)
        self._factor = np.empty((0, 0), order="F")  # only its lower half is ever read
        self._alpha = np.empty(0)

    def __len__(self) -> int:
        return self._n

    @property
    def noise(self) -> float:
        """The standard deviation of a result around f."""
        return math.sqrt(self._kernel.noise)

    def forget(self, n: int) -> None:
        """Know the first n results alone; `observe` has to say again what came of them."""
        self._n = min(n, self._n)

    def add(self, x: Array, t: Array) -> None:
        """Take in inputs of shape (m, columns) at epochs t; `observe` says what came of them."""
        k, n, m = self._kernel, self._n, len(t)
        upto = n + m
        self._make_room(upto)
        p = self._inputs[n:upto] = k.scaled(x)
        self._times[n:upto] = t
        rows = k.between(p, t, self._inputs[:upto], self._times[:upto])
        corner = rows[:, n:]
        corner.flat[:: m + 1] += k.noise
        if n:
            across = self._solved(rows[:, :n].T)
            self._factor[n:upto, :n] = across.T
            corner = corner - across.T @ across
        self._factor[n:upto, n:upto] = np.linalg.cholesky(corner)
        self._n = upto

    def imagine(self, x: Array, t: Array) -> None:
        """Add what is to come, as if it came out as expected: only the uncertainty changes."""
        self.add(x, t)
        self._alpha = np.append(self._alpha, np.zeros(len(t)))  # what is expected pulls at nothing

    def _make_room(self, n: int) -> None:
        room, have = len(self._times), self._n
        if n <= room:
            return
        room = max(n, 2 * room)
        factor = np.empty((room, room), order="F")
        factor[:have, :have] = self._factor[:have, :have]
        self._factor = factor
        self._inputs = np.resize(self._inputs, (room, self._inputs.shape[1]))
        self._times = np.resize(self._times, room)

    def observe(self, y: Array) -> Array:
        """The results at all that was added, shape (n,); and back what f is taken for there."""
        self._alpha = self._solved(self._solved(y[:, None]), transposed=True)[:, 0]
        return np.asarray(y - self._kernel.noise * self._alpha)

    def mean(self, x: Array, t: Array) -> tuple[Array, Array]:
        """The expectation of f, shape (m,), and the covariances with the results, (n, m)."""
        across = self._kernel.between(self._kernel.scaled(x), t, *self._known()).T
        return np.asarray(self._alpha @ across), across

    def glance(self, x: Array, t: Array) -> tuple[Array, Array]:
        """`mean` in single precision, at a fraction of its cost for many inputs."""
        across = self._kernel.glance(self._kernel.scaled(x), t, *self._known()).T
        return np.asarray(self._alpha.astype(np.float32) @ across), across

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

    def _known(self) -> tuple[Array, Array]:
        return self._inputs[: self._n], self._times[: self._n]

    def _solved(self, across: Array, *, transposed: bool = False) -> Array:
        low = self._factor[:, : self._n]
        solved, failed = lapack.dtrtrs(low, across, lower=1, trans=int(transposed))
        assert not failed
        return np.asarray(solved)
