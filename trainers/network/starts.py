"""Start weights: the distributions that a weight matrix is drawn from before training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from trainers.hyperparameters import Choice
from trainers.network.arrays import Array

__all__ = ["STARTS"]

#: Draws a matrix of the given shape (inputs, outputs) in float64.
Draw: TypeAlias = Callable[[np.random.Generator, tuple[int, int]], Array]

#: The distributions that a configuration can name under `start`.
STARTS: Choice[Draw] = Choice("start", default="he")


@STARTS.add("he")
def draw_he(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Draw from a normal with variance 2 / inputs, which keeps the variance through relu.

    He et al. 2015, eq. 10, arXiv:1502.01852.
    """
    return rng.normal(0.0, math.sqrt(2.0 / shape[0]), shape)


@STARTS.add("xavier")
def draw_xavier(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Draw uniformly from +-sqrt(6 / (inputs + outputs)).

    Glorot & Bengio 2010, eq. 16, PMLR 9:249.
    """
    bound = math.sqrt(6.0 / sum(shape))
    return rng.uniform(-bound, bound, shape)
