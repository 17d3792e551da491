"""Judge the candidate against the champion, the floor and the baselines on the same frozen rows."""

from __future__ import annotations

from mlops import looks, records
from mlops.config import PipelineConfig
from mlops.judgement import judge
from mlops.rows import load_rows
from mlops.scoring import texts_of
from mlops.types import Baselines, Evaluation, Release, Snapshot, Verdict


def gate(
    config: PipelineConfig,
    candidate: Evaluation,
    champion: Evaluation | None,
    baselines: Baselines,
    snapshot: Snapshot,
    data_verdict: Verdict,
    release: Release | None,
) -> Verdict:
    """The verdict on a candidate: pass, fail or inconclusive; its report is the whole record.

    The rule itself is `mlops.judgement`, which does no I/O; here the look at the test rows is counted. champion: how the
    champion's release did on the same rows.
    """
    earlier = release.evaluation.per_row if release and champion else None
    inputs = records.Inputs(candidate, champion, baselines.evaluations, earlier)
    case = records.case_of(
        config.task_key,
        config.gate,
        inputs,
        subject="candidate",
        required=config.baselines,
        look=looks.take(config.name, load_rows(candidate), candidate, champion),
        noise_rate=records.noise_rate(data_verdict),
    )
    return records.write(case, judge(case), inputs, texts_of(snapshot), release.version if release else None)
