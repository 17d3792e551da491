"""fine_tune: the base model trained on the prepared rows; the weights of the best epoch become an artifact."""

from __future__ import annotations

from collections.abc import Callable

from mlops.config import PipelineConfig
from mlops.errors import UserError
from mlops.store import open_store
from mlops.tasks import get, require_metric
from mlops.tasks.base import Task
from mlops.types import Base, ModelArtifact, Run, Snapshot

Reporter = Callable[[dict[str, float], int], None]


def fine_tune(
    config: PipelineConfig, snapshot: Snapshot, base: Base, run: Run, report: Reporter | None = None
) -> ModelArtifact:
    """The variant "torch": the weights, and what `mlops.training.fit` writes beside them.

    A training that was killed goes on from its newest checkpoint; they are removed when the artifact is stored. report:
    takes the metrics of steps and epochs in place of the MLflow run; what it raises ends the training.
    Raises BaseModelError when the base is gone or changed since it was pinned, UserError for a snapshot that cannot train
    a model, EvergreenError with the row ids when the loss is not finite, or with what to lower when memory runs out.
    """
    from mlops.training.checkpoints import Checkpoints, place
    from mlops.training.fit import Job, fit
    from mlops.training.launch import device_kind, processes, together
    from mlops.training.ranks import Ranks

    task, store = get(config.task_key), open_store()
    _check(config, snapshot, task)
    count = processes(config.train.launch)
    # A trial is short, and not gone on with: it leaves nothing behind.
    kept = place(config, snapshot, base, run, count, device_kind()) if report is None else None
    with store.workspace() as folder:
        job = Job(config, snapshot, base, run, folder, kept)
        if count > 1:
            together(job, count, report)
        else:
            fit(job, Ranks(), report)
        files = store.put(folder, "model")
    if kept is not None:
        Checkpoints(kept, config.train.checkpoint_seconds).remove()
    return ModelArtifact(
        files=files,
        task=task.key,
        base_model=f"{base.uri}@{base.sha256}",
        variant="torch",
        snapshot_sha256=snapshot.revision,
        config_sha256=config.fingerprint,
    )


def _check(config: PipelineConfig, snapshot: Snapshot, task: Task) -> None:
    """UserError for what would only come out after an hour of training."""
    if len(snapshot.labels) < (2 if task.one_label else 1):
        raise UserError(f"the snapshot has the labels {list(snapshot.labels)}; a classifier needs two or more")
    if not snapshot.rows.get("train"):
        raise UserError(f"the snapshot has no rows in train; it has {snapshot.rows}")
    require_metric(task, config.gate.metric, task.outputs(snapshot.labels))
