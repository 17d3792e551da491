"""int8 with fixed ranges: near fp32, no range looked for at a call, and answers that do not depend on the batch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny import tiny_models, tiny_rows

from mlops.compression.build import calibration
from mlops.compression.quantize import nodes, quantize
from mlops.compression.static import Method, activation_ranges, quantize_static
from mlops.serving.runtime import Runtime

TEXTS = [row["text"] for row in tiny_rows(90, seed=5)]
METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile")


def source() -> Path:
    return tiny_models()["fp32"] / "model.onnx"


def batches() -> list[dict[str, Any]]:
    return list(calibration(tiny_models()["fp32"], [row["text"] for row in tiny_rows(60, seed=8)]))


def package(folder: Path) -> Path:
    for name in ("tokenizer.json", "package.json"):
        (folder / name).write_bytes((tiny_models()["fp32"] / name).read_bytes())
    return folder / "model.onnx"


@pytest.mark.parametrize("method", METHODS)
def test_it_answers_like_fp32(tmp_path: Path, method: Method) -> None:
    counts = quantize_static(source(), package(tmp_path), batches(), method, min_table=0)
    assert (counts["products"], counts["tables"]) == (9, 3)
    before = np.stack(Runtime.load(tiny_models()["fp32"], threads=1).logits(TEXTS))
    after = np.stack(Runtime.load(tmp_path, threads=1).logits(TEXTS))
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.95
    assert 0 < np.abs(before - after).max() < 1


def test_no_range_is_looked_for_and_attention_stays_fused(tmp_path: Path) -> None:
    quantize_static(source(), tmp_path / "model.onnx", batches())
    model = onnx.load(str(tmp_path / "model.onnx"))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["QAttention"] == 1
    assert kinds["MatMulIntegerToFloat"] == 8
    assert not kinds["DynamicQuantizeLinear"] + kinds["MatMulInteger"] + kinds["Attention"]
    assert kinds["MatMul"] == 2  # pooler and classifier
    assert not any(entry.external_data for entry in model.graph.initializer)


def test_an_answer_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    spread = []
    for form in ("static", "dynamic"):
        (tmp_path / form).mkdir()
        path = package(tmp_path / form)
        if form == "static":
            quantize_static(source(), path, batches())
        else:
            quantize(source(), path)
        runtime = Runtime.load(tmp_path / form, threads=1)
        alone = np.stack([runtime.logits([text])[0] for text in TEXTS])
        spread.append(float(np.abs(np.stack(runtime.logits(TEXTS)) - alone).max()))
    assert spread[0] < 1e-4 < spread[1], spread


def test_ranges_hold_what_was_seen(tmp_path: Path) -> None:
    found = {method: activation_ranges(source(), batches()[:1], method) for method in METHODS}
    assert all(set(each) == set(found["minmax"]) for each in found.values())
    for name, (low, high) in found["minmax"].items():
        assert low <= 0 <= high
        assert low < high
        for method in ("entropy", "percentile"):
            width = high - low
            assert low - 0.01 * width <= found[method][name][0] <= 0 <= found[method][name][1] <= high + 0.01 * width
    assert found["percentile"] != found["minmax"]


def test_kept_nodes_stay_in_fp32(tmp_path: Path) -> None:
    names = nodes(source())
    quantize_static(source(), tmp_path / "model.onnx", batches(), keep=[names[0], names[3]])
    left = {node.name: node.op_type for node in onnx.load(str(tmp_path / "model.onnx")).graph.node}
    assert (left[names[0]], left[names[3]]) == ("Attention", "MatMul")
    assert sum(kind in ("QAttention", "MatMulIntegerToFloat") for kind in left.values()) == 7


def test_the_same_bytes_come_out_twice(tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        quantize_static(source(), tmp_path / name, batches(), "percentile", min_table=0)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no calibration batches"):
        quantize_static(source(), tmp_path / "a.onnx", [])
    with pytest.raises(ValueError, match="typo"):
        quantize_static(source(), tmp_path / "a.onnx", batches(), keep=["typo"])
