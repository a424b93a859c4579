"""The plain version of everything the trainers do fast: the oracle of their tests.

Formulas as the papers have them, one expression a line, new arrays everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trainers.network.arrays import Array

Named = dict[str, Array]


def batchnorm_forward(
    z: Array, gamma: Array, beta: Array, epsilon: float
) -> tuple[Array, dict[str, Any]]:
    """Ioffe & Szegedy 2015, Algorithm 1."""
    mean = z.mean(axis=0)
    variance = ((z - mean) ** 2).mean(axis=0)
    normalised = (z - mean) / np.sqrt(variance + epsilon)
    cache = {
        "z": z,
        "mean": mean,
        "variance": variance,
        "normalised": normalised,
        "gamma": gamma,
        "epsilon": epsilon,
    }
    return gamma * normalised + beta, cache


def batchnorm_backward(dy: Array, cache: dict[str, Any]) -> tuple[Array, Array, Array]:
    """The six derivatives of Ioffe & Szegedy 2015, section 3, in the paper's order."""
    m = len(dy)
    centred = cache["z"] - cache["mean"]
    spread = cache["variance"] + cache["epsilon"]
    d_normalised = dy * cache["gamma"]
    d_variance = (d_normalised * centred * -0.5 * spread**-1.5).sum(axis=0)
    d_mean = (-d_normalised / np.sqrt(spread)).sum(axis=0)
    d_mean = d_mean + d_variance * (-2.0 * centred).sum(axis=0) / m
    dz = d_normalised / np.sqrt(spread) + d_variance * 2.0 * centred / m + d_mean / m
    d_gamma = (dy * cache["normalised"]).sum(axis=0)
    d_beta = dy.sum(axis=0)
    return dz, d_gamma, d_beta


def loss_and_output_gradient(p: Array, y: Array, outputs: int) -> tuple[float, Array]:
    """Mean loss and its gradient by the network's output; `outputs` is 1 for regression."""
    n = len(p)
    if outputs == 1:
        return float(0.5 * ((p[:, 0] - y) ** 2).mean()), (p - y[:, None]) / n
    if outputs == 2:
        q = 1.0 / (1.0 + np.exp(-p[:, 0]))
        loss = -(y * np.log(q) + (1 - y) * np.log(1 - q)).mean()
        return float(loss), (q - y)[:, None] / n
    q = np.exp(p) / np.exp(p).sum(axis=1, keepdims=True)
    one_hot = np.arange(outputs) == y[:, None]
    return float(-np.log(q[one_hot]).mean()), (q - one_hot) / n


def train_pass(
    w: Named, x: Array, y: Array, *, outputs: int, activation: str, epsilon: float
) -> tuple[float, Named, list[dict[str, Any]]]:
    """Loss, gradients by name, and each hidden layer's batch norm cache."""
    layers = sum(name.endswith(".gamma") for name in w)
    inputs, activated, caches = [], [], []
    a = x
    for i in range(1, layers + 1):
        inputs.append(a)
        y_norm, cache = batchnorm_forward(
            a @ w[f"layer_{i}.weight"], w[f"layer_{i}.gamma"], w[f"layer_{i}.beta"], epsilon
        )
        a = np.maximum(y_norm, 0) if activation == "relu" else np.tanh(y_norm)
        activated.append(a)
        caches.append(cache)
    loss, d = loss_and_output_gradient(a @ w["output.weight"] + w["output.bias"], y, outputs)
    gradients = {"output.weight": a.T @ d, "output.bias": d.sum(axis=0)}
    da = d @ w["output.weight"].T
    for i in range(layers, 0, -1):
        a = activated[i - 1]
        dy = da * (a > 0) if activation == "relu" else da * (1 - a**2)
        dz, d_gamma, d_beta = batchnorm_backward(dy, caches[i - 1])
        gradients[f"layer_{i}.gamma"], gradients[f"layer_{i}.beta"] = d_gamma, d_beta
        gradients[f"layer_{i}.weight"] = inputs[i - 1].T @ dz
        da = dz @ w[f"layer_{i}.weight"].T
    return loss, gradients, caches


def predict(w: Named, x: Array, *, activation: str, epsilon: float) -> Array:
    """Test-time outputs, batch norm by batch norm, nothing folded."""
    a = x
    for i in range(1, sum(name.endswith(".gamma") for name in w) + 1):
        z = a @ w[f"layer_{i}.weight"]
        z = (z - w[f"layer_{i}.running_mean"]) / np.sqrt(w[f"layer_{i}.running_variance"] + epsilon)
        y = w[f"layer_{i}.gamma"] * z + w[f"layer_{i}.beta"]
        a = np.maximum(y, 0) if activation == "relu" else np.tanh(y)
    outputs: Array = a @ w["output.weight"] + w["output.bias"]
    return outputs


class Optimizer:
    """The update rules, each as its source writes it, on one array."""

    def __init__(self, name: str) -> None:
        self.name, self.t = name, 0
        self.m = self.v = np.zeros(())

    def updated(self, p: Array, g: Array, rate: float) -> Array:
        self.t += 1
        if self.name == "sgd":
            return p - rate * g
        if self.name == "momentum":
            self.v = 0.9 * self.v + 0.1 * g
            return p - rate * self.v
        if self.name == "rmsprop":
            self.v = 0.9 * self.v + 0.1 * g**2
            return p - rate * g / (np.sqrt(self.v) + 1e-8)
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        m_hat = self.m / (1 - 0.9**self.t)
        v_hat = self.v / (1 - 0.999**self.t)
        step: Array = rate * m_hat / (np.sqrt(v_hat) + 1e-8)
        return p - step
