"""The best model on disk: all that predict needs, and nothing that is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from safetensors import SafetensorError
from safetensors.numpy import load, save

from orchestrator.errors import RunError
from orchestrator.search.events import Interval
from orchestrator.search.messages import State
from orchestrator.search.trial import Incumbent
from orchestrator.space.domains import Config
from orchestrator.store.checkpoints import to_tensors
from orchestrator.store.files import atomic_write
from pipelines.data.builtin_trainers import is_builtin_trainer
from pipelines.data.datasets import read_features
from pipelines.data.intervals import bootstrap_intervals
from pipelines.data.preprocessing import Preprocessing, apply, decode_target, encode_target
from trainers.network.losses import probabilities
from trainers.network.network import predict
from trainers.training.metrics import (
    accuracy_and_log_loss,
    classification_sums,
    regression_errors,
    regression_sums,
)
from trainers.training.settings import read_settings
from trainers.training.trainer import weights

__all__ = ["Model", "load_model", "read_best_identity", "save_model"]


def save_model(
    folder: Path,
    best: Incumbent,
    *,
    state: State,
    config: Config,
    trainer: str,
    preprocessing: Preprocessing,
) -> None:
    """Write best/: weights, config, preprocessing. The config names trial and epoch, and is last.

    An exported model.onnx is of the model before this one, so it goes.
    A trainer of the user's own is kept with its whole state; ours with its weights alone.
    """
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").unlink(missing_ok=True)  # until the rest fits it
    (folder / "model.onnx").unlink(missing_ok=True)
    arrays, rest = to_tensors(weights(state) if is_builtin_trainer(trainer) else state)
    with atomic_write(folder / "model.safetensors") as file:
        file.write(save(arrays, {"rest": json.dumps(rest)}))
    with atomic_write(folder / "preprocessing.json") as file:
        file.write(json.dumps(preprocessing.to_json(), indent=1).encode())
    content = {
        "trial": best.trial,
        "epoch": best.epoch,
        "trainer": trainer,
        "config": dict(config),
    }
    with atomic_write(folder / "config.yaml") as file:
        file.write(yaml.safe_dump(content, sort_keys=False).encode())


def read_best_identity(folder: Path) -> tuple[int, int] | None:
    """(trial, epoch) of the model in best/, or None if there is no whole one."""
    try:
        load((folder / "model.safetensors").read_bytes())
        json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
        content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        return int(content["trial"]), int(content["epoch"])
    except (OSError, SafetensorError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained network with its preprocessing, ready for rows as they stand in a file."""

    weights: Mapping[str, np.ndarray]
    config: Config
    preprocessing: Preprocessing
    trial: int
    epoch: int

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """What the network gives for prepared rows: (N, classes) probabilities, or (N,) values."""
        raw = self._raw(x)
        if self.preprocessing.task == "regression":
            values: np.ndarray = raw[:, 0]
            return values
        return probabilities(raw, len(self.preprocessing.classes))

    def predict(self, source: str) -> tuple[pd.DataFrame, dict[str, float]]:
        """Predictions for the rows of a file, and the figures if it has the target too."""
        p = self.preprocessing
        features, target = read_features(source, p.columns, p.target_name)
        x = apply(p, features)
        out = self.outputs(x)
        if p.task == "regression":
            frame = pd.DataFrame({"prediction": decode_target(p, out)})
        else:
            frame = pd.DataFrame({"prediction": decode_target(p, out.argmax(axis=1))})
            for i, name in enumerate(p.classes):
                frame[f"probability_{name}"] = out[:, i].astype(np.float64)
        if target is None:
            return frame, {}
        known = target.notna().to_numpy()
        if not known.any():
            return frame, {}
        return frame, self.figures(x[known], encode_target(p, target[known]))

    def figures(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """Accuracy and log_loss, or rmse, mae and r2 in the target's own unit."""
        return self._figures(self._raw(x), y)

    def intervals(self, x: np.ndarray, y: np.ndarray) -> dict[str, Interval]:
        """The low and the high end of each of its figures' 95 % interval."""
        return bootstrap_intervals(self._figures, self._raw(x), y)

    def _figures(self, raw: np.ndarray, y: np.ndarray) -> dict[str, float]:
        p = self.preprocessing
        if p.task == "regression":
            rmse, mae, r2 = regression_errors(regression_sums(raw, y), y, scale=p.target_scale)
            return {"rmse": rmse, "mae": mae, "r2": r2}
        sums = classification_sums(raw, y, outputs=len(p.classes))
        accuracy, log_loss = accuracy_and_log_loss(sums, examples=len(y))
        return {"accuracy": accuracy, "log_loss": log_loss}

    def _raw(self, x: np.ndarray) -> np.ndarray:
        settings = read_settings(self.config)
        return predict(
            self.weights, x, activation=settings.activation, epsilon=settings.batchnorm_epsilon
        )


def load_model(folder: str | Path) -> Model:
    """The model in best/; reads only that folder.

    Raises:
        RunError: If it is not there, not whole, or of a trainer that is not ours.
    """
    folder = Path(folder)
    try:
        content: dict[str, Any] = yaml.safe_load(
            (folder / "config.yaml").read_text(encoding="utf-8")
        )
        tensors = load((folder / "model.safetensors").read_bytes())
        tables = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
        if not is_builtin_trainer(content["trainer"]):
            raise RunError(
                f"{folder}: predict needs a model of our own trainer, got one of "
                f"{content['trainer']}; load model.safetensors with that trainer's load()"
            )
        return Model(
            weights=tensors,
            config=content["config"],
            preprocessing=Preprocessing.from_json(tables),
            trial=content["trial"],
            epoch=content["epoch"],
        )
    except OSError as e:
        raise RunError(
            f"{folder}: needs the run's best model, but {Path(str(e.filename)).name} cannot be "
            f"read: {e.strerror}; `caviar show` says whether the run has one"
        ) from e
    except (SafetensorError, yaml.YAMLError, ValueError, KeyError, TypeError) as e:
        raise RunError(
            f"{folder}: the model is damaged ({e}); `caviar resume` makes it anew"
        ) from e
