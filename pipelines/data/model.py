"""The best model on disk: all that `caviar predict` needs, without pickles."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load, save

from orchestrator.errors import RunError
from orchestrator.search.messages import State
from orchestrator.search.trial import Incumbent
from orchestrator.space.domains import Config
from orchestrator.store.checkpoints import to_tensors
from orchestrator.store.files import remove_file
from orchestrator.store.run_files import check_files
from pipelines.data.best_folder import BestFiles, read_best, write_best
from pipelines.data.builtin_trainers import is_builtin_trainer
from pipelines.data.datasets import read_features
from pipelines.data.encode import decode_target, encode_features, encode_target
from pipelines.data.intervals import Interval, compute_intervals
from pipelines.data.preprocessing import Preprocessing
from trainers.network.losses import compute_probabilities
from trainers.network.network import predict
from trainers.training.evaluation import Evaluation
from trainers.training.metrics import compute_metrics, list_metrics
from trainers.training.settings import read_settings
from trainers.training.trainer import select_weights

__all__ = ["Model", "load_model", "read_best_identity", "save_model"]

logger = logging.getLogger("caviar.data.model")
#: Files of best/ beside config.yaml. The preprocessing of a run does not change, so a new model
#: replaces one file alone.
_FILES = ("preprocessing.json", "model.safetensors")
#: What parsing raises where the content is not what `save_model` wrote.
_DAMAGE = (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def save_model(
    folder: Path,
    best: Incumbent,
    *,
    state: State,
    config: Config,
    trainer: str,
    preprocessing: Preprocessing,
) -> None:
    """Write best/: preprocessing, weights, and the config, which names trial, epoch and digests.

    An exported model.onnx belongs to the model before this one, so it is removed. The whole state
    of a user's trainer is written, but only the weights of one of ours.
    """
    remove_file(folder / "model.onnx")
    arrays, rest = to_tensors(select_weights(state) if is_builtin_trainer(trainer) else state)
    contents = (
        json.dumps(preprocessing.to_json(), indent=1).encode(),
        save(arrays, {"rest": json.dumps(rest)}),
    )
    write_best(
        folder,
        dict(zip(_FILES, contents, strict=True)),
        {"trial": best.trial, "epoch": best.epoch, "trainer": trainer, "config": dict(config)},
    )


def read_best_identity(folder: Path) -> tuple[int, int] | None:
    """Read (trial, epoch) of the model in best/, or None if there is no whole model."""
    try:
        best = read_best(folder, _FILES)
        if is_builtin_trainer(best.content["trainer"]):
            _build_model(folder, best)
        else:
            _parse_files(best)
        return int(best.content["trial"]), int(best.content["epoch"])
    except (OSError, RunError, *_DAMAGE):
        return None


def _parse_files(best: BestFiles) -> tuple[Any, dict[str, np.ndarray]]:
    """Parse the preprocessing and the weights."""
    preprocessing, weights = (best.files[name] for name in _FILES)
    return json.loads(preprocessing), load(weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained network with its preprocessing, which takes rows as they stand in a file."""

    weights: Mapping[str, np.ndarray]  #: arrays of the trainer's state that a prediction needs
    config: Config  #: hyperparameters of the trial
    preprocessing: Preprocessing  #: how columns and target become numbers
    trial: int  #: trial that the model is from
    epoch: int  #: epoch of the trial after which the weights were taken
    notes: tuple[str, ...] = ()  #: what a person should know about the files, in words

    def compute_outputs(self, x: np.ndarray) -> np.ndarray:
        """Compute (N, classes) probabilities or (N,) standardised values for prepared rows."""
        raw = self._compute_raw(x)
        if self.preprocessing.task == "regression":
            values: np.ndarray = raw[:, 0]
            return values
        return compute_probabilities(raw, len(self.preprocessing.classes))

    def predict(self, source: str) -> tuple[pd.DataFrame, dict[str, float]]:
        """Predict the rows of a file, and compute the metrics if the file has the target, too."""
        p = self.preprocessing
        features, target = read_features(source, p.columns, p.target_name)
        x = encode_features(p, features)
        out = self.compute_outputs(x)
        if p.task == "regression":
            frame = pd.DataFrame({"prediction": decode_target(p, out)})
        else:
            frame = pd.DataFrame({"prediction": decode_target(p, out.argmax(axis=1))})
            for i, name in enumerate(p.classes):
                frame[f"probability_{name}"] = out[:, i].astype(np.float64)
        if target is None:
            return frame, {}
        has_target = target.notna().to_numpy()
        if not has_target.any():
            return frame, {}
        return frame, self.evaluate(x[has_target], encode_target(p, target[has_target]))

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """Compute the metrics of the task for prepared rows; errors are in the target's unit."""
        return compute_metrics(self.preprocessing.task, self._make_evaluation(x, y))

    def compute_intervals(self, x: np.ndarray, y: np.ndarray) -> dict[str, Interval]:
        """Compute the low and the high end of each metric's 95 % interval."""
        metrics = list_metrics(self.preprocessing.task)
        return compute_intervals(metrics, self._make_evaluation(x, y))

    def _make_evaluation(self, x: np.ndarray, y: np.ndarray) -> Evaluation:
        p = self.preprocessing
        return Evaluation(
            outputs=self._compute_raw(x),
            targets=y,
            classes=p.outputs,
            block_rows=len(y),
            target_scale=p.target_scale,
        )

    def _compute_raw(self, x: np.ndarray) -> np.ndarray:
        settings = read_settings(self.config)
        return predict(
            self.weights, x, activation=settings.activation, epsilon=settings.batchnorm_epsilon
        )


def load_model(folder: str | Path) -> Model:
    """Load the model in best/; no other folder is read.

    Raises:
        RunError: If the model is not there, not whole, mixed with another one, or of a trainer that
            is not ours.
    """
    folder = Path(folder)
    check_files(folder)
    try:
        best = read_best(folder, _FILES)
        if not is_builtin_trainer(best.content["trainer"]):
            raise RunError(
                f"{folder}: predict needs a model of our own trainer, got one of "
                f"{best.content['trainer']}; load model.safetensors with that trainer's load()"
            )
        return _build_model(folder, best)
    except OSError as e:
        raise RunError(
            f"{folder}: needs the run's best model, but {Path(str(e.filename)).name} cannot be "
            f"read: {e.strerror}; `caviar show` says whether the run has one"
        ) from e
    except _DAMAGE as e:
        raise RunError(
            f"{folder}: the model is damaged ({e}); `caviar resume` makes it anew"
        ) from e


def _build_model(folder: Path, best: BestFiles) -> Model:
    """Build a model of ours from its files, and check that they fit together.

    Raises:
        RunError, and what is in `_DAMAGE`: If they do not.
    """
    content = best.content
    tables, weights = _parse_files(best)
    config = dict(content["config"])
    read_settings(config)  # a hyperparameter that no network can have is damage, too
    model = Model(
        weights=weights,
        config=config,
        preprocessing=Preprocessing.from_json(tables),
        trial=int(content["trial"]),
        epoch=int(content["epoch"]),
        notes=_list_notes(folder, best),
    )
    _check_consistency(model)
    return model


def _check_consistency(model: Model) -> None:
    """Predict one empty row: weights, preprocessing and hyperparameters must fit together.

    Raises:
        ValueError: If they do not. What NumPy and pandas raise on the way is in `_DAMAGE`.
    """
    p = model.preprocessing
    is_regression = p.task == "regression"
    if not is_regression and (p.task != "classification" or len(set(p.classes)) < 2):
        raise ValueError("preprocessing.json needs a task, and classes for a classification")
    if not all(isinstance(name, str) for name in (p.target_name, *p.columns)) or not p.columns:
        raise ValueError("preprocessing.json needs names of columns and of the target")
    empty = pd.DataFrame({name: [None] for name in p.columns}, dtype=object)
    with np.errstate(all="ignore"):
        out = model.compute_outputs(encode_features(p, empty))
    if out.shape != ((1,) if is_regression else (1, len(p.classes))):
        raise ValueError(f"the network has outputs of shape {out.shape}")
    decode_target(p, out if is_regression else out.argmax(axis=1))


def _list_notes(folder: Path, best: BestFiles) -> tuple[str, ...]:
    if best.has_digests:
        return ()
    note = (
        f"{folder}: an older version of caviar wrote this model without digests, so nothing "
        f"proves that its files belong together"
    )
    logger.warning("%s", note)
    return (note,)
