"""ONNX export: the same answers as torch, a fused graph, and a plain one where fusing fails."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny import tiny_base

from mlops.compression.export import export
from mlops.tasks import get
from mlops.training.models import load_model

LABELS = ("a", "b", "c")
NAMES = {"bert": ("input_ids", "attention_mask", "token_type_ids"), "distilbert": ("input_ids", "attention_mask")}


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return eager(tmp_path_factory.mktemp("base") / kind, kind)


def eager(folder: Path, kind: str) -> Any:
    torch.manual_seed(0)
    return load_model(tiny_base(folder, kind), get("text-classification"), LABELS, attention="eager").eval()


def batch(rows: int, length: int, kind: str) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(rows)
    ids = chance.integers(5, 100, (rows, length))
    mask = np.ones_like(ids)
    for row in range(1, rows):
        mask[row, max(1, length - 2 * row) :] = 0
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: arrays[name] for name in NAMES[kind]}


def onnx_logits(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path)).run(["logits"], arrays)[0]


def torch_logits(model: Any, arrays: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return model(**{name: torch.from_numpy(array) for name, array in arrays.items()}).logits.numpy()


def test_it_answers_like_torch_for_every_shape(kind: str, model: Any, tmp_path: Path) -> None:
    found = export(model, tmp_path / "model.onnx", NAMES[kind])
    assert found["Attention"] == 2
    assert found["SkipLayerNormalization"] == 4
    assert found["BiasGelu"] == 2
    for rows, length in ((1, 1), (1, 9), (5, 13), (3, 64)):
        arrays = batch(rows, length, kind)
        np.testing.assert_allclose(
            onnx_logits(tmp_path / "model.onnx", arrays), torch_logits(model, arrays), rtol=0, atol=1e-5
        )


def test_one_file_with_fixed_bytes_and_free_axes(kind: str, model: Any, tmp_path: Path) -> None:
    digests = set()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        export(model, tmp_path / name / "model.onnx", NAMES[kind])
        assert [path.name for path in (tmp_path / name).iterdir()] == ["model.onnx"]
        digests.add(hashlib.sha256((tmp_path / name / "model.onnx").read_bytes()).hexdigest())
    assert len(digests) == 1
    graph = onnx.load(str(tmp_path / "first" / "model.onnx")).graph
    assert [entry.name for entry in graph.input] == list(NAMES[kind])
    for entry in graph.input:
        assert [axis.dim_param for axis in entry.type.tensor_type.shape.dim] == ["batch", "length"]


def test_padding_does_not_change_an_answer(tmp_path: Path) -> None:
    model = eager(tmp_path / "base", "bert")
    export(model, tmp_path / "model.onnx", NAMES["bert"])
    short = batch(1, 7, "bert")
    padded = {name: np.pad(array, ((0, 0), (0, 9))) for name, array in short.items()}
    both = [onnx_logits(tmp_path / "model.onnx", arrays) for arrays in (short, padded)]
    np.testing.assert_allclose(both[0], both[1], rtol=0, atol=1e-5)


def test_a_graph_that_cannot_be_fused_is_written_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = eager(tmp_path / "base", "bert")

    def unable(path: Path, config: Any) -> dict[str, int]:
        raise AssertionError("an architecture that nobody knows")

    monkeypatch.setattr("mlops.compression.export.fuse", unable)
    with caplog.at_level(logging.WARNING, "evergreen"):
        assert export(model, tmp_path / "model.onnx", NAMES["bert"]) == {}
    assert "stays plain" in caplog.text
    arrays = batch(3, 8, "bert")
    np.testing.assert_allclose(onnx_logits(tmp_path / "model.onnx", arrays), torch_logits(model, arrays), atol=1e-5)


def test_a_lost_attention_fusion_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Scaled dot-product attention is traced as another pattern, which the fusion does not know.
    torch.manual_seed(0)
    model = load_model(tiny_base(tmp_path / "base"), get("text-classification"), LABELS, attention="sdpa").eval()
    with caplog.at_level(logging.WARNING, "evergreen"):
        found = export(model, tmp_path / "model.onnx", NAMES["bert"])
    assert "Attention" not in found
    assert "attention fused in 0 of 2 layers" in caplog.text
    arrays = batch(3, 8, "bert")
    np.testing.assert_allclose(onnx_logits(tmp_path / "model.onnx", arrays), torch_logits(model, arrays), atol=1e-5)
