"""Outlying activations in the weights: the same answers before quantization, better ones after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny import tiny_models, tiny_rows

from mlops.compression.build import calibration
from mlops.compression.quantize import nodes, quantize
from mlops.compression.smooth import smooth
from mlops.compression.static import quantize_static
from mlops.serving.runtime import Runtime

TEXTS = [row["text"] for row in tiny_rows(90, seed=5)]
OUTLIER = 300.0


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that answers as the tiny model does, one channel of whose first attention is 300 times as large: its values
    are made larger and the product that reads them smaller."""
    folder = tmp_path_factory.mktemp("outlier")
    for name in ("tokenizer.json", "package.json"):
        (folder / name).write_bytes((tiny_models()["fp32"] / name).read_bytes())
    model = onnx.load(str(tiny_models()["fp32"] / "model.onnx"))
    entries = {entry.name: entry for entry in model.graph.initializer}
    attention = next(node for node in model.graph.node if node.op_type == "Attention")
    reader = next(node for node in model.graph.node if attention.output[0] in node.input)
    width = entries[attention.input[1]].dims[1] // 3
    for name, place, factor in (
        (attention.input[1], (slice(None), 2 * width), OUTLIER),
        (attention.input[2], (2 * width,), OUTLIER),
        (reader.input[1], (0, slice(None)), 1 / OUTLIER),
    ):
        values = numpy_helper.to_array(entries[name]).copy()
        values[place] *= factor
        entries[name].CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def batches(folder: Path) -> list[dict[str, Any]]:
    return list(calibration(folder, [row["text"] for row in tiny_rows(60, seed=8)]))


def answers(folder: Path, path: Path, place: Path) -> np.ndarray:
    place.mkdir()
    for name in ("tokenizer.json", "package.json"):
        (place / name).write_bytes((folder / name).read_bytes())
    (place / "model.onnx").write_bytes(path.read_bytes())
    return np.stack(Runtime.load(place, threads=1).logits(TEXTS))


def test_int8_comes_nearer_to_an_unchanged_fp32(source: Path, tmp_path: Path) -> None:
    names = nodes(source / "model.onnx")
    assert smooth(source / "model.onnx", tmp_path / "smooth.onnx", batches(source)) == len(names)
    assert nodes(tmp_path / "smooth.onnx") == names
    before = answers(source, source / "model.onnx", tmp_path / "before")
    np.testing.assert_allclose(answers(source, tmp_path / "smooth.onnx", tmp_path / "same"), before, atol=1e-4)
    off = {}
    for form in ("plain", "smooth"):
        path = source / "model.onnx" if form == "plain" else tmp_path / "smooth.onnx"
        quantize(path, tmp_path / f"{form}-int8.onnx", reduce_range=False)
        quantize_static(path, tmp_path / f"{form}-static.onnx", batches(source))
        for kind in ("int8", "static"):
            found = answers(source, tmp_path / f"{form}-{kind}.onnx", tmp_path / f"{form}-{kind}")
            off[form, kind] = float(np.mean((found - before) ** 2))
    for kind in ("int8", "static"):
        assert off["smooth", kind] < 0.5 * off["plain", kind], off


def test_the_same_bytes_come_out_twice(source: Path, tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        smooth(source / "model.onnx", tmp_path / name, batches(source))
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_without_rows_the_reason_is_told(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no calibration batches"):
        smooth(source / "model.onnx", tmp_path / "a.onnx", [])
