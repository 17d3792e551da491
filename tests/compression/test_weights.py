"""Weights alone in 4 or 8 bits: packed as onnxruntime reads them, nearly the same answers, attention not forgotten."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import tiny_models, tiny_rows

from mlops.compression.quantize import nodes
from mlops.compression.weights import pack, quantize_weights
from mlops.serving.runtime import Runtime

TEXTS = [row["text"] for row in tiny_rows(90, seed=5)]


def answers(folder: Path) -> np.ndarray:
    return np.stack(Runtime.load(folder, threads=1).logits(TEXTS))


def package(folder: Path) -> Path:
    for name in ("tokenizer.json", "package.json"):
        (folder / name).write_bytes((tiny_models()["fp32"] / name).read_bytes())
    return folder / "model.onnx"


@pytest.mark.parametrize(("bits", "allowed"), [(8, 0.2), (4, 2.5)])
def test_it_answers_like_fp32(tmp_path: Path, bits: Literal[4, 8], allowed: float) -> None:
    source = tiny_models()["fp32"]
    counts = quantize_weights(source / "model.onnx", package(tmp_path), bits, min_table=0)
    assert counts == {"products": 9, "tables": 3, "bits": bits}
    before, after = answers(source), answers(tmp_path)
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.95
    assert 0 < np.abs(before - after).max() < allowed


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("inputs", "block"), [(64, 16), (70, 32), (16, 128)])
def test_a_value_is_off_by_at_most_half_a_step_of_its_block(bits: int, inputs: int, block: int) -> None:
    matrix = np.random.default_rng(3).normal(size=(inputs, 5)).astype(np.float32)
    matrix[:, 2] = 0
    matrix[3, 4] = 50
    values, scales, zeros = pack(matrix, bits, block)
    blocks = -(-inputs // block)
    assert values.shape == (5, blocks, block * bits // 8)
    # onnxruntime itself says what the bytes mean: a product with the unit matrix gives the values back.
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s", "z"], ["y"], domain="com.microsoft", K=inputs, N=5, bits=bits, block_size=block
    )
    constants = [numpy_helper.from_array(array, name) for array, name in ((values, "w"), (scales, "s"), (zeros, "z"))]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(["y"], {"x": np.eye(inputs, dtype=np.float32)})[0]
    steps = np.repeat(scales.reshape(5, blocks), block, axis=1)[:, :inputs].T
    # A zero point that is rounded moves a block by up to half a step more.
    assert (np.abs(found - matrix) <= steps * 1.001).all()
    assert (np.abs(found - matrix) <= steps / 2 * 1.001).mean() > 0.9
    assert not found[:, 2].any()


def test_attention_is_split_and_only_what_is_kept_stays(tmp_path: Path) -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    names = nodes(source)
    quantize_weights(source, tmp_path / "all.onnx", 4)
    quantize_weights(source, tmp_path / "some.onnx", 4, keep=[names[0], names[2]])
    kinds = [
        Counter(node.op_type for node in onnx.load(str(tmp_path / name)).graph.node)
        for name in ("all.onnx", "some.onnx")
    ]
    assert [each["MatMulNBits"] for each in kinds] == [9, 7]
    assert [each["Attention"] for each in kinds] == [0, 1]
    assert [each["MatMul"] for each in kinds] == [0, 1]
    left = [
        entry
        for entry in onnx.load(str(tmp_path / "all.onnx")).graph.initializer
        if entry.data_type == TensorProto.FLOAT
    ]
    assert not any(entry.external_data for entry in left)
    assert max(int(np.prod(entry.dims)) for entry in left if "embeddings" not in entry.name) <= 32 * 32  # pooler


def test_the_same_bytes_come_out_twice(tmp_path: Path) -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    for name in ("one.onnx", "two.onnx"):
        quantize_weights(source, tmp_path / name, 4, min_table=0)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"bits": 3}, "bits is 3"), ({"bits": 4, "block": 24}, "block is 24"), ({"bits": 8, "keep": ["typo"]}, "typo")],
)
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        quantize_weights(tiny_models()["fp32"] / "model.onnx", tmp_path / "a.onnx", **arguments)
