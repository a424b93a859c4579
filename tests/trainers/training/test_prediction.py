from __future__ import annotations

import numpy as np
import pytest
import textbook_network as textbook
from trainer_examples import after, data_for, trainer

from trainers.errors import ConfigError, StateError
from trainers.network.losses import compute_probabilities
from trainers.network.network import predict
from trainers.training.trainer import select_weights


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_folded_prediction_equals_batch_norm_by_batch_norm(outputs: int, activation: str) -> None:
    data = data_for(outputs)
    trained = after(3, trainer({"activation": activation, "batch_size": 16}, data=data))
    w = select_weights(trained.state())
    folded = predict(w, data.x_validation, activation=activation, epsilon=1e-5)
    plain = textbook.predict(w, data.x_validation, activation=activation, epsilon=1e-5)
    np.testing.assert_allclose(folded, plain, rtol=1e-5, atol=1e-5)
    wide = {name: value.astype(np.float64) for name, value in w.items()}
    x = data.x_validation.astype(np.float64)
    folded = predict(wide, x, activation=activation, epsilon=1e-5)
    plain = textbook.predict(wide, x, activation=activation, epsilon=1e-5)
    np.testing.assert_allclose(folded, plain, rtol=1e-10, atol=1e-12)


def test_a_single_example_equals_its_row_in_a_batch() -> None:
    data = data_for(3)
    w = select_weights(after(2, trainer(data=data)).state())
    batch = predict(w, data.x_validation, activation="relu", epsilon=1e-5)
    for i in (0, 7, 39):
        alone = predict(w, data.x_validation[i : i + 1], activation="relu", epsilon=1e-5)
        # A product with one row runs in another kernel of BLAS, which adds in another order.
        np.testing.assert_allclose(alone[0], batch[i], rtol=1e-5, atol=1e-5)


def test_no_example_gives_no_output() -> None:
    data = data_for(3)
    w = select_weights(trainer(data=data).state())
    assert predict(w, data.x_train[:0], activation="relu", epsilon=1e-5).shape == (0, 3)


@pytest.mark.parametrize("outputs", [2, 3])
def test_prediction_agrees_with_the_classifiers_own_metrics(outputs: int) -> None:
    data = data_for(outputs)
    trained = trainer({"batch_size": 16}, data=data)
    for _ in range(3):
        metrics = trained.epoch()
    y, rows = data.y_validation, np.arange(len(data.y_validation))
    logits = predict(
        select_weights(trained.state()), data.x_validation, activation="relu", epsilon=1e-5
    )
    p = compute_probabilities(logits, outputs)
    assert metrics["validation_accuracy"] == pytest.approx((p.argmax(axis=1) == y).mean())
    assert metrics["validation_log_loss"] == pytest.approx(-np.log(p[rows, y]).mean(), rel=1e-6)


def test_prediction_agrees_with_the_regressors_own_metrics_in_natural_units() -> None:
    data = data_for(1)
    trained = trainer({"batch_size": 16}, data=data)
    for _ in range(3):
        metrics = trained.epoch()
    output = predict(
        select_weights(trained.state()), data.x_validation, activation="relu", epsilon=1e-5
    )
    natural = data.target_mean + data.target_scale * output[:, 0].astype(float)
    target = data.target_mean + data.target_scale * data.y_validation.astype(float)
    errors = natural - target
    assert metrics["validation_rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-6)
    assert metrics["validation_mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-6)
    r2 = 1 - (errors**2).sum() / ((target - target.mean()) ** 2).sum()
    assert metrics["validation_r2"] == pytest.approx(r2, rel=1e-6)


def test_wrong_input_to_a_prediction_is_an_error_that_says_what_is_needed() -> None:
    data = data_for(3)
    w = select_weights(trainer(data=data).state())
    with pytest.raises(StateError, match=r"\(N, 5\)"):
        predict(w, np.zeros((2, 4), np.float32), activation="relu", epsilon=1e-5)
    with pytest.raises(StateError, match=r"output\.bias"):
        predict(
            {k: v for k, v in w.items() if k != "output.bias"},
            data.x_train,
            activation="relu",
            epsilon=1e-5,
        )
    with pytest.raises(ConfigError, match="one of relu, tanh"):
        predict(w, data.x_train, activation="gelu", epsilon=1e-5)
