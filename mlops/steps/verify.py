"""Judge each compressed file as the file that ships, and choose the cheapest that holds."""

from __future__ import annotations

import logging

from mlops.config import PipelineConfig
from mlops.judgement import judge_variant
from mlops.rows import load_rows
from mlops.scoring import score
from mlops.types import Evaluation, Selection, Snapshot, Variants

log = logging.getLogger("evergreen")


def verify(
    config: PipelineConfig,
    original: Evaluation,
    variants: Variants,
    champion: Evaluation | None,
    snapshot: Snapshot,
) -> Selection:
    """Scores every variant through the serving runtime on the frozen test rows; the smallest file that passes ships.

    fp32 is the fallback because it is the largest; it has to keep the limits of the pipeline file like any other.
    Chosen is none when no file passes: then nothing ships, and the verdicts say why.
    """
    before = load_rows(original)
    theirs = load_rows(champion) if champion is not None else None
    evaluations, verdicts = {}, {}
    for model in variants.models:
        evaluation = score(model, snapshot)
        verdict = judge_variant(config, model.variant, evaluation, load_rows(evaluation), before, theirs)
        log.info("verify: %s", verdict.explain())
        evaluations[model.variant], verdicts[model.variant] = evaluation, verdict
    passing = [model for model in variants.models if verdicts[model.variant].outcome == "pass"]
    chosen = min(passing, key=lambda model: model.files.size_bytes, default=None)
    return Selection(chosen=chosen, evaluations=evaluations, verdicts=verdicts)
