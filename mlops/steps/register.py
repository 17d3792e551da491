"""register: the chosen file as a version of the MLflow model; refused without passing verdicts."""

from __future__ import annotations

from mlops import registry
from mlops.code import git_commit
from mlops.config import PipelineConfig
from mlops.types import Evaluation, Release, Run, Selection, Snapshot, Verdict


def register(
    config: PipelineConfig,
    run: Run,
    snapshot: Snapshot,
    data_verdict: Verdict,
    gate_verdict: Verdict,
    selection: Selection,
    evaluation: Evaluation,
) -> Release:
    """The release with its version number. Raises Rejected where data, candidate or file did not pass."""
    chosen = selection.chosen
    if chosen is None:
        Verdict(subject="files", checks=()).require()
    assert chosen is not None
    judged = selection.evaluations[chosen.variant]
    release = Release(
        name=config.name,
        version="",
        variant=chosen.variant,
        # The weights may come from an earlier run with other limits: what is released was judged by these.
        model=chosen.model_copy(update={"config_sha256": config.fingerprint}),
        evaluation=judged,
        verdicts=(data_verdict, gate_verdict, selection.verdicts[chosen.variant]),
        replaces=run.champion.version if run.champion else None,
    )
    tags = {
        "evergreen.retrain_id": run.retrain_id,
        "evergreen.rows": str(snapshot.rows),
        "evergreen.metric": f"{judged.metrics[config.gate.metric].value:.4f}",
        "evergreen.original_metric": f"{evaluation.metrics[config.gate.metric].value:.4f}",
    }
    tags |= {f"airflow.{key}": value for key, value in run.airflow.items()}
    if commit := git_commit():
        tags["git_commit"] = commit
    return registry.register(release, tags, run.mlflow_run_id)
