"""Packages with nodes grafted behind their logits: what a broken or a slow file does."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from tiny import tiny_models


def grafted(target: Path, nodes: Sequence[onnx.NodeProto], variant: str = "fp32", **constants: np.ndarray) -> Path:
    """The tiny package with nodes behind its logits, which they take as "before" and give as "logits"."""
    folder = Path(shutil.copytree(tiny_models()[variant], target))
    (folder / "manifest.json").unlink(missing_ok=True)
    (folder / "model.onnx").chmod(0o644)
    model = onnx.load(folder / "model.onnx")
    for node in model.graph.node:
        node.output[:] = ["before" if name == "logits" else name for name in node.output]
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.node.extend(nodes)
    onnx.save(model, folder / "model.onnx")
    return folder


def heavy(target: Path) -> Path:
    """Some hundred times the work; the answers stay as they are."""
    width, size = 3, 2048
    names = ["h0", *(f"h{number}" for number in range(1, 11))]
    nodes = [helper.make_node("MatMul", ["before", "narrow"], ["h0"])]
    nodes += [helper.make_node("MatMul", [one, "wide"], [other]) for one, other in pairwise(names)]
    nodes += [helper.make_node("MatMul", [names[-1], "back"], ["more"])]
    nodes += [helper.make_node("Add", ["before", "more"], ["logits"])]
    shapes = {"narrow": (width, size), "wide": (size, size), "back": (size, width)}
    return grafted(target, nodes, **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})


def neighbourly(target: Path) -> Path:
    """Its answers move with the mean of the batch."""
    mean = helper.make_node("ReduceMean", ["before"], ["mean"], axes=[0], keepdims=1)
    return grafted(target, [mean, helper.make_node("Add", ["before", "mean"], ["logits"])])


def short_sighted(target: Path, variant: str = "fp32") -> Path:
    """Answers every row of the snapshot and not an empty text: no number comes of fewer than three tokens."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"], start=1, end=2),
        helper.make_node("Cast", ["shape"], ["length"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["length", "three"], ["more"]),
        helper.make_node("Sqrt", ["more"], ["root"]),
        helper.make_node("Mul", ["root", "nothing"], ["zero"]),
        helper.make_node("Add", ["before", "zero"], ["logits"]),
    ]
    return grafted(target, nodes, variant, three=np.float32([3]), nothing=np.float32([0]))
