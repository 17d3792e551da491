"""Judge each compressed file as the file that ships, and choose the cheapest that holds."""

from __future__ import annotations

import logging

from mlops import looks, records
from mlops.config import PipelineConfig
from mlops.judgement import Limits, judge
from mlops.rows import load_rows
from mlops.scoring import score, texts_of
from mlops.types import Baselines, Evaluation, Release, Selection, Snapshot, Variants, Verdict

log = logging.getLogger("evergreen")


def verify(
    config: PipelineConfig,
    original: Evaluation,
    variants: Variants,
    champion: Evaluation | None,
    baselines: Baselines,
    snapshot: Snapshot,
    data_verdict: Verdict,
    release: Release | None,
) -> Selection:
    """Scores every variant through the serving runtime on the frozen test rows; the smallest file that passes ships.

    The look is the candidate's: what its files may do is decided by the same rows once. fp32 is the fallback because it is
    the largest; it has to keep the limits of the pipeline file like any other. Chosen is none when no file passes: then
    nothing ships, and the verdicts say why. release: the champion's.
    """
    look = looks.take(config.name, load_rows(original), original, champion)
    earlier = release.evaluation.per_row if release and champion else None
    texts, version = texts_of(snapshot), release.version if release else None
    section = config.verify
    limits = Limits(config.compress.max_drop, section.max_flips, section.p95_ms, section.max_size_mb)
    evaluations, verdicts = {}, {}
    for model in variants.models:
        evaluation = score(model, snapshot, behaviour=config.behaviour)
        inputs = records.Inputs(evaluation, champion, baselines.evaluations, earlier, original)
        case = records.case_of(
            config.task_key,
            config.gate,
            inputs,
            subject=model.variant,
            required=config.baselines,
            look=look,
            noise_rate=records.noise_rate(data_verdict),
            limits=limits,
        )
        verdict = records.write(case, judge(case), inputs, texts, version)
        log.info("verify: %s", verdict.explain())
        evaluations[model.variant], verdicts[model.variant] = evaluation, verdict
    passing = [model for model in variants.models if verdicts[model.variant].outcome == "pass"]
    chosen = min(passing, key=lambda model: model.files.size_bytes, default=None)
    return Selection(chosen=chosen, evaluations=evaluations, verdicts=verdicts)
