"""A smaller network that answers as the fine-tuned one does: cut, then taught by it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops.compression.droplayers import drop_layers
from mlops.compression.prune import inner_size, prune
from mlops.config_train import TrainSection
from mlops.serving.package import read_package
from mlops.tasks import get
from mlops.tasks.base import Examples, Item
from mlops.training.layers import layers
from mlops.training.setting import Reporter, Setting

log = logging.getLogger("evergreen")


def student(
    source: Path,
    target: Path,
    kind: str,
    keep: float,
    rows: Examples,
    validation: Examples,
    train: TrainSection,
    metric: str,
    epochs: int,
    seed: int,
    unlabelled: Sequence[Item] = (),
    report: Reporter = lambda values, step: None,
) -> dict[str, Any]:
    """Writes a smaller model's folder, in the form of `source`; returns what was done.

    source: a fine-tuned torch model. kind: pruned (fewer attention heads and inner neurons) or student (fewer layers).
    keep: the share that is left of them. rows, validation: prepared, with the source's labels. train: how the source was trained;
    `epochs` takes the place of its own. unlabelled: items that the teacher alone answers. report: as
    mlops.training.setting has it; what it raises ends the training. Raises ValueError for another
    kind, and for an architecture that cannot be cut so; EvergreenError as `loop.train` does.
    """
    from mlops.compression.distil import asked, distil
    from mlops.training.device import pick, seed_all
    from mlops.training.losses import rules
    from mlops.training.models import load_model, save_model
    from mlops.training.temperature import fitted

    started = time.perf_counter()
    package = read_package(source)
    task, labels = get(package.task), package.labels
    section = _section(train, epochs, seed)
    device = pick(section.precision)
    nothing = rules(task, section, rows, labels)
    setting = Setting(task, package, section, metric, device, report, nothing)
    teacher, model = (load_model(source, task, labels) for _ in range(2))
    seed_all(seed)
    before = parameters(model)
    places = shrink(model, kind, keep, rows, setting)
    more = asked(unlabelled, teacher, source, setting) if unlabelled else None
    history = distil(teacher, model, rows, validation, setting, places, more)
    temperature = fitted(model, validation, setting)
    target.mkdir(parents=True, exist_ok=True)
    save_model(model, source, target, package.model_copy(update={"temperature": temperature}))
    history |= {"temperature": temperature, "teacher": before}
    (target / "training.json").write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    return {
        "kind": kind,
        "parameters_before": before,
        "parameters": parameters(model),
        "layers": layers(model)[1],
        "inner_size": inner_size(model)[1],
        "seconds": time.perf_counter() - started,
        "epochs": history["epochs"],
    }


def shrink(model: Any, kind: str, keep: float, rows: Examples, setting: Setting) -> list[int]:
    """Cuts in place; returns per layer that is left which one it was."""
    if kind == "student":
        size = layers(model)[1]
        return drop_layers(model, min(size, max(1, round(size * keep))))
    if kind == "pruned":
        prune(model, rows, setting, keep)
        return list(range(layers(model)[1]))
    raise ValueError(f"kind is {kind!r}; allowed: pruned, student")


def parameters(model: Any) -> int:
    """How many numbers a model has learned."""
    return sum(value.numel() for value in model.parameters())


def _section(train: TrainSection, epochs: int, seed: int) -> TrainSection:
    """All weights are trained, from those that are there."""
    own: dict[str, Any] = {"epochs": epochs, "seed": seed, "warm_start": None, "lora": None, "patience": None}
    own |= {"freeze_embeddings": False, "freeze_layers": 0, "layer_decay": 1.0}
    return train.model_copy(update=own)
