"""The real trainers against 200 steps of PyTorch; what it ran stands in recordings/record.py."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trainer_examples import Trainer, trainer

from trainers.network.arrays import Array, State
from trainers.network.backprop import Backprop
from trainers.training.data import Data
from trainers.training.random_streams import make_generator
from trainers.training.trainer import select_weights

with np.load(Path(__file__).parents[1] / "recordings" / "pytorch.npz") as file:
    RECORDED = dict(file)
ABOUT = json.loads(str(RECORDED["about"]))
CASES, EPOCHS, SEED = ABOUT["cases"], ABOUT["epochs"], ABOUT["seed"]
PARAMETERS = (".weight", ".gamma", ".beta", ".bias")

#: How far rounding may lead apart in 200 steps, relative. PyTorch's own losses in float32 lie up to
#: 5e-7 from those in float64.
CLOSE = {"float32": 1e-5, "float64": 1e-9}

every_case = pytest.mark.parametrize("name", CASES)
both_dtypes = pytest.mark.parametrize("dtype", CLOSE)


class Replay:
    """What our trainer makes of a case: the loss of each step and each epoch, and the end."""

    def __init__(self, name: str, dtype: str) -> None:
        trained = started(name, dtype)
        self.losses: list[float] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Backprop, "__call__", self._noting(Backprop.__call__))
            self.train_losses = [trained.epoch()["train_loss"] for _ in range(EPOCHS)]
        self._end = select_weights(trained.state())

    def _noting(self, step: Callable[..., float]) -> Callable[..., float]:
        def noted(*arguments: object) -> float:
            self.losses.append(step(*arguments))
            return self.losses[-1]

        return noted

    def end(self, endings: str | tuple[str, ...]) -> Array:
        """The arrays after the last step whose name ends so, one after the other."""
        return np.concatenate([v.ravel() for k, v in self._end.items() if k.endswith(endings)])


replay = functools.cache(Replay)


def data_of(name: str, dtype: str) -> Data:
    case = CASES[name]
    outputs, rows = case["outputs"], case["rows"]
    x, y = RECORDED["x"][:rows].astype(dtype), RECORDED[f"y_{outputs}"][:rows]
    task = "regression" if outputs == 1 else "classification"
    y = y.astype(dtype) if outputs == 1 else y
    return Data(task=task, outputs=outputs, x_train=x, y_train=y, x_validation=x, y_validation=y)


def started(name: str, dtype: str) -> Trainer:
    """The trainer of a case with PyTorch's start weights in it."""
    trained = trainer(
        CASES[name]["config"], data=data_of(name, dtype), seed=SEED, max_epochs=EPOCHS
    )
    state: State = trained.state()
    start, first = RECORDED[f"{name}/start"].astype(dtype), 0
    for key, value in select_weights(state).items():
        if key.endswith(PARAMETERS):
            state[key] = start[first : first + value.size].reshape(value.shape)
            first += value.size
    assert first == start.size
    trained.load(state)
    return trained


def relative_distance(got: Array, wanted: Array) -> float:
    """Norm of the difference over the norm."""
    assert got.dtype == wanted.dtype
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def test_a_seed_orders_an_epoch_as_it_did_for_the_recordings() -> None:
    # If this fails, so do all others here: with another order they are other runs. NumPy may change
    # permutation in a new version; then record again.
    order = make_generator(SEED, "shuffle").permutation(len(RECORDED["order"]))
    np.testing.assert_array_equal(order, RECORDED["order"])


@both_dtypes
@every_case
def test_the_loss_of_every_step_is_that_of_pytorch(name: str, dtype: str) -> None:
    wanted = RECORDED[f"{name}/{dtype}/losses"]
    assert len(wanted) == 200
    np.testing.assert_allclose(replay(name, dtype).losses, wanted, rtol=CLOSE[dtype], atol=0)


@both_dtypes
@every_case
def test_the_train_loss_of_an_epoch_is_pytorchs_mean_over_the_examples(
    name: str, dtype: str
) -> None:
    losses = RECORDED[f"{name}/{dtype}/losses"].reshape(EPOCHS, -1)
    batch_size, rows = CASES[name]["config"]["batch_size"], CASES[name]["rows"]
    full = losses.shape[1] - 1
    wanted = np.average(losses, axis=1, weights=[batch_size] * full + [rows - full * batch_size])
    np.testing.assert_allclose(replay(name, dtype).train_losses, wanted, rtol=CLOSE[dtype], atol=0)


@both_dtypes
@every_case
def test_the_final_weights_are_those_of_pytorch(name: str, dtype: str) -> None:
    wanted = RECORDED[f"{name}/{dtype}/weights"]
    assert relative_distance(replay(name, dtype).end(PARAMETERS), wanted) < CLOSE[dtype]


@both_dtypes
@every_case
def test_the_running_statistics_are_those_of_pytorch(name: str, dtype: str) -> None:
    # The two rules differ in how the first batches are averaged. The recordings have a decay of
    # 0.8, whose 200th power is 4e-20, or PyTorch's plain mean, where both rules are the same.
    for part in ("mean", "variance"):
        wanted = RECORDED[f"{name}/{dtype}/{part}s"]
        assert relative_distance(replay(name, dtype).end(f"running_{part}"), wanted) < CLOSE[dtype]
