"""PyTorch, eager and compiled."""

from __future__ import annotations

import time

import torch

from benchmarks.contestants import Pool, Shape, Split


def network(shape: Shape) -> torch.nn.Sequential:
    """Linear without bias, batch norm, relu; and a linear output layer."""
    torch.manual_seed(1)
    modules: list[torch.nn.Module] = []
    for inputs, units in zip(shape.widths[:-2], shape.widths[1:-1], strict=True):
        modules += [
            torch.nn.Linear(inputs, units, bias=False),
            torch.nn.BatchNorm1d(units),
            torch.nn.ReLU(),
        ]
    return torch.nn.Sequential(*modules, torch.nn.Linear(shape.widths[-2], shape.widths[-1]))


class Contestant:
    """Eager mode with fused Adam."""

    def __init__(self, shape: Shape, pool: Pool) -> None:
        torch.set_num_threads(1)
        self.model = network(shape)
        self.call = self.model
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.loss = torch.nn.CrossEntropyLoss()
        self.x, self.y = torch.from_numpy(pool.x).unbind(0), torch.from_numpy(pool.y).unbind(0)

    def run(self, steps: int) -> None:
        """Train without reading the loss, which saves PyTorch a conversion that ours includes."""
        for _ in range(steps // len(self.x)):
            for x, y in zip(self.x, self.y, strict=True):
                self.optimizer.zero_grad(set_to_none=True)
                self.loss(self.call(x), y).backward()
                self.optimizer.step()

    @staticmethod
    def trial(shape: Shape, split: Split, epochs: int) -> float:
        """A plain loop over shuffled slices, without the slower DataLoader."""
        torch.set_num_threads(1)
        model = network(shape)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        cross_entropy = torch.nn.CrossEntropyLoss()
        x, y = torch.from_numpy(split.x), torch.from_numpy(split.y)
        seen, truth = torch.from_numpy(split.x_validation), torch.from_numpy(split.y_validation)
        accuracy = 0.0
        for _ in range(epochs):
            model.train()
            order = torch.randperm(len(x))
            x_shuffled, y_shuffled = x[order], y[order]
            for first in range(0, len(x), shape.rows):
                part = slice(first, first + shape.rows)
                optimizer.zero_grad(set_to_none=True)
                cross_entropy(model(x_shuffled[part]), y_shuffled[part]).backward()
                optimizer.step()
            model.eval()
            with torch.inference_mode():
                logits = model(seen)
                cross_entropy(logits, truth).item()
                accuracy = (logits.argmax(1) == truth).float().mean().item()
        return accuracy


class Compiled(Contestant):
    """torch.compile around the forward pass; it compiles the backward pass with it."""

    def __init__(self, shape: Shape, pool: Pool) -> None:
        began = time.perf_counter()
        super().__init__(shape, pool)
        torch._dynamo.reset()
        self.call = torch.compile(self.model, dynamic=False)
        self.run(len(self.x))
        self.compile_seconds = time.perf_counter() - began
