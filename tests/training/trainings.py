"""A tiny base whose steps depend on their rows alone, and what a training in this process needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import LABELS, tiny_base, tiny_config, tiny_snapshot

from mlops.store import open_store
from mlops.tasks import get
from mlops.tasks.base import Examples
from mlops.training.device import Device, seed_all
from mlops.training.models import describe, load_model
from mlops.training.setting import Setting

TASK = get("text-classification")
TRAIN = {"epochs": 2, "learning_rate": 5e-3, "batch_tokens": 256}


def plain_base(folder: Path) -> Path:
    """A tiny base without dropout: what a step gives depends on its rows alone."""
    base = tiny_base(folder)
    config = json.loads((base / "config.json").read_text())
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (base / "config.json").write_text(json.dumps(config | none))
    return base


def made(base: Path, **changes: object) -> tuple[Any, Examples, Examples, Setting]:
    """(model, rows, validation, setting) of the tiny snapshot."""
    config = tiny_config(base, train=TRAIN | changes)
    snapshot = tiny_snapshot(base)
    rows, validation = (
        TASK.read(open_store().fetch(snapshot.splits[name]), LABELS) for name in ("train", "validation")
    )
    seed_all(13)
    model = load_model(base, TASK, LABELS)
    package = describe(model, base, TASK, LABELS, 24, "base")
    setting = Setting(TASK, package, config.train, "macro_f1", Device("cpu", False), lambda values, step: None)
    return model, rows, validation, setting


def same_training(one: dict, two: dict) -> None:
    """Two histories agree up to the order of sums."""
    assert one["steps"] == two["steps"]
    assert one["best_epoch"] == two["best_epoch"]
    for first, second in zip(one["epochs"], two["epochs"], strict=True):
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-4)
        assert first["validation_loss"] == pytest.approx(second["validation_loss"], abs=1e-4)
        assert first["metric"] == pytest.approx(second["metric"])
        assert first["rows"] == second["rows"] == 168
