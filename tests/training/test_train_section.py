"""The train section: its defaults, what it refuses, and that its words reach the training."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tiny import put_prepared, tiny_base, tiny_config, tiny_rows, tiny_run, tiny_snapshot

from mlops.config_train import TrainSection
from mlops.steps.fine_tune import fine_tune
from mlops.store import open_store
from mlops.tasks import get
from mlops.tasks.base import Examples, Rules
from mlops.training.base import pin
from mlops.training.losses import rules
from mlops.training.optimizer import factor
from mlops.training.setting import State

TASK = get("text-classification")


def test_the_defaults_train_as_before() -> None:
    section = TrainSection()
    assert (section.accumulate, section.schedule, section.precision) == (1, "linear", "auto")
    assert (section.launch.processes, section.launch.strategy) == ("auto", "ddp")
    assert (section.class_weights, section.patience, section.lora, section.warm_start) == (None,) * 4
    assert section.checkpoint_seconds == 300


def test_what_is_written_is_taken() -> None:
    section = TrainSection.model_validate(
        {"class_weights": "none", "lora": {}, "launch": {"processes": 2}, "warm_start": {}, "layer_decay": "9e-1"}
    )
    assert section.class_weights is None
    assert section.lora is not None
    assert (section.lora.rank, section.lora.alpha, section.lora.targets) == (8, 16, None)
    assert section.launch.processes == 2
    assert section.warm_start is not None
    assert section.warm_start.replay == 0.3
    assert section.layer_decay == 0.9
    assert TrainSection.model_validate(section.model_dump(mode="json")) == section


@pytest.mark.parametrize(
    "values",
    [
        {"accumulate": 0},
        {"schedule": "step"},
        {"class_weights": "inverse"},
        {"label_smoothing": 1.0},
        {"patience": 0},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
        {"freeze_embeddings": 1},
        {"freeze_layers": -1},
        {"lora": {"rank": 0}},
        {"lora": {"ranks": 4}},
        {"lora": {"targets": []}},
        {"lora": True},
        {"precision": "fp16"},
        {"checkpoint_seconds": -1},
        {"launch": {"processes": 0}},
        {"launch": {"processes": "2"}},
        {"launch": {"processes": "all"}},
        {"launch": {"strategy": "zero"}},
        {"warm_start": {"replay": 1.5}},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(values: dict) -> None:
    with pytest.raises(ValidationError):
        TrainSection.model_validate(values)


def test_balanced_weights_make_every_label_count_the_same() -> None:
    targets = [0] * 80 + [1] * 15 + [2] * 5
    rows = Examples([str(number) for number in range(100)], [], targets)
    found = rules(TASK, TrainSection(class_weights="balanced", label_smoothing=0.1), rows, ("a", "b", "c", "unseen"))
    assert found.smoothing == 0.1
    assert found.weights is not None
    counted = np.array(found.weights)[targets]
    assert counted.mean() == pytest.approx(1)
    assert [counted[np.array(targets) == label].sum() for label in range(3)] == pytest.approx([100 / 3] * 3)
    assert found.weights[3] == 1
    assert rules(TASK, TrainSection(), rows, ("a", "b", "c")) == Rules(None, 0.0)


def test_schedules() -> None:
    places = (0.05, 0.1, 0.55, 1.0)
    assert [factor(place, 0.1, "constant") for place in places] == pytest.approx([0.5, 1, 1, 1])
    assert [factor(place, 0.1, "cosine") for place in places] == pytest.approx([0.5, 1, 0.5, 0])
    assert factor(0.325, 0.1, "cosine") > factor(0.325, 0.1, "linear")


def test_a_state_comes_back_from_json_as_it_was() -> None:
    state = State(2048)
    state.step, state.loss, state.weight = 3, 1 / 3, 3.0
    state.close(0.1 + 0.2, 0.7, 99)
    state.halved, state.budget = True, 1024
    assert State.load(json.loads(json.dumps(state.dump()))) == state


def test_balanced_weights_find_a_rare_label(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    snapshot = tiny_snapshot(base)
    rows = [
        row | {"row_id": str(number)}
        for number, row in enumerate(tiny_rows(260))
        if row["label"] != "waters" or number % 24 == 2
    ]
    snapshot = snapshot.model_copy(update={"splits": snapshot.splits | {"train": put_prepared(rows, base)}})
    found = {}
    for weights in (None, "balanced"):
        train = {"epochs": 4, "learning_rate": 5e-3, "batch_tokens": 256, "class_weights": weights}
        model = fine_tune(
            tiny_config(base, train=train, gate={"metric": "f1/waters"}), snapshot, pin(str(base)), tiny_run(base)
        )
        folder = open_store().fetch(model.files)
        found[weights] = json.loads((folder / "training.json").read_text())["epochs"][-1]["metric"]
    assert found["balanced"] > found[None]


def test_the_log_says_what_is_computed_where(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = tiny_base(tmp_path / "base")
    train = {"epochs": 1, "batch_tokens": 256, "accumulate": 2, "freeze_layers": 1, "precision": "fp32"}
    with caplog.at_level(logging.INFO, "evergreen"):
        fine_tune(tiny_config(base, train=train), tiny_snapshot(base), pin(str(base)), tiny_run(base))
    assert "168 rows, " in caplog.text
    assert " weights, on cpu in fp32, 1 process; 2 x 256 tokens per step" in caplog.text
