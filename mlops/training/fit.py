"""One whole training: base model and rows in, a model folder out; the same in this process and in each of several."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.config import PipelineConfig
from mlops.errors import BaseModelError
from mlops.store import open_store
from mlops.tasks import get
from mlops.tasks.base import Examples, Task
from mlops.training.ranks import Ranks
from mlops.training.rows import TRAINED_ON, VALIDATED_ON, digests, subset, write
from mlops.training.setting import Reporter
from mlops.training.warm import Start
from mlops.types import Base, Run, Snapshot

log = logging.getLogger("evergreen")


@dataclass(frozen=True)
class Job:
    """What a training is given. folder: an empty one for the model; checkpoints: where they are kept, if anywhere."""

    config: PipelineConfig
    snapshot: Snapshot
    base: Base
    run: Run
    folder: Path
    checkpoints: Path | None

    def dump(self) -> str:
        """As another process of ours reads it."""
        values = {name: getattr(self, name).model_dump(mode="json", by_alias=True) for name in _VALUES}
        kept = str(self.checkpoints) if self.checkpoints else None
        return json.dumps(values | {"folder": str(self.folder), "checkpoints": kept})

    @classmethod
    def load(cls, text: str) -> Job:
        values = json.loads(text)
        typed = {name: kind.model_validate(values[name]) for name, kind in _VALUES.items()}
        kept = Path(values["checkpoints"]) if values["checkpoints"] else None
        return cls(**typed, folder=Path(values["folder"]), checkpoints=kept)


_VALUES: dict[str, Any] = {"config": PipelineConfig, "snapshot": Snapshot, "base": Base, "run": Run}


def fit(job: Job, ranks: Ranks, report: Reporter | None = None) -> None:
    """Trains; the first process writes config.json, model.safetensors, tokenizer.json, package.json, training.json and
    which rows were trained on and validated on.

    report: takes the metrics of steps and epochs in place of the MLflow run; what it raises ends the training. Raises
    BaseModelError when the base is gone or changed since it was pinned, UserError for layers that it does not have,
    EvergreenError as `loop.train` does.
    """
    from mlops.training import adapters, warm
    from mlops.training.base import resolve_pinned
    from mlops.training.checkpoints import Checkpoints
    from mlops.training.device import pick, seed_all
    from mlops.training.loop import train
    from mlops.training.losses import rules
    from mlops.training.models import describe, load_model, save_model
    from mlops.training.setting import Setting
    from mlops.training.temperature import fitted

    config, section, task = job.config, job.config.train, get(job.config.task_key)
    source, labels = resolve_pinned(job.base), task.outputs(job.snapshot.labels)
    rows, validation, splits = _read(job, task)
    start = _start(job, task, splits)
    device = pick(section.precision)
    seed_all(section.seed)  # before the model: its head is drawn at random
    model = load_model(start.folder if start else source, task, labels)
    package = describe(model, source, task, labels, config.model.max_length, f"{job.base.uri}@{job.base.sha256}")
    _check_tokens(model, rows, validation, job.base)
    rows = subset(rows, start.rows) if start else rows
    report = report or _reporter(job.run.mlflow_run_id if ranks.first else None)
    setting = Setting(task, package, section, config.gate.metric, device, report, rules(task, section, rows, labels))
    old = subset(validation, start.judged) if start else None
    before = warm.metric_on(model, old, setting) if old and ranks.first else None
    adapters.prepare(model, section)
    if not ranks.first:
        seed_all((section.seed + ranks.rank) % 2**32)  # the processes' rows differ, so does what is dropped out of them
    _say(model, rows, setting, ranks)
    kept = Checkpoints(job.checkpoints, section.checkpoint_seconds) if job.checkpoints else None
    history = train(model, rows, validation, setting, ranks, kept)
    if not ranks.first:
        return
    adapters.merge(model)
    if start and old is not None:
        after = warm.metric_on(model, old, setting)
        history["warm_start"] = warm.forgetting(start, before, after, setting, config.gate.margin)
    temperature = fitted(model, validation, setting)
    log.info("fine_tune: temperature %g, fitted on validation", temperature)
    history["temperature"] = temperature
    save_model(model, source, job.folder, package.model_copy(update={"temperature": temperature}))
    _write_history(job.folder, history)
    write(job.folder / TRAINED_ON, [*splits["train"].values(), *(start.seen.tolist() if start else ())])
    write(job.folder / VALIDATED_ON, splits["validation"].values())


def _read(job: Job, task: Task) -> tuple[Examples, Examples, dict[str, dict[str, int]]]:
    """The rows of train and of validation, and {split: {row id: digest}}; of test only where a warm start asks for it."""
    store, labels = open_store(), task.outputs(job.snapshot.labels)
    wanted = {"train", "validation"} | ({"test"} if job.config.train.warm_start else set())
    folders = {split: store.fetch(ref) for split, ref in job.snapshot.splits.items() if split in wanted}
    found = {split: digests(folder) for split, folder in folders.items()}
    return task.read(folders["train"], labels), task.read(folders["validation"], labels), found


def _start(job: Job, task: Task, splits: dict[str, dict[str, int]]) -> Start | None:
    """Where a warm start begins; none, with the reason on the log, for a full training."""
    from mlops.training import warm

    if job.config.train.warm_start is None:
        return None
    found = warm.plan(job.config, job.snapshot, job.base, job.run, task, splits)
    if isinstance(found, str):
        log.info("fine_tune: a full training although train.warm_start is set: %s", found)
        return None
    replayed = len(found.rows) - found.new
    text = "fine_tune: begins with the champion's weights: %s new rows, %s of the %s old ones again"
    log.info(text, f"{found.new:,}", f"{replayed:,}", f"{len(splits['train']) - found.new:,}")
    return found


def _say(model: Any, rows: Examples, setting: Any, ranks: Ranks) -> None:
    """What is computed where and how, before it begins."""
    from mlops.training.adapters import trainable

    free, all_ = trainable(model)
    learned = f"{free:,} weights" if free == all_ else f"{free:,} of {all_:,} weights"
    processes = "1 process" if ranks.world == 1 else f"{ranks.world} processes ({ranks.strategy})"
    log.info(
        "fine_tune: %s rows, %s, on %s in %s, %s; %d x %s tokens per step",
        f"{len(rows):,}",
        learned,
        setting.device.name,
        setting.device.precision,
        processes,
        setting.train.accumulate,
        f"{setting.train.batch_tokens:,}",
    )


def _check_tokens(model: Any, rows: Examples, validation: Examples, base: Base) -> None:
    size = model.config.vocab_size
    highest = max((int(ids.max()) for part in (rows, validation) for ids in part.input_ids if len(ids)), default=0)
    if highest >= size:
        raise BaseModelError(f"{base.uri}: its tokenizer gives the id {highest}, its model knows {size} tokens")


def _reporter(run_id: str | None) -> Reporter:
    if run_id is None:
        return lambda values, step: None
    from mlops.tracking import log_progress

    return lambda values, step: log_progress(run_id, values, step) if values else None


def _write_history(folder: Path, history: dict[str, Any]) -> None:
    (folder / "training.json").write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
