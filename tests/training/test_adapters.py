"""Frozen layers, LoRA that is merged away, and learning rates by layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tiny import tiny_base, tiny_config, tiny_run, tiny_snapshot

from mlops.config_train import LoraSection, TrainSection
from mlops.errors import UserError
from mlops.steps.fine_tune import fine_tune
from mlops.store import open_store
from mlops.tasks import get
from mlops.training import adapters
from mlops.training.base import pin
from mlops.training.layers import depths, layers
from mlops.training.models import load_model
from mlops.training.optimizer import adamw, set_rate

LABELS = ("metals", "plants", "waters")


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("models") / request.param, request.param)


def loaded(base: Path):
    return load_model(base, get("text-classification"), LABELS)


def changed(base: Path, **train: object) -> tuple[set[str], set[str], dict]:
    """(names of the encoder's weights that a training changed, all of them, its history)."""
    values = {"epochs": 2, "learning_rate": 1e-2, "batch_tokens": 256} | train
    model = fine_tune(tiny_config(base, train=values), tiny_snapshot(base), pin(str(base)), tiny_run(base))
    folder = open_store().fetch(model.files)
    before, after = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
    shared = {
        name: f"{prefix}.{name}" for name in before for prefix in ("bert", "distilbert") if f"{prefix}.{name}" in after
    }
    assert set(after) == {*loaded(base).state_dict()}  # nothing of an adapter is left
    different = {name for name, own in shared.items() if not np.array_equal(before[name], after[own])}
    return different, set(shared), json.loads((folder / "training.json").read_text())


def test_depths_from_embeddings_to_head(base: Path) -> None:
    model = loaded(base)
    place, size = layers(model)
    assert size == 2
    found = depths(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, depth in found.items():
        if "embeddings" in name:
            assert depth == 0, name
        elif name.startswith(f"{place}."):
            assert depth == 1 + int(name[len(place) + 1]), name
        else:
            assert depth == 3, name


@pytest.mark.parametrize("kind", ["roberta", "modernbert", "deberta-v2", "albert", "electra"])
def test_depths_of_other_architectures(kind: str) -> None:
    import transformers

    small = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = transformers.AutoConfig.for_model(kind, **small, num_labels=2, pad_token_id=0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    found = depths(model)
    assert 0 in found.values()
    assert max(found.values()) == layers(model)[1] + 1
    assert all(found[name] == 0 for name in found if "word_embeddings" in name or "tok_embeddings" in name)
    assert all(found[name] == max(found.values()) for name in found if name.startswith("classifier"))
    adapters.prepare(model, TrainSection(lora=LoraSection()))
    assert any("lora_" in name for name, _ in model.named_parameters())


def test_layer_decay_scales_the_rate_down_to_the_embeddings(base: Path) -> None:
    model = loaded(base)
    optimizer = adamw(model, 1e-3, 0.01, layer_decay=0.5)
    set_rate(optimizer, 0.8)
    names = {id(value): name for name, value in model.named_parameters()}
    depth = depths(model)
    seen = 0
    for group in optimizer.param_groups:
        for value in group["params"]:
            assert group["lr"] == pytest.approx(0.8 * 0.5 ** (3 - depth[names[id(value)]]))
            seen += 1
    assert seen == len(names)


def test_frozen_embeddings_stay(base: Path) -> None:
    different, every, _ = changed(base, freeze_embeddings=True)
    assert different == {name for name in every if not name.startswith("embeddings.")}


def test_frozen_layers_and_the_embeddings_below_stay(base: Path) -> None:
    different, every, done = changed(base, freeze_layers=1)
    assert different == {name for name in every if "layer.1." in name or name.startswith("pooler.")}
    assert done["epochs"][-1]["loss"] < done["epochs"][0]["loss"]


def test_more_layers_than_there_are_is_refused(base: Path) -> None:
    with pytest.raises(UserError, match=r"train\.freeze_layers: found 3; allowed: 0 to 2"):
        changed(base, freeze_layers=3)


def test_lora_changes_the_attention_and_leaves_a_plain_model(base: Path) -> None:
    different, every, done = changed(base, lora={"rank": 4, "alpha": 32, "dropout": 0.1}, epochs=4)
    attention = {name for name in every if "attention" in name and name.endswith("weight") and "LayerNorm" not in name}
    assert len(attention) == 8
    assert different == attention | {name for name in every if name.startswith("pooler.")}
    assert done["epochs"][-1]["metric"] > 0.6


def test_lora_on_named_layers_above_frozen_ones(base: Path) -> None:
    first = "query" if "bert" in str(base.name) and "distil" not in base.name else "q_lin"
    different, every, _ = changed(base, lora={"targets": [first]}, freeze_layers=1)
    adapted = {name for name in every if f"{first}.weight" in name and "layer.1." in name}
    assert different == adapted | {name for name in every if name.startswith("pooler.")}


def test_lora_on_layers_that_are_not_there_is_refused(base: Path) -> None:
    with pytest.raises(UserError, match=r"found no linear layer for wq, wk; the model has \w+, "):
        adapters.prepare(loaded(base), TrainSection(lora=LoraSection(targets=("wq", "wk"))))


def test_merged_weights_answer_as_the_adapted_model(base: Path) -> None:
    model = loaded(base).eval()
    adapters.prepare(model, TrainSection(lora=LoraSection(rank=2)))
    free, every = adapters.trainable(model)
    assert 0 < free < every / 3
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".lora_" in name:
                value.normal_(0, 0.2)
        ids = torch.randint(5, 60, (3, 9))
        before = model(input_ids=ids).logits
        adapters.merge(model)
        assert not [name for name, _ in model.named_modules() if "lora" in name]
        torch.testing.assert_close(model(input_ids=ids).logits, before)
        adapters.merge(model)  # nothing is left to do
