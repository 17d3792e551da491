"""What every task promises: the whole main job, tiny, and the same few things of each of its methods."""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np
import pytest
from through_mlflow import by_models_serve, by_pyfunc
from tokenizers import Tokenizer, models, pre_tokenizers
from work import EVERY, work_file

from mlops import config, pipeline
from mlops.config import METRICS
from mlops.errors import UserError
from mlops.serving.releases import load_runtime
from mlops.tasks import get


@pytest.mark.parametrize("key", EVERY)
def test_the_whole_main_job(key: str, tmp_path: Path) -> None:
    work = EVERY[key]()
    loaded = config.load(work_file(tmp_path, work))
    assert loaded.task_key == key
    summary = pipeline.run(loaded)
    assert summary["outcome"] == "promoted", summary["reason"]
    metric = summary["candidate"]["metrics"][loaded.gate.metric]
    assert metric["low"] <= metric["value"] <= metric["high"]
    runtime, served = load_runtime("tiny")
    assert served.version == "1"
    answer = runtime.predict([work.question])[0]
    assert work.right(answer), answer
    json.dumps(answer)
    assert work.right(by_pyfunc("models:/tiny@champion", work.question))
    if ":" not in key:  # its other targets come by the same way
        assert work.right(by_models_serve("models:/tiny/1", work.question, tmp_path))
    assert pipeline.run(loaded)["outcome"] == "skipped"


@pytest.mark.parametrize("key", EVERY)
def test_a_model_that_learns_nothing_is_rejected(key: str, tmp_path: Path) -> None:
    path = work_file(tmp_path, EVERY[key](), train={"learning_rate": 0.0, "epochs": 1})
    summary = pipeline.run(config.load(path))
    assert summary["outcome"] == "rejected"
    assert "candidate: fail" in summary["reason"]


@pytest.mark.parametrize("key", EVERY)
def test_a_tokenizer_that_leaves_nothing_of_some_rows(key: str, tmp_path: Path) -> None:
    """No special tokens, none for what is unknown: such rows are one padding token, in training as in serving."""
    work = EVERY[key]()
    strange = {name: f"日本 {number}" for number, name in enumerate(("text", "text_a", "text_b"))}
    rows = [
        row | {name: f"{text}{number}" for name, text in strange.items() if name in row} if number % 7 == 0 else row
        for number, row in enumerate(work.rows)
    ]
    path = work_file(tmp_path, work._replace(rows=rows), train={"epochs": 1}, gate={"floor": 0.0, "resamples": 200})
    letters = Tokenizer(models.BPE({letter: place for place, letter in enumerate(string.ascii_lowercase)}, []))
    letters.pre_tokenizer = pre_tokenizers.Whitespace()
    letters.save(str(tmp_path / "base" / "tokenizer.json"))
    loaded = config.load(path)
    assert pipeline.run(loaded)["outcome"] in ("promoted", "rejected", "inconclusive")  # judged, whatever it learned


@pytest.mark.parametrize("key", METRICS)
def test_the_pipeline_file_and_the_task_name_the_same_metrics(key: str) -> None:
    task = get(key)
    outputs = task.outputs(["1", "2"])
    names = set(task.metric_names(outputs))
    plain = {name for name in METRICS[key] if "/" not in name}
    assert plain <= names
    assert {name.partition("/")[0] for name in names if "/" in name} == {
        name.partition("/")[0] for name in METRICS[key] if "/" in name
    }


@pytest.mark.parametrize("key", EVERY)
def test_answers_to_nothing_are_nothing(key: str) -> None:
    task = get(key)
    labels = task.outputs(["1", "2"])
    assert task.decode([], [], labels) == []
    assert task.answers([], labels).predicted == []


@pytest.mark.parametrize("key", EVERY)
@pytest.mark.parametrize("asked", [7, None, {"text": "a"}, [1, 2]])
def test_what_cannot_be_asked_is_refused_with_what_was_found(key: str, asked: object) -> None:
    with pytest.raises(UserError, match="found "):
        get(key).asked(asked)


@pytest.mark.parametrize("key", EVERY)
def test_losses_are_sums_and_weights_per_row(key: str) -> None:
    import torch

    from mlops.tasks.base import Rules

    task = get(key)
    labels = task.outputs(["1", "2"])
    if task.kind == "tokens":
        targets, shape = [np.array([-100, 1, 2, -100]), np.array([-100, 0, -100, -100])], (2, 4, len(labels))
    else:
        one = np.array([1, 0], dtype=np.float32) if key.endswith("multi") else 1
        targets, shape = [one, one], (2, len(labels))
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    collated = torch.from_numpy(task.collate(targets, 4))
    for rules in (Rules(), Rules(weights=[2.0] * len(labels)), Rules(smoothing=0.1)):
        sums, weights = task.losses(logits, collated, rules)
        assert sums.shape == weights.shape == (2,)
        assert bool((sums > 0).all())
    # Row by row is the same as together.
    apart = [task.losses(logits[row : row + 1], collated[row : row + 1], Rules()) for row in range(2)]
    together = task.losses(logits, collated, Rules())
    for place in (0, 1):
        found = torch.cat([part[place] for part in apart])
        torch.testing.assert_close(found, together[place])
