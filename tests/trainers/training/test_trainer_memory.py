from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from trainers.network.backprop import Backprop, Workspace
from trainers.network.batchnorm import RunningStatistics
from trainers.network.losses import choose_loss
from trainers.network.network import Network
from trainers.network.row_broadcast import shorten_buffer
from trainers.training.data import Data
from trainers.training.optimizers import make_optimizer, prepare_weight_decay
from trainers.training.settings import read_settings
from trainers.training.trainer import BatchNormClassifier

#: Rows, units, classes: the smallest array of a step has so many numbers, 6,400 bytes.
SIZE = 800
#: What a step may take for views, numbers and, once in a while, notes on a few batches.
SMALL = 6000


def peak_of(action: Callable[[], object]) -> int:
    """Bytes by which memory rose at most while `action` ran."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        action()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("config", "classes"),
    [
        ({"optimizer": "adam"}, SIZE),
        ({"optimizer": "rmsprop", "weight_decay": 0.1}, SIZE),
        ({"optimizer": "momentum", "activation": "tanh"}, 2),
        ({"optimizer": "sgd", "dropout": 0.5}, 1),
    ],
)
def test_a_step_allocates_nothing_once_its_buffers_are_there(
    config: dict[str, object], classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunningStatistics, "_ROOM", 4)  # settled within the steps below
    settings = read_settings(config)
    loss = choose_loss("regression" if classes == 1 else "classification", classes)
    network = Network((SIZE, SIZE, SIZE, classes if classes > 2 else 1), dtype=np.float64)
    network.draw(np.random.default_rng(0), "he")
    backprop = Backprop(
        network,
        rows=SIZE,
        loss=loss,
        activation=settings.activation,
        epsilon=1e-5,
        dropout=settings.dropout,
    )
    count = network.weight_count
    decay = prepare_weight_decay(network.gradient[:count], network.parameters[:count], 0.1)
    optimizer = make_optimizer(
        settings.optimizer, settings.numbers, network.parameters, network.gradient
    )
    x, y = np.random.default_rng(1).normal(size=(SIZE, SIZE)), np.zeros((1, SIZE), int)
    targets = loss.make_targets(y, np.full((1, SIZE), 1 / SIZE), classes)[0]

    def step() -> None:
        backprop(x, targets)
        network.statistics.add(rows=SIZE, decay=0.9, epsilon=1e-5)
        for each in decay if settings.weight_decay else []:
            each()
        optimizer.step(0.01)

    with shorten_buffer():
        step()
        assert max(peak_of(step) for _ in range(6)) < SMALL


def test_a_network_trains_in_four_times_its_parameters_and_three_activations() -> None:
    widths, rows = (200, 400, 300, 10), 64
    parameters = sum(a * b for a, b in pairwise(widths)) + 2 * 700 + 10
    x = np.random.default_rng(0).normal(size=(rows * 4, 200)).astype(np.float32)
    y = np.arange(rows * 4) % 10
    data = Data(
        task="classification",
        outputs=10,
        x_train=x,
        y_train=y,
        x_validation=x,
        y_validation=y,
    )
    config = {"units_1": 400, "units_2": 300, "batch_size": rows, "weight_decay": 0.1}
    trained: list[BatchNormClassifier] = []

    def train() -> None:
        trained.append(BatchNormClassifier(config, seed=0, data=data, max_epochs=2))
        trained[0].epoch()

    built = peak_of(train)
    # Parameters, gradients, two moments, and the folded weights of the evaluation: with the best
    # epoch, which whoever asks for a state keeps, that makes P more than the five.
    activations = 3 * rows * (400 + 300)
    scratch = 64 * 2 * 700 + 2 * 32_768  # statistics of 64 batches, and weight decay's
    shuffled = x.size + 10 * len(x)
    assert built < 4 * (5 * parameters + activations + scratch + shuffled) * 1.1
    assert peak_of(trained[0].epoch) < 4 * (parameters + shuffled) * 1.1


def test_every_second_layer_has_the_same_gradient_and_no_neighbours_have() -> None:
    workspace = Workspace((5, 8, 4, 6, 3), rows=10, dtype=np.float32)
    gradients = [workspace.view_layer(i, rows=10, units=u)[2] for i, u in enumerate((8, 4, 6))]
    assert np.shares_memory(gradients[0], gradients[2])
    assert not np.shares_memory(gradients[0], gradients[1])
    kept = [
        buffer
        for i, u in enumerate((8, 4, 6))
        for buffer in workspace.view_layer(i, rows=7, units=u)[:2]
    ]
    assert not any(
        np.shares_memory(a, b) for i, a in enumerate(kept) for b in [*kept[:i], *gradients]
    )
