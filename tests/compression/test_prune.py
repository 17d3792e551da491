"""Pruning: what matters least goes, what is left takes over, and the folder and the graph stay plain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from teachers import asked_onnx, exported, logits, loss, numbers, opened, saved, set_up, teacher

from mlops.compression.heads import attentions, silence
from mlops.compression.prune import cut, feeds, importance, inner_size, prune, prune_heads, prune_neurons
from mlops.compression.refit import moments
from mlops.serving.package import read_package


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teacher(tmp_path_factory.mktemp("pruned"), str(request.param))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teacher(tmp_path_factory.mktemp("bert"))


def test_half_of_the_neurons_and_heads_are_left_and_the_folder_loads(source: Path, tmp_path: Path) -> None:
    model = opened(source)
    setting, rows, validation = set_up(source, read_package(source))
    before = numbers(model)
    prune(model, rows, setting, 0.5)
    # Four layers lose 32 of 64 neurons: a row and a column of 32 numbers each, and a bias.
    assert before - numbers(model) == 4 * 32 * (32 + 32 + 1)
    assert inner_size(model)[1] == 32
    loaded = opened(saved(model, source, tmp_path / "small"))
    assert inner_size(loaded)[1] == 32
    np.testing.assert_allclose(logits(loaded, validation, setting), logits(model, validation, setting), atol=1e-6)


def test_its_graph_is_fused_in_every_layer_and_loses_the_silent_heads(source: Path, tmp_path: Path) -> None:
    model = opened(source)
    setting, rows, validation = set_up(source, read_package(source))
    prune(model, rows, setting, 0.5)
    folder = saved(model, source, tmp_path / "small")
    found = exported(folder, tmp_path / "model.onnx")
    assert (found["Attention"], found["SkipLayerNormalization"], found["BiasGelu"]) == (4, 8, 4)
    assert found["silent heads"] == 8  # of 16
    heads = [
        attribute.i
        for node in onnx.load(str(tmp_path / "model.onnx")).graph.node
        for attribute in node.attribute
        if attribute.name == "num_heads"
    ]
    assert sum(heads) == 8
    answers = asked_onnx(tmp_path / "model.onnx", validation, setting.package.inputs)
    np.testing.assert_allclose(answers, logits(model, validation, setting), atol=1e-5)


def test_neurons_that_do_nothing_go_first(bert: Path) -> None:
    model = opened(bert)
    setting, rows, validation = set_up(bert, read_package(bert))
    chance, parts = np.random.default_rng(3), feeds(model)
    idle = [np.sort(chance.permutation(64)[:32]) for _ in parts]
    with torch.no_grad():
        for feed, places in zip(parts, idle, strict=True):
            feed.reads.weight[:, places] = 0
    before = logits(model, validation, setting)
    busy = [np.setdiff1d(np.arange(64), places) for places in idle]
    expected = [feed.writes.weight.detach()[places] for feed, places in zip(parts, busy, strict=True)]
    assert prune_neurons(model, rows, setting, 0.5) == 32
    for feed, weights in zip(parts, expected, strict=True):
        assert torch.equal(feed.writes.weight, weights)
    np.testing.assert_allclose(logits(model, validation, setting), before, atol=1e-5)


def test_importance_is_what_the_loss_changes_by(bert: Path) -> None:
    """The derivative of each row's loss by a factor on the neuron, found by differences; absolute values are summed."""
    model = opened(bert)
    setting, rows, _ = set_up(bert, read_package(bert))
    few = type(rows)(rows.row_ids[:7], rows.input_ids[:7], rows.targets[:7])
    found = importance(model, few, setting)
    step, reader = 1e-2, feeds(model)[1].reads
    for neuron in (0, 17, 63):
        expected = 0.0
        for row in range(7):
            one = type(few)(few.row_ids[row : row + 1], few.input_ids[row : row + 1], few.targets[row : row + 1])
            ends = []
            for factor in (1 + step, 1 - step):
                with torch.no_grad():
                    reader.weight[:, neuron] *= factor
                ends.append(loss(model, one, setting))
                with torch.no_grad():
                    reader.weight[:, neuron] /= factor
            expected += abs(ends[0] - ends[1]) / (2 * step)
        assert found[1][neuron] == pytest.approx(expected, rel=0.03, abs=2e-5)


def test_padding_and_batches_do_not_count(bert: Path) -> None:
    model = opened(bert)
    setting, rows, _ = set_up(bert, read_package(bert))
    alone = replace(setting, train=setting.train.model_copy(update={"batch_tokens": 16}))
    readers = [feed.reads for feed in feeds(model)]
    for one, other in zip(importance(model, rows, setting), importance(model, rows, alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
    for one, other in zip(moments(model, readers, rows, setting), moments(model, readers, rows, alone), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-3, atol=1e-3)
        assert one[-1, -1] == sum(rows.lengths)


def test_what_is_left_takes_over(bert: Path) -> None:
    """The layer's answers after the fit are nearer to what they were than after the cut alone."""
    setting, rows, validation = set_up(bert, read_package(bert))
    expected = logits(opened(bert), validation, setting)

    def off(model: Any) -> float:
        return float(np.mean((logits(model, validation, setting) - expected) ** 2))

    fitted, plain = opened(bert), opened(bert)
    prune_neurons(fitted, rows, setting, 0.25)
    for feed, found in zip(feeds(plain), importance(plain, rows, setting), strict=True):
        none = torch.eye(65, dtype=torch.float64)  # inputs that have nothing to do with each other
        cut(feed, np.sort(np.argsort(-found, kind="stable")[:16]), none)
    assert off(fitted) < 0.5 * off(plain)
    heads = opened(bert)
    assert sum(prune_heads(heads, rows, setting, 0.5)) == 8
    bare = opened(bert)
    silence(bare, rows, setting, 0.5)
    assert off(heads) < off(bare)
    for one, other in zip(attentions(heads), attentions(bare), strict=True):
        assert torch.equal(one.reads.weight.any(dim=0), other.reads.weight.any(dim=0))  # the silent ones stay silent


def test_two_prunings_agree_to_the_last_bit(bert: Path) -> None:
    setting, rows, _ = set_up(bert, read_package(bert))
    one, other = opened(bert), opened(bert)
    for model in (one, other):
        prune(model, rows, setting, 0.5)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_all_kept_is_nothing_changed(bert: Path) -> None:
    setting, rows, _ = set_up(bert, read_package(bert))
    model = opened(bert)
    prune(model, rows, setting, 1.0)
    for name, value in opened(bert).state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_what_cannot_be_pruned_says_why(bert: Path) -> None:
    setting, rows, _ = set_up(bert, read_package(bert))
    with pytest.raises(ValueError, match=r"keep is 0; allowed is above 0, up to 1"):
        prune(opened(bert), rows, setting, 0.0)
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    square = transformers.BertForSequenceClassification(transformers.BertConfig(intermediate_size=32, **sizes))
    with pytest.raises(ValueError, match=r"cannot be pruned: layer 0 has 6 products that give 32 numbers"):
        prune(square, rows, setting, 0.5)
    gated = transformers.ModernBertForSequenceClassification(
        transformers.ModernBertConfig(intermediate_size=64, pad_token_id=0, **sizes)
    )
    with pytest.raises(ValueError, match=r"ModernBert.* cannot be pruned: layer 0"):
        prune(gated, rows, setting, 0.5)
