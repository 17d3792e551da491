"""evaluate: a model on the frozen test rows; evaluate_champion: the model in production on the same rows."""

from __future__ import annotations

import logging

from mlops.config import PipelineConfig
from mlops.errors import StoreError
from mlops.scoring import score
from mlops.types import Evaluation, ModelArtifact, Release, Snapshot

log = logging.getLogger("evergreen")


def evaluate(config: PipelineConfig, model: ModelArtifact, snapshot: Snapshot) -> Evaluation:
    """Metrics with intervals on the test split; one score per row is kept for paired tests."""
    evaluation = score(model, snapshot)
    _tell("candidate", evaluation)
    return evaluation


def evaluate_champion(config: PipelineConfig, champion: Release | None, snapshot: Snapshot) -> Evaluation | None:
    """The champion's shipped file on the snapshot's test rows, through the runtime that serves it; none without one.

    Raises StoreError when its files are gone or damaged: comparing with nothing instead would let anything in.
    """
    if champion is None:
        return None
    try:
        evaluation = score(champion.model, snapshot)
    except StoreError as error:
        raise StoreError(
            f"the champion, {champion.name} version {champion.version}, cannot be compared with: {error}; bring its files "
            f"back, or let an earlier version serve: mlops rollback {champion.name} --reason 'files lost'"
        ) from error
    _tell(f"champion, version {champion.version}", evaluation)
    return evaluation


def _tell(who: str, evaluation: Evaluation) -> None:
    shown = ", ".join(
        f"{name} {metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"
        for name, metric in evaluation.metrics.items()
        if "/" not in name
    )
    log.info("evaluate: %s: %s", who, shown)
