"""PyTorch trains small networks for 200 steps each; `pytorch.npz` keeps what came out.

    python tests/trainers/recordings/record.py

Needs torch, which the tests that read the file do not. From `trainers` come only the order of an
epoch's rows and the names of the settings: the model, the losses, the optimizers, the schedules and
the cut into batches are PyTorch's own.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer, lr_scheduler

from trainers.network.arrays import Array
from trainers.training.random_streams import make_generator
from trainers.training.settings import Settings, read_settings

FILE = Path(__file__).with_name("pytorch.npz")
ROWS, COLUMNS, CLASSES = 80, 8, 5
EPOCHS, SEED = 40, 0  # an epoch has five batches; the seed orders their rows
PARAMETERS = (".weight", ".gamma", ".beta", ".bias")

#: All that a run depends on, so that another default of ours changes no recording.
COMMON: dict[str, Any] = {
    "batch_size": 16,
    "layers": 2,
    "units_1": 12,
    "units_2": 9,
    "activation": "relu",
    "schedule": "constant",
    "schedule_rate": 0.04,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "momentum_beta": 0.9,
    "rmsprop_decay": 0.9,
    "rmsprop_epsilon": 1e-8,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    # After 200 batches 0.8**200 = 4e-20 is left of how the first were averaged, see
    # `trainers.network.batchnorm.RunningStatistics`: the two rules then agree to the last digit.
    "batchnorm_decay": 0.8,
    "batchnorm_epsilon": 1e-5,
}
RATES = {"sgd": 0.05, "momentum": 0.05, "rmsprop": 0.005, "adam": 0.01}
SCHEDULES = {"sgd": "inverse", "momentum": "exponential", "rmsprop": "cosine", "adam": "inverse"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One network to train, and on which data."""

    name: str
    config: dict[str, Any]
    outputs: int = CLASSES  #: number of classes, or 1 for regression
    rows: int = ROWS

    @property
    def settings(self) -> Settings:
        """`config`, typed."""
        return read_settings(self.config)

    @property
    def widths(self) -> list[int]:
        """Of x, the hidden layers and the output, which is one logit for two classes."""
        return [COLUMNS, *self.settings.units, self.outputs if self.outputs > 2 else 1]


def cases() -> Iterator[Case]:
    """Each optimizer with and without both decays, and one of each other kind."""
    for optimizer, weight_decay, falling in product(RATES, (0.0, 0.02), (False, True)):
        parts = [optimizer, *["weight_decay"] * (weight_decay > 0)]
        changes: dict[str, Any] = {"weight_decay": weight_decay}
        if falling:
            parts.append(SCHEDULES[optimizer])
            changes["schedule"] = SCHEDULES[optimizer]
        yield _case("-".join(parts), optimizer, **changes)
    yield _case("two_classes-adam", "adam", outputs=2, weight_decay=0.02, schedule="exponential")
    yield _case("regression-momentum", "momentum", outputs=1, weight_decay=0.02, schedule="cosine")
    yield _case("tanh-rmsprop", "rmsprop", activation="tanh", weight_decay=0.02)
    yield _case("tanh-sgd", "sgd", activation="tanh", schedule="exponential")
    yield _case("three_layers-momentum", "momentum", layers=3, units_3=7)
    yield _case("short_last_batch-adam", "adam", rows=70, weight_decay=0.02, schedule="cosine")
    # Slower than 200 batches: ours is then the plain mean, PyTorch's momentum=None.
    yield _case("mean_statistics-adam", "adam", batchnorm_decay=0.999)
    yield _case("mean_statistics_short_last_batch-sgd", "sgd", rows=70, batchnorm_decay=0.999)


def _case(
    name: str, optimizer: str, *, outputs: int = CLASSES, rows: int = ROWS, **changes: Any
) -> Case:
    chosen = {"optimizer": optimizer, "learning_rate": RATES[optimizer]}
    return Case(name=name, config=COMMON | chosen | changes, outputs=outputs, rows=rows)


def data() -> dict[str, Array]:
    """x and, by number of outputs, the targets: too noisy to be learnt by heart in 40 epochs.

    A loss near 0 is a difference of rounded logits, with few digits left.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, COLUMNS))
    scores = x[:, :CLASSES] + 2.0 * rng.normal(size=(ROWS, CLASSES))
    numbers = np.sin(2.0 * x[:, 0]) + x[:, 1] * x[:, 2] + rng.normal(size=ROWS)
    return {
        "x": x.astype(np.float32),
        "y_1": ((numbers - numbers.mean()) / numbers.std()).astype(np.float32),
        "y_2": (scores[:, 0] > scores[:, 1]).astype(np.int64),
        "y_5": scores.argmax(axis=1),
    }


def model(case: Case) -> nn.Sequential:
    """The network, with PyTorch's start weights."""
    settings = case.settings
    # After t batches None averages with the share t / (t + 1), as ours does while that is smaller.
    slow = settings.batchnorm_decay > 1.0 - 1.0 / (5 * EPOCHS)
    momentum = None if slow else 1.0 - settings.batchnorm_decay
    layers: list[nn.Module] = []
    for inputs, units in pairwise(case.widths[:-1]):
        layers += [
            nn.Linear(inputs, units, bias=False),
            nn.BatchNorm1d(units, eps=settings.batchnorm_epsilon, momentum=momentum),
            nn.ReLU() if settings.activation == "relu" else nn.Tanh(),
        ]
    return nn.Sequential(*layers, nn.Linear(*case.widths[-2:]))


def by_name(net: nn.Sequential) -> dict[str, Tensor]:
    """Views of the model's tensors under our names, matrices as (inputs, units) like ours."""
    *linears, output = [layer for layer in net if isinstance(layer, nn.Linear)]
    norms = [layer for layer in net if isinstance(layer, nn.BatchNorm1d)]
    named = {}
    for i, (linear, norm) in enumerate(zip(linears, norms, strict=True), start=1):
        named[f"layer_{i}.weight"] = linear.weight.detach().T
        named[f"layer_{i}.gamma"] = norm.weight.detach()
        named[f"layer_{i}.beta"] = norm.bias.detach()
        named[f"layer_{i}.running_mean"] = norm.running_mean
        named[f"layer_{i}.running_variance"] = norm.running_var
    named["output.weight"] = output.weight.detach().T
    named["output.bias"] = output.bias.detach()
    return named


def joined(named: dict[str, Tensor], endings: str | tuple[str, ...]) -> Array:
    """The tensors whose name ends so, one after the other."""
    return np.concatenate([v.numpy().ravel() for k, v in named.items() if k.endswith(endings)])


def draw(net: nn.Sequential, *, seed: int) -> None:
    """Start weights that float32 holds exactly; no shift starts at 0 and no scale at 1."""
    rng = np.random.default_rng(seed)
    for name, tensor in by_name(net).items():
        if name.endswith(PARAMETERS):
            mean = 1.0 if name.endswith(".gamma") else 0.0
            deviation = math.sqrt(2.0 / len(tensor)) if name.endswith(".weight") else 0.1
            drawn = rng.normal(mean, deviation, tuple(tensor.shape))
            tensor.copy_(torch.from_numpy(drawn.astype(np.float32)))


def optimizer_of(net: nn.Module, settings: Settings) -> Optimizer:
    """PyTorch's own; only the matrices decay."""
    groups = [
        {"params": [p for p in net.parameters() if p.ndim == 2]},
        {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    rate, decay = settings.learning_rate, settings.weight_decay
    match settings.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, weight_decay=decay)
        case "momentum":
            # Its velocity is a sum where ours is a mean, see `Momentum` in optimizers.py.
            beta = settings.numbers["momentum_beta"]
            return torch.optim.SGD(
                groups, lr=rate * (1.0 - beta), momentum=beta, weight_decay=decay
            )
        case "rmsprop":
            return torch.optim.RMSprop(
                groups,
                lr=rate,
                alpha=settings.numbers["rmsprop_decay"],
                eps=settings.numbers["rmsprop_epsilon"],
                weight_decay=decay,
            )
        case _:
            return torch.optim.Adam(
                groups,
                lr=rate,
                betas=(settings.numbers["adam_beta1"], settings.numbers["adam_beta2"]),
                eps=settings.numbers["adam_epsilon"],
                weight_decay=decay,
            )


def schedule_of(optimizer: Optimizer, settings: Settings) -> lr_scheduler.LRScheduler:
    """PyTorch's own, a step for each epoch."""
    k = settings.numbers["schedule_rate"]
    match settings.schedule:
        case "inverse":
            return lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0 / (1.0 + k * epoch))
        case "exponential":
            return lr_scheduler.ExponentialLR(optimizer, math.exp(-k))
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
        case _:
            return lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)


def compute_losses(p: Tensor, y: Tensor, outputs: int) -> Tensor:
    """Mean over the batch; half the square for regression, as ours."""
    if outputs == 1:
        return 0.5 * functional.mse_loss(p[:, 0], y)
    if outputs == 2:
        return functional.binary_cross_entropy_with_logits(p[:, 0], y.to(p.dtype))
    return functional.cross_entropy(p, y)


class Run:
    """One training: its losses, its network, and how near a relu came to its kink."""

    def __init__(self, case: Case, *, seed: int, dtype: torch.dtype, x: Array, y: Array) -> None:
        self.net, self.losses, self.margin = model(case).to(dtype), [], math.inf
        draw(self.net, seed=seed)
        self.start = joined(by_name(self.net), PARAMETERS).astype(np.float32)
        if case.settings.activation == "relu":
            for layer in self.net:
                if isinstance(layer, nn.BatchNorm1d):
                    layer.register_forward_hook(self._note)
        features, targets = torch.from_numpy(x).to(dtype), torch.from_numpy(y)
        if targets.is_floating_point():
            targets = targets.to(dtype)
        optimizer = optimizer_of(self.net, case.settings)
        schedule = schedule_of(optimizer, case.settings)
        for epoch in range(EPOCHS):
            shuffled = make_generator(SEED, "shuffle", epoch=epoch).permutation(case.rows)
            for rows in torch.from_numpy(shuffled).split(case.settings.batch_size):
                optimizer.zero_grad()
                loss = compute_losses(self.net(features[rows]), targets[rows], case.outputs)
                loss.backward()
                optimizer.step()
                self.losses.append(loss.item())
            schedule.step()

    def _note(self, layer: nn.Module, inputs: object, y: Tensor) -> None:
        self.margin = min(self.margin, float(y.detach().abs().min()))

    def results(self) -> dict[str, Array]:
        """What the file keeps, in the run's dtype."""
        named = by_name(self.net)
        weights = joined(named, PARAMETERS)
        return {
            "losses": np.array(self.losses, weights.dtype),
            "weights": weights,
            "means": joined(named, "running_mean"),
            "variances": joined(named, "running_variance"),
        }


def record(case: Case, made: dict[str, Array]) -> tuple[dict[str, Array], str]:
    """The arrays of one case, and a line about it.

    Start weights are drawn again until no relu comes within 1e-5 of its kink: nearer by, another
    order of the same sums can let an activation through that PyTorch did not, and the gradients
    then differ by more than rounding.
    """
    x, y = made["x"][: case.rows], made[f"y_{case.outputs}"][: case.rows]
    for seed in count():
        exact = Run(case, seed=seed, dtype=torch.float64, x=x, y=y)
        if exact.margin > 1e-5:
            break
    rounded = Run(case, seed=seed, dtype=torch.float32, x=x, y=y)
    assert rounded.start.tobytes() == exact.start.tobytes()
    arrays = {f"{case.name}/start": exact.start}
    for dtype, run in (("float32", rounded), ("float64", exact)):
        arrays |= {f"{case.name}/{dtype}/{key}": v for key, v in run.results().items()}
    drift = np.abs(np.divide(rounded.losses, exact.losses) - 1.0).max()
    told = (
        f"{case.name:38} loss {exact.losses[0]:.3f} to {exact.losses[-1]:.3f}, seed {seed}, "
        f"kink {exact.margin:.0e}, float32 against float64 {drift:.0e}"
    )
    return arrays, told


def main() -> None:
    """Write the file."""
    torch.set_num_threads(1)
    made = data()
    about: dict[str, Any] = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "epochs": EPOCHS,
        "seed": SEED,
        "cases": {},
    }
    arrays = {**made, "order": make_generator(SEED, "shuffle").permutation(ROWS).astype(np.uint8)}
    for case in cases():
        about["cases"][case.name] = {
            "config": case.config,
            "outputs": case.outputs,
            "rows": case.rows,
        }
        more, told = record(case, made)
        arrays |= more
        print(told, flush=True)
    np.savez_compressed(FILE, about=np.array(json.dumps(about)), **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB, torch {torch.__version__}")


if __name__ == "__main__":
    main()
