"""The best model as ONNX, its preprocessing folded in: rows as they stand in the file go in.

A new best model removes this file from best/: see `save_model`.

Inputs: `numbers`, (N, columns) float64, the numeric columns in the table's order, NaN where a value
is missing; and for each text column one of its own, (N, 1) strings, "" where missing. Output:
`probabilities`, (N, classes) float32, or `prediction`, (N, 1) float64 in the target's own unit.
Where a text column has one of these three names, the input or output of ours ends in `_`. The
metadata has the trial, the epoch, and the names of columns and classes as JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipelines.data.model import Model, load_model
from pipelines.data.preprocessing import LIMIT, Preprocessing
from pipelines.see.run import RunTables
from trainers.network.network import fold
from trainers.training.settings import read_settings

__all__ = ["build_model", "write"]

OPSET, ML_OPSET, IR = 17, 3, 8  #: versions of 2022, which every runtime since then reads


def write(run: RunTables, out: Path) -> None:
    """Write the model in the run's best/ folder."""
    out.write_bytes(build_model(load_model(run.folder / "best")).SerializeToString())


def build_model(model: Model) -> onnx.ModelProto:
    """Build the ONNX model, and check it with onnx."""
    p = model.preprocessing
    g = _Graph(taken=_list_text_columns(p))
    a = _add_image(g, p) if p.image else _add_table(g, p)
    settings = read_settings(model.config)
    layers = fold(model.weights, epsilon=settings.batchnorm_epsilon)
    for i, (weight, bias) in enumerate(layers):
        a = g.add("Add", g.add("MatMul", a, g.constant(weight)), g.constant(bias))
        if i < len(layers) - 1:
            a = g.add({"relu": "Relu", "tanh": "Tanh"}[settings.activation], a)
    output = _add_output(g, p, a)
    onnx_model = helper.make_model(
        helper.make_graph(
            g.nodes, "caviar", g.inputs, [output], g.constants,
        ),
        opset_imports=[
            helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)
        ],
        ir_version=IR,
        producer_name="caviar",
    )  # fmt: skip
    helper.set_model_props(
        onnx_model,
        {
            "trial": str(model.trial),
            "epoch": str(model.epoch),
            "columns": json.dumps([c for c in p.columns if c not in _list_text_columns(p)]),
            "target": p.target_name,
            "classes": json.dumps(list(p.classes)),
        },
    )
    onnx.checker.check_model(onnx_model)
    return onnx_model


class _Graph:
    """Nodes in the order in which they are added; names are numbers.

    Args:
        taken: The text columns: their inputs have their names, so nothing else may.
    """

    def __init__(self, *, taken: list[str]) -> None:
        self.taken = taken
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.constants: list[Any] = []

    def free(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        return name

    def input(self, name: str, kind: int, width: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["rows", width]))
        return name

    def constant(self, value: Any) -> str:
        name = self.free(f"c{len(self.constants)}")
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        name = self.free(out or f"n{len(self.nodes)}")
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def _list_text_columns(p: Preprocessing) -> list[str]:
    return [c.name for c in p.categorical]


def _add_image(g: _Graph, p: Preprocessing) -> str:
    """Add the encoding of images: one mean and scale; a missing pixel has the mean."""
    numbers = g.input(g.free("numbers"), TensorProto.DOUBLE, len(p.columns))
    x = g.add("Cast", numbers, to=TensorProto.FLOAT)
    mean, scale = g.constant(np.float32(p.image_mean)), g.constant(np.float32(p.image_scale))
    scaled = g.add("Div", g.add("Sub", x, mean), scale)
    return g.add("Where", g.add("IsNaN", scaled), g.constant(np.float32(0)), scaled)


def _add_table(g: _Graph, p: Preprocessing) -> str:
    """Add the encoding of tables as in `encode_features`: numbers, indicators, categories."""
    parts = []
    if p.numeric:
        parts += _add_numbers(g, p)
    for column in p.categorical:
        text = g.input(column.name, TensorProto.STRING, 1)
        width = len(column.categories)
        coded = g.add(
            "OneHotEncoder",
            text,
            domain="ai.onnx.ml",
            cats_strings=list(column.categories),
            zeros=1,
        )
        flat = g.add("Reshape", coded, g.constant(np.array([-1, width], np.int64)))
        parts.append(flat)
        if column.has_rest:
            listed = g.add("ReduceSum", flat, g.constant(np.array([1], np.int64)), keepdims=1)
            parts.append(g.add("Sub", g.constant(np.float32(1)), listed))
    return g.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _add_numbers(g: _Graph, p: Preprocessing) -> list[str]:
    names = [c for c in p.columns if c not in _list_text_columns(p)]
    x = g.input(g.free("numbers"), TensorProto.DOUBLE, len(names))
    order = g.constant(np.array([names.index(c.name) for c in p.numeric], np.int64))
    x = g.add("Gather", x, order, axis=1)
    missing = g.add("IsNaN", x)

    def row(field: str) -> str:
        return g.constant(np.array([[getattr(c, field) for c in p.numeric]], np.float64))

    x = g.add("Where", missing, row("median"), x)
    if any(c.tailed for c in p.numeric):
        z = g.add("Div", g.add("Sub", x, row("centre")), row("spread"))
        grown = g.add("Log", g.add("Add", g.add("Abs", z), g.constant(np.float64(1))))
        tailed = g.constant(np.array([[c.tailed for c in p.numeric]]))
        x = g.add("Where", tailed, g.add("Mul", g.add("Sign", z), grown), x)
    x = g.add("Div", g.add("Sub", x, row("mean")), row("scale"))
    x = g.add("Clip", x, g.constant(np.float64(-LIMIT)), g.constant(np.float64(LIMIT)))
    parts = [g.add("Cast", x, to=TensorProto.FLOAT)]
    flagged = [i for i, c in enumerate(p.numeric) if c.has_indicator]
    if flagged:
        indicators = g.add("Gather", missing, g.constant(np.array(flagged, np.int64)), axis=1)
        parts.append(g.add("Cast", indicators, to=TensorProto.FLOAT))
    return parts


def _add_output(g: _Graph, p: Preprocessing, a: str) -> onnx.ValueInfoProto:
    kind, width = TensorProto.FLOAT, len(p.classes)
    if p.task == "regression":  # float64 as in `decode_target`: float32 ends at seven digits
        kind, width = TensorProto.DOUBLE, 1
        scale, mean = g.constant(np.float64(p.target_scale)), g.constant(np.float64(p.target_mean))
        scaled = g.add("Mul", g.add("Cast", a, to=kind), scale)
        name = g.add("Add", scaled, mean, out="prediction")
    elif width == 2:  # one logit: that of the second class
        second = g.add("Sigmoid", a)
        first = g.add("Sub", g.constant(np.float32(1)), second)
        name = g.add("Concat", first, second, out="probabilities", axis=1)
    else:
        name = g.add("Softmax", a, out="probabilities", axis=1)
    return helper.make_tensor_value_info(name, kind, ["rows", width])
