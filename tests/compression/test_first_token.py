"""A last layer that computes the first token alone: the same answers from less work, and only where that is so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny import tiny_base

from mlops.compression import export as export_module
from mlops.compression.export import export, spare
from mlops.compression.first_token import first_token_only
from mlops.tasks import get
from mlops.training.models import load_model

NAMES = {
    "bert": ("input_ids", "attention_mask", "token_type_ids"),
    "distilbert": ("input_ids", "attention_mask"),
}


def written(folder: Path, kind: str, task: str = "text-classification") -> tuple[Any, Path]:
    torch.manual_seed(0)
    labels = ("a", "b", "c") if task == "text-classification" else ("O", "B-X", "I-X")
    model = load_model(tiny_base(folder / kind, kind), get(task), labels, attention="eager").eval()
    export(model, folder / "model.onnx", NAMES[kind])
    return model, folder / "model.onnx"


def arrays(kind: str, rows: int, length: int) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(rows)
    ids = chance.integers(5, 100, (rows, length))
    mask = np.ones_like(ids)
    for row in range(1, rows):
        mask[row, max(1, length - 2 * row) :] = 0
    every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: every[name] for name in NAMES[kind]}


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_the_answers_are_torchs_and_the_last_layer_is_short(tmp_path: Path, kind: str) -> None:
    import onnxruntime

    model, path = written(tmp_path, kind)
    counts = Counter(node.op_type for node in onnx.load(str(path)).graph.node)
    assert (counts["Attention"], counts["MultiHeadAttention"], counts["Slice"] > 0) == (1, 1, True)
    options = onnxruntime.SessionOptions()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for rows, length in ((1, 1), (1, 9), (5, 13), (3, 64)):
        given = arrays(kind, rows, length)
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(array) for name, array in given.items()}).logits.numpy()
        np.testing.assert_allclose(session.run(["logits"], given)[0], expected, rtol=0, atol=1e-5)


def test_the_feed_forward_part_of_the_last_layer_has_one_token(tmp_path: Path) -> None:
    import onnxruntime

    _, path = written(tmp_path, "bert")
    graph = onnx.load(str(path))
    last = [node for node in graph.graph.node if node.op_type == "Gelu"][-1]
    first = next(node for node in graph.graph.node if node.op_type == "Gelu")
    for node in (first, last):
        graph.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    whole, short = session.run([first.output[0], last.output[0]], arrays("bert", 4, 11))
    assert whole.shape[:2] == (4, 11)
    assert short.shape[:2] == (4, 1)


def test_tokens_keep_their_layers(tmp_path: Path) -> None:
    _, path = written(tmp_path, "bert", "token-classification")
    counts = Counter(node.op_type for node in onnx.load(str(path)).graph.node)
    assert (counts["Attention"], counts["MultiHeadAttention"]) == (2, 0)


def test_what_something_else_reads_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "first_token_only", lambda model: False)
    _, path = written(tmp_path, "bert")
    model = onnx.load(str(path))
    norm = [node for node in model.graph.node if node.op_type == "LayerNormalization"][-1]
    model.graph.node.append(onnx.helper.make_node("Identity", [norm.output[0]], ["states"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("states", onnx.TensorProto.FLOAT, None))
    before = model.SerializeToString()
    assert not first_token_only(model)
    assert model.SerializeToString() == before


def test_a_graph_that_then_answers_otherwise_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(model: Any) -> bool:
        node = next(node for node in model.graph.node if node.op_type == "Gelu")
        node.op_type, node.domain = "Relu", ""
        return True

    monkeypatch.setattr(export_module, "first_token_only", lambda model: False)
    _, path = written(tmp_path, "bert")
    before = path.read_bytes()
    monkeypatch.setattr(export_module, "first_token_only", wrong)
    with caplog.at_level("WARNING", "evergreen"):
        assert not spare(path, arrays("bert", 2, 8))
    assert "answers otherwise" in caplog.text
    assert path.read_bytes() == before
