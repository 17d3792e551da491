"""Judge the candidate against the champion, the floor and the majority baseline on the same frozen rows."""

from __future__ import annotations

from mlops.config import PipelineConfig
from mlops.judgement import judge_candidate
from mlops.rows import load_rows
from mlops.tasks import get
from mlops.types import Evaluation, Verdict


def gate(config: PipelineConfig, candidate: Evaluation, champion: Evaluation | None) -> Verdict:
    """The verdict on a candidate: pass, fail or inconclusive. The rule itself is `mlops.judgement`, which does no I/O."""
    theirs = load_rows(champion) if champion is not None else None
    return judge_candidate(get(config.task_key), candidate, load_rows(candidate), theirs, config.gate)
