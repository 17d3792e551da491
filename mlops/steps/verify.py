"""Judge each file as the file that ships; the one that `compress` chose, or fp32, or none."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mlops import looks, records
from mlops.behaviour import questions
from mlops.config import PipelineConfig
from mlops.config_behaviour import BehaviourGroup
from mlops.config_data import GOLDEN
from mlops.judgement import Limits, judge
from mlops.rows import load_rows
from mlops.scoring import read_split, score, texts_of
from mlops.serving import golden as cases
from mlops.serving.package import read_package
from mlops.serving.prove import prove
from mlops.serving.runtime import Runtime
from mlops.store import open_store
from mlops.tasks import get
from mlops.tasks.base import Item, Task
from mlops.types import Baselines, Evaluation, ModelArtifact, Release, Selection, Snapshot, Variants, Verdict

log = logging.getLogger("evergreen")

ROWS = 256  # golden rows and cases that a package is asked before it may ship
OFFLINE = 2048  # rows that are answered in one call, about


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
    """Scores every variant through the serving runtime on the frozen test rows; the smallest that passes ships, or what a
    search chose on the validation rows: then the test rows choose nothing, they say yes or no.

    The look is the candidate's. fp32 is what to fall back on, and answers as the candidate that the gate let in; it has to
    keep the limits of the pipeline file like any other. What passes is asked once more in a clean process. Chosen is none
    when no file passes: then nothing ships, and the verdicts say why. release: the champion's.
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
    chosen, proofs = None, {}
    searched = bool(variants.attempts)
    for model in variants.models if searched else sorted(variants.models, key=lambda each: each.files.size_bytes):
        if verdicts[model.variant].outcome == "pass":
            proofs[model.variant] = proved(model, snapshot, config.behaviour, section.cold_start_s)
            if proofs[model.variant].outcome == "pass":
                chosen = model
                break
    return Selection(chosen=chosen, evaluations=evaluations, verdicts=verdicts, proofs=proofs)


def proved(
    model: ModelArtifact,
    snapshot: Snapshot,
    behaviour: Sequence[BehaviourGroup] = (),
    cold_seconds: float | None = None,
) -> Verdict:
    """Whether the package answers in a clean process, where nothing that trains is loaded, as it does here: validation rows
    (test rows where there are none), golden rows, behaviour cases and odd ones, alone and in company; and what it answers
    there is what it answers offline, all rows of the split in one call. cold_seconds: most to the first answer."""
    task, folder = get(model.task), open_store().fetch(model.files)
    split = "validation" if snapshot.rows.get("validation") else "test"
    golden = _items(snapshot, GOLDEN, task)[:ROWS] if snapshot.rows.get(GOLDEN) else []
    golden = [*golden, *questions(behaviour, read_package(folder).labels, task)][:ROWS]
    items = _items(snapshot, split, task)
    items = items[:: max(1, len(items) // OFFLINE)]
    runtime = Runtime.load(folder)
    offline = runtime.logits(items)
    proof = prove(folder, items, offline, golden, cold_seconds)
    if proof.holds:  # what a server asks it before it swaps
        cases.write(open_store(), model.files.sha256, cases.make(runtime, golden or items))
    verdict = Verdict(subject=f"{model.variant} package", checks=proof.checks)
    log.info("verify: %s; first answer after %.2f s", verdict.explain(), proof.cold_seconds)
    return verdict


def _items(snapshot: Snapshot, split: str, task: Task) -> list[Item]:
    return [task.item(text) for text in read_split(snapshot, split)["text"].to_pylist()]
