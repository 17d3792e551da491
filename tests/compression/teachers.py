"""Tiny fine-tuned models to be made smaller: four layers, without dropout, trained in this process."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tiny import LABELS, SPREAD, tiny_base, tiny_rows

from mlops.config_train import TrainSection
from mlops.serving.inputs import Encoder
from mlops.serving.package import Package, read_package
from mlops.tasks import get
from mlops.tasks.base import IGNORED, Examples
from mlops.training.device import Device, seed_all
from mlops.training.loop import train
from mlops.training.losses import judged
from mlops.training.models import describe, load_model, save_model
from mlops.training.predictor import logits_of
from mlops.training.setting import Setting

torch.set_num_threads(1)

SECTION = TrainSection(epochs=4, learning_rate=5e-3, batch_tokens=256)
METRICS = {"token-classification": "f1", "text-ranking": "ndcg@10"}
DEPTH = {"bert": "num_hidden_layers", "distilbert": "n_layers"}


def deep_base(folder: Path, kind: str = "bert", layers: int = 4) -> Path:
    """`tiny_base` with more layers and no dropout: what a step gives depends on its rows alone."""
    base = tiny_base(folder, kind)
    values = json.loads((base / "config.json").read_text())
    none = {name: 0.0 for name in values if "dropout" in name and isinstance(values[name], float)}
    config = transformers.AutoConfig.for_model(**values | none | {DEPTH[kind]: layers, "initializer_range": SPREAD})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        transformers.AutoModel.from_config(config).save_pretrained(base)
    return base


def outputs_of(key: str) -> tuple[str, ...]:
    """The labels that `examples` gives a task."""
    names = {"token-classification": ("X",), "text-ranking": ("0", "1", "2")}.get(key, LABELS)
    return get(key).outputs(names)


def examples(base: Path, package: Package, n: int, seed: int) -> Examples:
    """Labelled rows of a task made from `tiny_rows`: tags are the words of the first label, pairs the halves of a text."""
    task, place = get(package.task), {label: position for position, label in enumerate(LABELS)}
    rows = tiny_rows(n, seed=seed)
    texts = [row["text"].split(" ") for row in rows]
    labels = [place[row["label"]] for row in rows]
    items: list[Any] = {
        "text": [row["text"] for row in rows],
        "pair": [(" ".join(words[:4]), " ".join(words[4:])) for words in texts],
        "tokens": texts,
    }[task.kind]
    encoded = Encoder(base, package, task).encode(items)
    names = [f"row-{number}" for number in encoded.items]
    if task.kind == "tokens":
        known = {word for row, words in zip(rows, texts, strict=True) if row["label"] == LABELS[0] for word in words}
        known -= {word for row, words in zip(rows, texts, strict=True) if row["label"] != LABELS[0] for word in words}
        targets: list[Any] = []
        for ids, where, words in zip(encoded.input_ids, encoded.places or [], texts, strict=True):
            target = np.full(len(ids), IGNORED, dtype=np.int64)
            target[where] = [1 if word in known else 0 for word in words[: len(where)]]
            targets.append(target)
        return Examples(names, encoded.input_ids, targets, None, None, [(number, 0) for number in encoded.items])
    if not task.one_label:
        flags = np.eye(len(LABELS), dtype=np.float32)
        return Examples(names, encoded.input_ids, [flags[label] for label in labels])
    groups = [f"group-{number // 6}" for number in range(n)] if task.kind == "pair" else None
    return Examples(names, encoded.input_ids, list(labels), encoded.seconds, groups)


def set_up(folder: Path, package: Package, section: TrainSection = SECTION) -> tuple[Setting, Examples, Examples]:
    """(setting, rows, validation) on the CPU in fp32."""
    task = get(package.task)
    metric = METRICS.get(task.key, "macro_f1")
    setting = Setting(task, package, section, metric, Device("cpu", False), lambda values, step: None)
    return setting, examples(folder, package, 200, 0), examples(folder, package, 60, 1)


def teacher(place: Path, kind: str = "bert", key: str = "text-classification") -> Path:
    """A fine-tuned model's folder below `place`, made once."""
    return _teacher(place, kind, key)


@functools.cache
def _teacher(place: Path, kind: str, key: str) -> Path:
    base = deep_base(place / f"base-{kind}-{key}".replace(":", "-"), kind)
    labels = outputs_of(key)
    seed_all(13)
    model = load_model(base, get(key), labels)
    package = describe(model, base, get(key), labels, 24, "base@0")
    setting, rows, validation = set_up(base, package, SECTION.model_copy(update={"epochs": 10}))
    train(model, rows, validation, setting)
    folder = base.parent / f"{base.name}-tuned"
    folder.mkdir()
    save_model(model, base, folder, package)
    return folder


def opened(folder: Path, attention: str = "sdpa") -> Any:
    """The model of a folder, in eval mode."""
    package = read_package(folder)
    return load_model(folder, get(package.task), package.labels, attention).eval()


def saved(model: Any, source: Path, folder: Path) -> Path:
    """The model in a folder of its own, with the source's package."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_model(model, source, folder, read_package(source))
    return folder


def logits(model: Any, rows: Examples, setting: Setting) -> np.ndarray:
    """[rows, labels]; tokens of all rows below each other."""
    found = logits_of(model, rows.input_ids, setting.package, setting.device, rows.seconds)
    return np.vstack([np.atleast_2d(each) for each in found])


def loss(model: Any, rows: Examples, setting: Setting) -> float:
    found = logits_of(model, rows.input_ids, setting.package, setting.device, rows.seconds)
    return judged(setting, rows, found, setting.package.labels, "a test")[1]


def numbers(model: Any) -> int:
    return sum(value.numel() for value in model.parameters())


def exported(folder: Path, path: Path) -> dict[str, int]:
    """Writes ONNX; how many fusions were found."""
    from mlops.compression.export import export

    return export(opened(folder, "eager"), path, read_package(folder).inputs)


def asked_onnx(path: Path, rows: Examples, inputs: Sequence[str]) -> np.ndarray:
    """[rows, labels] of single rows."""
    import onnxruntime

    from mlops.serving.inputs import pad

    session = onnxruntime.InferenceSession(str(path))
    seconds = rows.seconds or [None] * len(rows)
    parts = [
        session.run(["logits"], pad([ids], 0, inputs, None if second is None else [second]))[0][0]
        for ids, second in zip(rows.input_ids, seconds, strict=True)
    ]
    return np.vstack([np.atleast_2d(part) for part in parts])
