"""The limit: the matrix products of a step and nothing else, by NumPy's BLAS."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from benchmarks.contestants import Pool, Shape


class Contestant:
    """Three products a layer (two in the first, whose input needs no gradient)."""

    def __init__(self, shape: Shape, pool: Pool) -> None:
        rng = np.random.default_rng(1)
        widths = (*shape.widths[:-1], shape.outputs)
        self.batches = list(pool.x)
        self.weights = [rng.normal(size=pair).astype(np.float32) for pair in pairwise(widths)]
        self.gradients = [np.empty_like(weight) for weight in self.weights]
        self.a = [np.ones((shape.rows, width), np.float32) for width in widths]
        self.z = [np.empty_like(a) for a in self.a]
        self.da = [np.empty_like(a) for a in self.a]

    def run(self, steps: int) -> None:
        """Z = a W;  dW = a.T dz;  da = dz W.T."""
        a, z, da = self.a, self.z, self.da
        layers = list(enumerate(self.weights))
        for _ in range(steps // len(self.batches)):
            for a[0] in self.batches:
                for i, weight in layers:
                    np.dot(a[i], weight, out=z[i + 1])
                for i, weight in reversed(layers):
                    np.dot(a[i].T, a[i + 1], out=self.gradients[i])
                    if i > 0:
                        np.dot(a[i + 1], weight.T, out=da[i])
