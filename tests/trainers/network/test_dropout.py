from __future__ import annotations

import numpy as np

from trainers.network.dropout import Dropout


def test_dropout_keeps_the_expectation_and_drops_its_share() -> None:
    ones, gradient = np.ones((400, 500), np.float32), np.ones((400, 500), np.float32)
    dropout = Dropout(ones, gradient, dropped_share=0.3)
    dropout.rng = np.random.default_rng(6)
    for each in dropout.forward:
        each()
    out = dropout.output
    # 200 000 draws: the standard error is 0.001, six of them are a false alarm in 5e8.
    assert abs(float((out == 0).mean()) - 0.3) < 0.0062
    np.testing.assert_allclose(np.unique(out), [0.0, 1 / 0.7], rtol=1e-6)
    for each in dropout.backward:
        each()
    assert (gradient == out).all()
