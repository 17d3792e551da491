"""fp16: the same answers through the serving runtime, no NaN behind a mask, inputs and outputs as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from tiny import tiny_base, tiny_models, tiny_rows

from mlops.compression.export import trace
from mlops.compression.half import to_half
from mlops.serving.runtime import Runtime
from mlops.tasks import get
from mlops.training.models import load_model

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TEXTS = [row["text"] for row in tiny_rows(90, seed=5)]


def half_of(source: Path, folder: Path) -> Path:
    for name in ("tokenizer.json", "package.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    to_half(source / "model.onnx", folder / "model.onnx")
    return folder


def run(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["logits"], arrays)[0]


def masked() -> dict[str, np.ndarray[Any, Any]]:
    """Four rows of nine tokens; the second is mostly padding, the third nothing else."""
    ids = np.random.default_rng(0).integers(5, 100, (4, 9))
    mask = np.ones_like(ids)
    mask[1, 3:] = 0
    mask[2] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def plain(folder: Path, attention: str) -> Path:
    """A graph without fusions: its mask adds the lowest fp32 number to scores."""
    torch.manual_seed(0)
    model = load_model(tiny_base(folder / "base"), get("text-classification"), ("a", "b", "c"), attention=attention)
    trace(model.eval(), folder / "plain.onnx", INPUTS)
    return folder / "plain.onnx"


def test_it_answers_like_fp32(tmp_path: Path) -> None:
    source = tiny_models()["fp32"]
    before, after = (
        np.stack(Runtime.load(each, threads=1).logits(TEXTS)) for each in (source, half_of(source, tmp_path))
    )
    np.testing.assert_allclose(after, before, rtol=0, atol=0.02)
    assert np.abs(before - after).max() > 0  # it is another model, not a copy
    assert (tmp_path / "model.onnx").stat().st_size < 0.7 * (source / "model.onnx").stat().st_size


def test_weights_are_half_and_the_interface_is_not(tmp_path: Path) -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    counts = to_half(source, tmp_path / "half.onnx")
    graph = onnx.load(str(tmp_path / "half.onnx")).graph
    kinds = [entry.data_type for entry in graph.initializer]
    assert TensorProto.FLOAT not in kinds
    assert kinds.count(TensorProto.FLOAT16) == counts["tensors"] > 10
    assert {entry.type.tensor_type.elem_type for entry in graph.input} == {TensorProto.INT64}
    assert graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert sum(node.op_type == "Attention" for node in graph.node) == 1  # the fusions are still there
    assert not any(entry.external_data for entry in graph.initializer)


def test_the_same_bytes_come_out_twice(tmp_path: Path) -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    for name in ("one.onnx", "two.onnx"):
        to_half(source, tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_rows_of_padding_are_numbers(tmp_path: Path) -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    to_half(source, tmp_path / "half.onnx")
    np.testing.assert_allclose(run(tmp_path / "half.onnx", masked()), run(source, masked()), rtol=0, atol=0.02)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_mask_of_the_lowest_number_does_not_become_infinite(tmp_path: Path, attention: str) -> None:
    source = plain(tmp_path, attention)
    counts = to_half(source, tmp_path / "half.onnx")
    assert counts["cut"] > 0
    found = run(tmp_path / "half.onnx", masked())
    assert np.isfinite(found).all()
    seen = [0, 1, 3]  # what a row of nothing but padding answers is nobody's question
    np.testing.assert_allclose(found[seen], run(source, masked())[seen], rtol=0, atol=0.02)
    # On a GPU the scores themselves are fp16: the mask and the lowest score that it can meet stay above -65504.
    graph = onnx.load(str(tmp_path / "half.onnx")).graph
    values = [numpy_helper.to_array(a.t) for n in graph.node for a in n.attribute if a.HasField("t")]
    values += [numpy_helper.to_array(entry) for entry in graph.initializer]
    lowest = min(float(array.min()) for array in values if array.dtype == np.float16 and array.size)
    assert lowest == -10000


def test_a_file_without_fp32_weights_is_refused(tmp_path: Path) -> None:
    source = tiny_models()["fp32"] / "model.onnx"
    to_half(source, tmp_path / "half.onnx")
    with pytest.raises(ValueError, match="no fp32 weights"):
        to_half(tmp_path / "half.onnx", tmp_path / "again.onnx")
