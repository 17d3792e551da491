"""evaluate: a model on the frozen test rows; evaluate_champion, evaluate_baselines: what it is compared with, on the same."""

from __future__ import annotations

import logging

from mlops.baselines import answers
from mlops.code import code_sha256, libraries
from mlops.config import PipelineConfig
from mlops.config_data import GOLDEN
from mlops.config_gate import BASELINES
from mlops.errors import StoreError
from mlops.scoring import keep, measured, read_split, score
from mlops.serving.cpu import saturates
from mlops.store import open_store
from mlops.tasks import get
from mlops.types import Baselines, Evaluation, ModelArtifact, Release, Snapshot, artifacts, identity

log = logging.getLogger("evergreen")


def evaluate(config: PipelineConfig, model: ModelArtifact, snapshot: Snapshot) -> Evaluation:
    """Metrics with intervals on the test split; one score per row is kept for paired tests."""
    evaluation = score(model, snapshot, behaviour=config.behaviour)
    _tell("candidate", evaluation)
    return evaluation


def evaluate_champion(config: PipelineConfig, champion: Release | None, snapshot: Snapshot) -> Evaluation | None:
    """The champion's shipped file on the snapshot's test rows, through the runtime that serves it; none without one.

    Raises StoreError when its files are gone or damaged: comparing with nothing instead would let anything in.
    """
    if champion is None:
        return None
    document = f"scored/{_key(champion.model, snapshot)}"
    if known := _remembered(document, snapshot):
        log.info("evaluate: the champion's answers to these test rows are those of an earlier run")
        return known
    try:
        evaluation = score(champion.model, snapshot)
    except StoreError as error:
        raise StoreError(
            f"the champion, {champion.name} version {champion.version}, cannot be compared with: {error}; bring its files "
            f"back, or let an earlier version serve: mlops rollback {champion.name} --reason 'files lost'"
        ) from error
    _tell(f"champion, version {champion.version}", evaluation)
    open_store().write_document(document, evaluation.model_dump(mode="json"))
    return evaluation


def _key(model: ModelArtifact, snapshot: Snapshot) -> str:
    """What the answers depend on: the file, the test rows whatever the others are, and what computes them."""
    rows = {split: snapshot.splits[split].sha256 for split in ("test", GOLDEN) if split in snapshot.splits}
    return identity([model.files.sha256, rows, code_sha256(), libraries(), saturates()])


def _remembered(document: str, snapshot: Snapshot) -> Evaluation | None:
    store = open_store()
    known = store.read_document(document)
    if known is None:
        return None
    evaluation = Evaluation.model_validate(known)
    if not all(store.exists(ref) for ref in artifacts(evaluation)):
        return None
    return evaluation.model_copy(update={"snapshot_sha256": snapshot.revision})


def evaluate_baselines(config: PipelineConfig, snapshot: Snapshot) -> Baselines:
    """What simple models that learn from the train rows answer to the test rows: all of the task, whichever the pipeline asks
    a first champion to beat. The majority needs no learning."""
    task = get(config.task_key)
    names = [name for name in BASELINES[config.task_key] if name != "majority"]
    if not names:
        return Baselines(evaluations={})
    train, test = read_split(snapshot, "train"), read_split(snapshot, "test")
    outputs = task.outputs(snapshot.labels)
    found: dict[str, Evaluation] = {}
    for name in names:
        per_row = keep(test, answers(name, task, train, test, outputs))
        found[name] = Evaluation(
            model_sha256=name,
            snapshot_sha256=snapshot.revision,
            split="test",
            metrics=measured(task, per_row, outputs),
            outputs=outputs,
            per_row=per_row,
        )
        _tell(f"baseline {name}", found[name])
    return Baselines(evaluations=found)


def _tell(who: str, evaluation: Evaluation) -> None:
    shown = ", ".join(
        f"{name} {metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"
        for name, metric in evaluation.metrics.items()
        if "/" not in name
    )
    log.info("evaluate: %s: %s", who, shown)
