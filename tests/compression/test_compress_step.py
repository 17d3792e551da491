"""The step: ONNX packages in the order that the pipeline file asks for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import tiny_artifact, tiny_config, tiny_models, tiny_rows, tiny_snapshot

from mlops.serving.runtime import Runtime
from mlops.steps.compress import compress
from mlops.store import open_store
from mlops.training.predictor import TorchPredictor

TEXTS = [row["text"] for row in tiny_rows(90, seed=6)]


@pytest.mark.parametrize("asked", [("int8", "fp32"), ("fp32", "int8"), ("int8",)])
def test_variants_come_in_the_order_asked_for(asked: tuple[str, ...]) -> None:
    base = tiny_models()["base"]
    model = tiny_artifact("torch")
    made = compress(tiny_config(base, compress={"variants": asked}), model, tiny_snapshot(base)).models
    assert tuple(each.variant for each in made) == asked
    for each in made:
        assert each.parent_sha256 == model.files.sha256
        assert (each.snapshot_sha256, each.config_sha256) == (model.snapshot_sha256, model.config_sha256)
        folder = open_store().fetch(each.files)
        names = {path.name for path in folder.iterdir()}
        assert names == {"model.onnx", "tokenizer.json", "package.json", "manifest.json"}
        assert json.loads((folder / "package.json").read_text())["variant"] == each.variant


def test_running_it_again_gives_the_same_artifacts() -> None:
    base = tiny_models()["base"]
    model, snapshot, config = tiny_artifact("torch"), tiny_snapshot(base), tiny_config(base)
    assert compress(config, model, snapshot) == compress(config, model, snapshot)


def test_fp32_equals_torch_and_int8_keeps_the_labels() -> None:
    models = tiny_models()
    expected = np.stack(TorchPredictor(models["torch"]).logits(TEXTS))
    fp32, int8 = (np.stack(Runtime.load(models[name]).logits(TEXTS)) for name in ("fp32", "int8"))
    np.testing.assert_allclose(fp32, expected, rtol=0, atol=1e-3)
    assert (int8.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
