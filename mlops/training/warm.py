"""Warm start: the champion's weights as a beginning, its rows rehearsed a little, what it forgets measured.

Rehearsing a share of the old rows keeps a network from forgetting them (Robins, "Catastrophic forgetting, rehearsal and
pseudorehearsal", 1995).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.config import PipelineConfig
from mlops.errors import StoreError, UserError
from mlops.serving.package import read_package
from mlops.store import open_store
from mlops.tasks.base import Examples, Task
from mlops.training import rows as row_files
from mlops.training.rows import TRAINED_ON, VALIDATED_ON, Digests, known, sample
from mlops.training.setting import Setting
from mlops.types import ArtifactRef, Base, Run, Snapshot

log = logging.getLogger("evergreen")

Splits = Mapping[str, Mapping[str, int]]  # {split: {row id: digest}}


@dataclass(frozen=True)
class Start:
    """Where a training begins. sha256: of the champion's torch files in `folder`. rows: ids of those to train on, of which
    `new` are unknown to the champion. judged: ids of the validation rows that its training had. seen: what it was trained on."""

    folder: Path
    sha256: str
    rows: set[str]
    new: int
    judged: set[str]
    seen: Digests


def plan(config: PipelineConfig, snapshot: Snapshot, base: Base, run: Run, task: Task, splits: Splits) -> Start | str:
    """How to begin with the champion's weights, or why that cannot be."""
    found = _weights(run, base, task, task.outputs(snapshot.labels))
    if isinstance(found, str):
        return found
    folder, sha256 = found
    try:
        seen, validated = row_files.read(folder / TRAINED_ON), row_files.read(folder / VALIDATED_ON)
    except (OSError, ValueError):
        return f"the champion's model does not say what it was trained on ({TRAINED_ON}, {VALIDATED_ON})"
    for split in ("validation", "test"):
        # Rows that it has learned by heart would be judged here as if they were new.
        learned = known(splits.get(split, {}), seen)
        if learned:
            return f"{len(learned):,} rows of {split} are among those that the champion was trained on"
    train = splits["train"]
    old = known(train, seen)
    new = set(train) - old
    if not new:
        return "no row is new to the champion"
    share = config.train.warm_start.replay if config.train.warm_start else 0.0
    replayed = sample(train, old, share, f"{config.train.seed} {snapshot.revision}")
    return Start(folder, sha256, new | replayed, len(new), known(splits["validation"], validated), seen)


def _weights(run: Run, base: Base, task: Task, labels: Sequence[str]) -> tuple[Path, str] | str:
    """(folder, sha256) of the champion's torch files, if they are of the same kind as what is trained now."""
    if run.champion is None:
        return "there is no champion"
    model, store = run.champion.model, open_store()
    if model.task != task.key:
        return f"the champion's task is {model.task}, not {task.key}"
    theirs = model.base_model.rpartition("@")[2]
    if theirs != base.sha256:
        return f"the champion was tuned from another base model (sha256 {theirs[:12]}, now {base.sha256[:12]})"
    sha256 = model.parent_sha256
    if sha256 is None:
        return "the champion does not say which torch weights it was made from"
    ref = ArtifactRef(kind="model", uri=store.blobs.uri(f"model/{sha256}"), sha256=sha256, size_bytes=0)
    if not store.exists(ref):
        return f"the champion's torch weights (model/{sha256}) are no longer in the store"
    try:
        folder = store.fetch(ref)
        package = read_package(folder)
    except (StoreError, UserError) as error:
        return f"the champion's torch weights cannot be used: {error}"
    if package.labels != tuple(labels):
        return f"the champion's outputs are {', '.join(package.labels)}; now they are {', '.join(labels)}"
    return folder, sha256


def metric_on(model: Any, validation: Examples, setting: Setting) -> float | None:
    """The deciding metric of a model on some validation rows; none without rows."""
    from mlops.training.predictor import logits_of

    if not len(validation):
        return None
    model.to(setting.device.name)
    logits = logits_of(model, validation.input_ids, setting.package, setting.device, validation.seconds)
    model.to("cpu")
    return setting.task.metrics(logits, validation, setting.package.labels)[setting.metric]


def forgetting(
    start: Start, before: float | None, after: float | None, setting: Setting, margin: float
) -> dict[str, Any]:
    """What training.json says of a warm start; a warning where the champion's own validation rows fare worse by more than
    `margin`."""
    told: dict[str, Any] = {"from": start.sha256, "new_rows": start.new, "replayed_rows": len(start.rows) - start.new}
    if before is None or after is None:
        log.info("fine_tune: nothing to measure forgetting by: no validation row is one of the champion's")
        return told | {"forgetting": None}
    change = after - before
    text = "fine_tune: %s on the %s validation rows that the champion had: %.4f before, %.4f after (%+.4f)"
    level = logging.WARNING if change < -margin else logging.INFO
    log.log(level, text, setting.metric, f"{len(start.judged):,}", before, after, change)
    if level == logging.WARNING:
        log.warning("fine_tune: that is worse by more than gate.margin (%g): raise train.warm_start.replay", margin)
    rows = {"rows": len(start.judged), "metric": setting.metric}
    return told | {"forgetting": rows | {"before": before, "after": after, "difference": change}}
