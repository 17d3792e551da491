"""Fewer layers: evenly spread ones stay as they were, the folder and the graph stay plain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from teachers import asked_onnx, exported, logits, numbers, opened, saved, set_up, teacher

from mlops.compression.droplayers import drop_layers, spread_layers
from mlops.serving.package import read_package


@pytest.mark.parametrize(
    ("size", "count", "kept"),
    [(6, 3, [1, 3, 5]), (12, 6, [1, 3, 5, 7, 9, 11]), (6, 4, [0, 2, 3, 5]), (6, 1, [5]), (4, 4, [0, 1, 2, 3])],
)
def test_the_last_of_each_equal_part_stays(size: int, count: int, kept: list[int]) -> None:
    assert spread_layers(size, count) == kept


@pytest.mark.parametrize(
    ("kind", "place"), [("bert", "bert.encoder.layer"), ("distilbert", "distilbert.transformer.layer")]
)
def test_the_layers_are_the_teachers_and_the_rest_stays(tmp_path: Path, kind: str, place: str) -> None:
    source = teacher(tmp_path, kind)
    model, whole = opened(source), opened(source)
    setting, _, validation = set_up(source, read_package(source))
    assert drop_layers(model, 2) == [1, 3]
    layer = numbers(whole.get_submodule(f"{place}.0"))
    assert numbers(whole) - numbers(model) == 2 * layer
    folder = saved(model, source, tmp_path / "small")
    loaded = opened(folder)
    assert loaded.config.num_hidden_layers == 2
    for name, value in loaded.state_dict().items():
        known = name.replace(f"{place}.1.", f"{place}.3.").replace(f"{place}.0.", f"{place}.1.")
        assert torch.equal(value, whole.state_dict()[known]), name
    found = exported(folder, tmp_path / "model.onnx")
    assert (found["Attention"], found["SkipLayerNormalization"], found["BiasGelu"]) == (2, 4, 2)
    answers = asked_onnx(tmp_path / "model.onnx", validation, setting.package.inputs)
    np.testing.assert_allclose(answers, logits(model, validation, setting), atol=1e-5)


def test_kinds_of_layers_go_with_them() -> None:
    config = transformers.ModernBertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=48,
        pad_token_id=0,
        layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    )
    model = transformers.ModernBertForSequenceClassification(config)
    assert drop_layers(model, 2) == [1, 3]
    assert model.config.layer_types == ["sliding_attention", "full_attention"]
    ids = torch.arange(1, 9)[None]
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape == (1, 2)


def test_what_cannot_lose_layers_says_why(tmp_path: Path) -> None:
    model = opened(teacher(tmp_path))
    with pytest.raises(ValueError, match=r"5 layers are to stay; allowed is 1 to 4"):
        drop_layers(model, 5)
    with pytest.raises(ValueError, match=r"0 layers are to stay"):
        drop_layers(model, 0)
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4, "embedding_size": 16}
    shared = transformers.AlbertForSequenceClassification(
        transformers.AlbertConfig(intermediate_size=64, num_hidden_layers=4, **sizes)
    )
    with pytest.raises(ValueError, match=r"Albert.* cannot lose layers: its config has 4, its longest list is 1"):
        drop_layers(shared, 2)
