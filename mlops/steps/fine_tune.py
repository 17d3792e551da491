"""fine_tune: the base model trained on the prepared rows; the weights of the best epoch become an artifact."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops.config import PipelineConfig
from mlops.errors import BaseModelError, UserError
from mlops.store import open_store
from mlops.tasks import get, require_metric
from mlops.tasks.base import Examples, Task
from mlops.types import Base, ModelArtifact, Run, Snapshot

log = logging.getLogger("evergreen")


def fine_tune(config: PipelineConfig, snapshot: Snapshot, base: Base, run: Run) -> ModelArtifact:
    """The variant "torch": config.json, model.safetensors, tokenizer.json, package.json, training.json.

    Raises BaseModelError when the base is gone or changed since it was pinned, UserError for a snapshot that cannot
    train a model, EvergreenError with the row ids when the loss is not finite.
    """
    from mlops.training.base import resolve_pinned
    from mlops.training.device import pick, seed_all
    from mlops.training.loop import Setting, train
    from mlops.training.models import describe, load_model, save_model

    task, store = get(config.task_key), open_store()
    _check(config, snapshot, task)
    source = resolve_pinned(base)
    labels = task.outputs(snapshot.labels)
    rows = task.read(store.fetch(snapshot.splits["train"]), labels)
    validation = task.read(store.fetch(snapshot.splits["validation"]), labels)
    name, device = f"{base.uri}@{base.sha256}", pick()
    seed_all(config.train.seed)  # before the model: its head is drawn at random
    model = load_model(source, task, labels)
    package = describe(model, source, task, labels, config.model.max_length, name)
    _check_tokens(model, rows, validation, base)
    log.info("fine_tune: %s rows on %s in %s", f"{len(rows):,}", device.name, device.precision)
    report = _reporter(run.mlflow_run_id)
    history = train(model, rows, validation, Setting(task, package, config.train, config.gate.metric, device, report))
    with store.workspace() as folder:
        save_model(model, source, folder, package)
        _write_history(folder, history)
        files = store.put(folder, "model")
    return ModelArtifact(
        files=files,
        task=task.key,
        base_model=name,
        variant="torch",
        snapshot_sha256=snapshot.revision,
        config_sha256=config.fingerprint,
    )


def _check(config: PipelineConfig, snapshot: Snapshot, task: Task) -> None:
    """UserError for what would only come out after an hour of training."""
    if len(snapshot.labels) < 2:
        raise UserError(f"the snapshot has the labels {list(snapshot.labels)}; a classifier needs two or more")
    if not snapshot.rows.get("train"):
        raise UserError(f"the snapshot has no rows in train; it has {snapshot.rows}")
    require_metric(task, config.gate.metric, task.outputs(snapshot.labels))


def _check_tokens(model: Any, rows: Examples, validation: Examples, base: Base) -> None:
    size = model.config.vocab_size
    highest = max((int(ids.max()) for part in (rows, validation) for ids in part.input_ids if len(ids)), default=0)
    if highest >= size:
        raise BaseModelError(f"{base.uri}: its tokenizer gives the id {highest}, its model knows {size} tokens")


def _reporter(run_id: str | None) -> Callable[[dict[str, float], int], None]:
    if run_id is None:
        return lambda values, step: None
    from mlops.tracking import log_progress

    return lambda values, step: log_progress(run_id, values, step)


def _write_history(folder: Path, history: dict[str, Any]) -> None:
    (folder / "training.json").write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
