"""JAX: the whole step under jit, and a scan over the batches."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contestants import DECAY, EPSILON, Pool, Shape, Split

Tree = Any


def start(shape: Shape) -> Tree:
    """Parameters, running statistics, Adam's two moments, and the count of steps."""
    rng = np.random.default_rng(1)
    layers = []
    for inputs, units in zip(shape.widths[:-1], shape.widths[1:], strict=True):
        weight = rng.normal(0, np.sqrt(2 / inputs), (inputs, units)).astype(np.float32)
        layers.append(
            {"weight": jnp.asarray(weight), "beta": jnp.zeros(units), "gamma": jnp.ones(units)}
        )
    statistics = [(jnp.zeros(units), jnp.ones(units)) for units in shape.widths[1:-1]]
    zeros = jax.tree.map(jnp.zeros_like, layers)
    return layers, statistics, zeros, jax.tree.map(jnp.zeros_like, layers), jnp.float32(0)


def loss(layers: Tree, statistics: Tree, x: Tree, y: Tree) -> Tree:
    """Mean cross-entropy and the new running statistics."""
    a, renewed = x, []
    for layer, (mean, variance) in zip(layers[:-1], statistics, strict=True):
        z = a @ layer["weight"]
        m = z.mean(0)
        v = jnp.square(z - m).mean(0)
        normal = (z - m) * jax.lax.rsqrt(v + EPSILON)
        a = jax.nn.relu(normal * layer["gamma"] + layer["beta"])
        unbiased = v * (len(x) / (len(x) - 1))
        renewed.append((DECAY * mean + (1 - DECAY) * m, DECAY * variance + (1 - DECAY) * unbiased))
    logits = jax.nn.log_softmax(a @ layers[-1]["weight"] + layers[-1]["beta"])
    return -jnp.take_along_axis(logits, y[:, None], 1).mean(), renewed


def step(carry: Tree, batch: Tree) -> Tree:
    """Take one step of Adam."""
    layers, statistics, m, v, t = carry
    value_and_gradient = jax.value_and_grad(loss, has_aux=True)
    (value, statistics), gradient = value_and_gradient(layers, statistics, *batch)
    t = t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
    rate, correction = 1e-3 / (1 - 0.9**t), 1 / (1 - 0.999**t)
    layers = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v * correction) + 1e-8), layers, m, v
    )
    return (layers, statistics, m, v, t), value


@partial(jax.jit, donate_argnums=0)
def train(carry: Tree, x: Tree, y: Tree) -> Tree:
    """Train on all batches, shape (batches, rows, D), one after the other."""
    return jax.lax.scan(step, carry, (x, y))


@jax.jit
def evaluate(layers: Tree, statistics: Tree, x: Tree, y: Tree) -> Tree:
    """Accuracy and mean cross-entropy with the running statistics."""
    a = x
    for layer, (mean, variance) in zip(layers[:-1], statistics, strict=True):
        normal = (a @ layer["weight"] - mean) * jax.lax.rsqrt(variance + EPSILON)
        a = jax.nn.relu(normal * layer["gamma"] + layer["beta"])
    logits = jax.nn.log_softmax(a @ layers[-1]["weight"] + layers[-1]["beta"])
    return (logits.argmax(1) == y).mean(), -jnp.take_along_axis(logits, y[:, None], 1).mean()


class Contestant:
    """JAX after compiling; the time of compiling is in `compile_seconds`."""

    def __init__(self, shape: Shape, pool: Pool) -> None:
        self.x, self.y = jnp.asarray(pool.x), jnp.asarray(pool.y.astype(np.int32))
        self.carry = start(shape)
        began = time.perf_counter()
        self.train = train.lower(self.carry, self.x, self.y).compile()
        self.compile_seconds = time.perf_counter() - began

    def run(self, steps: int) -> None:
        """Train on all batches of the pool in one call."""
        for _ in range(steps // len(self.x)):
            self.carry, losses = self.train(self.carry, self.x, self.y)
        jax.block_until_ready(losses)

    @staticmethod
    def trial(shape: Shape, split: Split, epochs: int) -> float:
        """Train without the last, shorter batch of an epoch, which would be compiled again."""
        carry, whole = start(shape), len(split.x) // shape.rows * shape.rows
        x, y = split.x, split.y.astype(np.int32)  # NumPy gathers rows faster than jnp does
        seen = jnp.asarray(split.x_validation)
        truth = jnp.asarray(split.y_validation.astype(np.int32))
        rng, accuracy = np.random.default_rng(0), 0.0
        for _ in range(epochs):
            order = rng.permutation(len(x))[:whole].reshape(-1, shape.rows)
            carry, _ = train(carry, x[order], y[order])
            accuracy, cross_entropy = evaluate(carry[0], carry[1], seen, truth)
            accuracy, _ = float(accuracy), float(cross_entropy)
        return accuracy
