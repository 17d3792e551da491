"""Judge each compressed file as the file that ships, and choose the cheapest that holds."""

from __future__ import annotations

import logging

from mlops import looks, records
from mlops.config import PipelineConfig
from mlops.judgement import judge_variant
from mlops.rows import load_rows
from mlops.scoring import score, texts_of
from mlops.types import Baselines, Evaluation, Release, Selection, Snapshot, Variants

log = logging.getLogger("evergreen")


def verify(
    config: PipelineConfig,
    original: Evaluation,
    variants: Variants,
    champion: Evaluation | None,
    baselines: Baselines,
    snapshot: Snapshot,
    release: Release | None,
) -> Selection:
    """Scores every variant through the serving runtime on the frozen test rows; the smallest file that passes ships.

    The look is the candidate's: what its files may do is decided by the same rows once. fp32 is the fallback because it is
    the largest; it has to keep the limits of the pipeline file like any other. Chosen is none when no file passes: then
    nothing ships, and the verdicts say why. release: the champion's.
    """
    before = load_rows(original)
    look = looks.take(config.name, before, original, champion)
    earlier = release.evaluation.per_row if release and champion else None
    texts, version = texts_of(snapshot), release.version if release else None
    evaluations, verdicts = {}, {}
    for model in variants.models:
        evaluation = score(model, snapshot, behaviour=config.behaviour)
        case = records.case_of(
            config.task_key,
            config.gate,
            evaluation,
            champion,
            baselines.evaluations,
            earlier,
            model.variant,
            config.baselines,
            look,
            None,
        )
        judged = judge_variant(config, case, before)
        verdict = records.write(case, judged, champion, baselines.evaluations, earlier, texts, version)
        log.info("verify: %s", verdict.explain())
        evaluations[model.variant], verdicts[model.variant] = evaluation, verdict
    passing = [model for model in variants.models if verdicts[model.variant].outcome == "pass"]
    chosen = min(passing, key=lambda model: model.files.size_bytes, default=None)
    return Selection(chosen=chosen, evaluations=evaluations, verdicts=verdicts)
