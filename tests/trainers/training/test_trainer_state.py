from __future__ import annotations

import copy
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, load_file, save
from trainer_examples import after, blobs, data_for, digest, trainer, waves

from trainers.errors import StateError
from trainers.network.arrays import State

OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")


def through_flat_arrays(state: State) -> dict[str, Any]:
    """What is left of a state in a format that has arrays and strings only."""
    strings = {key: value for key, value in state.items() if isinstance(value, str)}
    arrays = {key: np.asarray(value) for key, value in state.items() if key not in strings}
    return {**load(save(arrays)), **strings}


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_five_epochs_a_saved_state_and_five_more_are_ten_bit_for_bit(
    optimizer: str, outputs: int
) -> None:
    config = {
        "optimizer": optimizer,
        "dropout": 0.3,
        "weight_decay": 1e-3,
        "schedule": "cosine",
        "batch_size": 16,
        "batchnorm_decay": 0.99,
    }
    data = data_for(outputs)
    through = after(10, trainer(config, data=data))
    halfway = after(5, trainer(config, data=data)).state()
    restore_trainer = trainer(config, data=data, seed=99)
    restore_trainer.load(through_flat_arrays(halfway))
    assert digest(restore_trainer.state()) == digest(halfway)
    assert digest(after(5, restore_trainer).state()) == digest(through.state())
    assert restore_trainer.epoch() == through.epoch()


@given(
    epochs=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    optimizer=st.sampled_from(OPTIMIZERS),
    batch_size=st.integers(2, 70),
    dropout=st.sampled_from([0.0, 0.3]),
    activation=st.sampled_from(["relu", "tanh"]),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_however_often_a_run_is_saved_and_loaded_it_ends_with_the_same_bits(
    epochs: list[int], optimizer: str, batch_size: int, dropout: float, activation: str
) -> None:
    config = {
        "optimizer": optimizer,
        "batch_size": batch_size,
        "dropout": dropout,
        "activation": activation,
        "units_1": 9,
        "units_2": 5,
        "weight_decay": 0.01,
        "schedule": "exponential",
        "schedule_rate": 0.1,
    }
    data = data_for(3)
    state = trainer(config, data=data).state()
    for count in epochs:
        fresh = trainer(config, data=data, seed=7)
        fresh.load(through_flat_arrays(state))
        state = after(count, fresh).state()
    assert digest(state) == digest(after(sum(epochs), trainer(config, data=data)).state())


def test_a_run_that_moves_from_process_to_process_ends_with_the_same_bits(tmp_path: Path) -> None:
    config = {"batch_size": 16, "dropout": 0.2, "weight_decay": 0.01, "activation": "tanh"}
    code = (
        "import sys\n"
        "from trainer_examples import *\n"
        "from safetensors.numpy import load_file, save_file\n"
        f"trained = trainer({config!r}, data=blobs(), seed=5)\n"
        "if sys.argv[1]:\n"
        "    trained.load({**load_file(sys.argv[1]), 'optimizer.name': 'adam'})\n"
        "state = after(int(sys.argv[3]), trained).state()\n"
        "state.pop('optimizer.name')\n"
        "save_file({key: np.asarray(value) for key, value in state.items()}, sys.argv[2])\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    before = ""
    for step, epochs in enumerate((1, 3, 2)):
        saved = str(tmp_path / f"{step}.safetensors")
        words = [sys.executable, "-c", code, before, saved, str(epochs)]
        subprocess.run(words, env=environment, check=True)
        before = saved
    moved = trainer(config, data=blobs())
    moved.load({**load_file(before), "optimizer.name": "adam"})
    through = after(6, trainer(config, data=blobs(), seed=5))
    assert digest(moved.state()) == digest(through.state())


@pytest.mark.parametrize("rate", [1e38, 1e3])
def test_a_state_loaded_after_an_epoch_that_broke_off_is_followed_by_the_same_bits(
    rate: float,
) -> None:
    data, config = blobs(), {"batch_size": 16}
    trained = after(1, trainer(config, data=data))
    good = trained.state()
    trained.adjust({"learning_rate": rate})
    trained.epoch()
    trained.adjust({"learning_rate": 1e-3})
    trained.load(good)
    fresh = trainer(config, data=data)
    fresh.load(good)
    assert trained.epoch() == fresh.epoch()
    assert digest(trained.state()) == digest(fresh.state())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copy_of_a_trainer_goes_on_like_the_trainer(copied: Callable[[Any], Any]) -> None:
    trained = after(2, trainer({"batch_size": 16, "dropout": 0.1}, data=blobs()))
    other = copied(trained)
    assert digest(after(3, other).state()) == digest(after(3, trained).state())


@pytest.mark.parametrize("value", [2.7, math.nan, -3])
def test_a_state_with_a_count_that_is_none_is_an_error(value: float) -> None:
    state = trainer(data=blobs()).state()
    with pytest.raises(StateError, match=r"trainer\.steps.*whole number"):
        trainer(data=blobs()).load({**state, "trainer.steps": value})


def test_a_state_is_flat_and_free_of_pickles() -> None:
    state = after(1, trainer({"layers": 1, "units_1": 7}, data=blobs())).state()
    names = {"weight", "gamma", "beta", "running_mean", "running_variance"}
    expected = {f"layer_1.{name}" for name in names} | {"output.weight", "output.bias"}
    assert {key for key in state if not key.startswith(("optimizer.", "trainer."))} == expected
    for value in state.values():
        assert isinstance(value, (np.ndarray, float, int, str, bytes))
        assert not isinstance(value, np.ndarray) or value.dtype != np.object_
    weight = state["layer_1.weight"]
    assert isinstance(weight, np.ndarray)
    assert weight.shape == (5, 7)


def test_a_state_does_not_change_when_training_goes_on() -> None:
    trained = after(1, trainer(data=blobs()))
    state = trained.state()
    before = digest(state)
    after(2, trained)
    assert digest(state) == before


def test_a_loaded_state_does_not_change_when_training_goes_on() -> None:
    state = after(1, trainer(data=blobs())).state()
    before = digest(state)
    restore_trainer = trainer(data=blobs())
    restore_trainer.load(state)
    after(2, restore_trainer)
    assert digest(state) == before


def test_same_seed_same_bits_and_another_seed_others() -> None:
    config = {"dropout": 0.2, "batch_size": 16}
    first, second, other = (
        digest(after(3, trainer(config, data=blobs(), seed=seed)).state()) for seed in (1, 1, 2)
    )
    assert first == second != other


def test_start_shuffling_and_dropout_use_streams_of_their_own() -> None:
    plain = trainer({"batch_size": 16}, data=blobs())
    dropped = trainer({"batch_size": 16, "dropout": 0.5, "learning_rate": 0.0}, data=blobs())
    still = trainer({"batch_size": 16, "learning_rate": 0.0}, data=blobs())
    assert digest(plain.state()) == digest(dropped.state())
    # Without a step the first layer's batch statistics show the shuffling alone.
    a, b = (np.asarray(after(2, t).state()["layer_1.running_mean"]) for t in (dropped, still))
    assert (a == b).all()


def test_another_process_with_another_hash_seed_reaches_the_same_bits() -> None:
    config = {"dropout": 0.2, "batch_size": 16}
    code = (
        "from trainer_examples import *\n"
        f"print(digest(after(3, trainer({config!r}, data=blobs(), seed=5)).state()))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONHASHSEED": "123",
    }
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == digest(after(3, trainer(config, data=blobs(), seed=5)).state())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"units_1": 9}, r"layer_1\.weight.*\(5, 9\)"),
        ({"layers": 3}, r"layer_3\.weight"),
        ({"layers": 1}, r"more than 1|output\.weight"),
        ({"optimizer": "sgd"}, "optimizer 'adam'"),
    ],
)
def test_a_state_of_another_configuration_is_an_error_and_changes_nothing(
    config: dict[str, object], message: str
) -> None:
    state = after(1, trainer(data=blobs())).state()
    other = trainer(config, data=blobs(), seed=4)
    before = digest(other.state())
    with pytest.raises(StateError, match=message):
        other.load(state)
    assert digest(other.state()) == before


def test_a_state_of_another_dtype_is_an_error() -> None:
    state = trainer(data=waves(dtype="float64")).state()
    with pytest.raises(StateError, match="float32"):
        trainer(data=waves()).load(state)


def test_a_state_without_a_key_is_an_error_that_names_it() -> None:
    state = trainer(data=blobs()).state()
    del state["trainer.epochs"]
    with pytest.raises(StateError, match=r"trainer\.epochs"):
        trainer(data=blobs()).load(state)


def test_the_largest_seed_survives_a_state() -> None:
    seed = 2**63 - 1
    restore_trainer = trainer(data=blobs())
    restore_trainer.load(through_flat_arrays(trainer(data=blobs(), seed=seed).state()))
    assert restore_trainer.state()["trainer.seed"] == seed
