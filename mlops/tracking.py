"""A retrain as one MLflow run: params, metrics, the data set as an input, files, and every variant as a comparable model."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops import __version__, settings
from mlops.code import git_commit
from mlops.config import PipelineConfig
from mlops.expectations.docs import docs_folder
from mlops.tuning.choice import as_tuned
from mlops.types import Evaluation, Run, Selection, Snapshot, Tuned

log = logging.getLogger("evergreen")


def client() -> Any:
    """An MLflow client of the settings' tracking server; the folders of the embedded one are made."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    import mlflow

    for name in ("alembic", "mlflow.store", "mlflow.tracking", "mlflow.models.model"):
        logging.getLogger(name).setLevel(logging.WARNING)
    where = settings.current()
    if where.tracking_uri.startswith("sqlite:"):
        where.mlflow_db.parent.mkdir(parents=True, exist_ok=True)
        where.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(where.tracking_uri)
    return mlflow.MlflowClient()


def experiment(api: Any, name: str) -> str:
    """The id of the experiment of that name, made where there is none; embedded ones keep their files at home."""
    found = api.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    where = settings.current()
    place = None
    if where.tracking_uri.startswith("sqlite:"):
        place = (where.mlflow_artifacts / name).as_uri()
    return str(api.create_experiment(name, artifact_location=place))


def start_run(config: PipelineConfig, run_name: str, tags: Mapping[str, str]) -> str:
    """Opens the run of a retrain in the experiment named after the pipeline; its id."""
    api = client()
    commit = git_commit()
    known = {"evergreen.version": __version__, "evergreen.config": config.fingerprint} | dict(tags)
    if commit:
        known["mlflow.source.git.commit"] = commit
    known |= {"mlflow.source.name": tags.get("airflow.dag_id", "mlops run"), "mlflow.source.type": "JOB"}
    return str(api.create_run(experiment(api, config.name), run_name=run_name, tags=known).info.run_id)


def log_progress(run_id: str, metrics: Mapping[str, float], step: int) -> None:
    """Metrics of a training under way; a tracking server that is gone is a warning, not the end of a training."""
    try:
        _log(client(), run_id, metrics, step)
    except Exception as error:
        log.warning("progress of step %s was not tracked: %s: %s", step, type(error).__name__, error)


def _log(
    api: Any, run_id: str, metrics: Mapping[str, float], step: int = 0, of: Mapping[str, str] | None = None
) -> None:
    """of: model_id, dataset_name and dataset_digest that the metrics belong to."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    entries = [Metric(_key(name), float(value), now, step, **(of or {})) for name, value in metrics.items()]
    for start in range(0, len(entries), 500):
        api.log_batch(run_id, metrics=entries[start : start + 500])


def _key(name: str) -> str:
    """MLflow allows letters, digits and _-./ space : in a metric's name; a label may hold anything."""
    return "".join(sign if sign.isalnum() or sign in "_-./ :" else "_" for sign in name)[:250]


def fail_run(run_id: str | None, reason: str) -> None:
    """Ends a run that broke, with the reason."""
    if run_id is None:
        return
    api = client()
    api.set_tag(run_id, "evergreen.reason", reason[:4000])
    api.set_terminated(run_id, "FAILED")


def finish_run(
    config: PipelineConfig,
    run: Run,
    values: Mapping[str, Any],
    seconds: Mapping[str, float],
    summary: Mapping[str, Any],
    files: Mapping[str, Path],
) -> None:
    """Writes what a retrain came to and ends its run: FAILED for a rejected one, FINISHED otherwise."""
    if run.mlflow_run_id is None:
        return
    api, run_id = client(), run.mlflow_run_id
    _params(api, run_id, as_tuned(config, {}, values.get("tuned"))[0])
    _log(api, run_id, _metrics(values, seconds) | _costs(summary.get("cost", {})))
    for path in files.values():
        api.log_artifact(run_id, str(path))
    _data_docs(api, run_id, config, values)
    snapshot: Snapshot | None = values.get("snapshot") or values.get("raw")
    if snapshot:
        _input(api, run_id, config, snapshot)
        api.set_tag(run_id, "evergreen.snapshot", snapshot.revision)
    selection: Selection | None = values.get("selection")
    if selection and snapshot:
        _variants(api, run_id, selection, snapshot)
    api.set_tag(run_id, "evergreen.outcome", summary["outcome"])
    api.set_tag(run_id, "evergreen.reason", summary["reason"][:4000])
    api.set_tag(run_id, "mlflow.note.content", f"**{summary['outcome']}**\n\n```\n{summary['reason'][:4000]}\n```")
    api.set_terminated(run_id, "FAILED" if summary["outcome"] == "rejected" else "FINISHED")


def _data_docs(api: Any, run_id: str, config: PipelineConfig, values: Mapping[str, Any]) -> None:
    """The pages of the data's validation among the run's artifacts, so that who has MLflow has them."""
    verdict, raw = values.get("data_verdict"), values.get("raw")
    if verdict is None or raw is None:
        return
    if verdict.docs:
        api.set_tag(run_id, "evergreen.data_docs", verdict.docs)
    folder = docs_folder(config.name, raw.revision)
    if folder.is_dir():
        api.log_artifacts(run_id, str(folder), "data_docs")


def artifact_url(run_id: str | None, name: str) -> str | None:
    """Where a browser finds a run's artifact; none without an MLflow server that a browser can reach."""
    where = settings.current().mlflow_url
    if where is None or run_id is None:
        return None
    try:
        home = client().get_run(run_id).info.experiment_id
    except Exception as error:  # a link is not worth a retrain
        log.warning("MLflow did not say where run %s is: %s", run_id, error)
        return None
    return f"{where}/#/experiments/{home}/runs/{run_id}/artifacts/{name}"


def _params(api: Any, run_id: str, config: PipelineConfig) -> None:
    from mlflow.entities import Param

    values = config.model_dump(mode="json", by_alias=True, exclude={"suite", "root"})
    flat: dict[str, Any] = {}
    for section, entries in values.items():
        if isinstance(entries, dict):
            flat |= {f"{section}.{key}": value for key, value in entries.items()}
        else:
            flat[section] = entries
    api.log_batch(run_id, params=[Param(key, str(value)[:6000]) for key, value in flat.items()])


def _metrics(values: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, float]:
    found = {f"seconds/{name}": value for name, value in seconds.items()}
    snapshot: Snapshot | None = values.get("snapshot")
    if snapshot:
        found |= {f"rows/{name}": float(count) for name, count in snapshot.rows.items()}
        found |= {"rows/quarantined": float(snapshot.quarantined), "rows/deduplicated": float(snapshot.deduplicated)}
    choice: Tuned | None = values.get("tuned")
    if choice:
        ends = choice.study
        found |= {"tune/value": choice.value, "tune/minutes": ends.minutes}
        found |= {f"tune/{name}": float(getattr(ends, name)) for name in ("complete", "pruned", "failed")}
    scored = {"candidate": values.get("evaluation"), "champion": values.get("champion_evaluation")}
    for prefix, evaluation in scored.items():
        if evaluation is not None:
            found |= {f"{prefix}/{name}": value for name, value in _flat(evaluation).items()}
    return found


def _costs(costs: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """cost/STEP/seconds and the like; what is not known is not logged."""
    return {
        f"cost/{step}/{name}": float(value)
        for step, cost in costs.items()
        for name, value in cost.items()
        if isinstance(value, int | float)
    }


def _flat(evaluation: Evaluation) -> dict[str, float]:
    """Metrics with their bounds, size and latency, under the same names for every model."""
    found: dict[str, float] = {}
    for name, metric in evaluation.metrics.items():
        found |= {name: metric.value, f"{name}/low": metric.low, f"{name}/high": metric.high}
    found["size_mb"] = evaluation.size / 1e6
    if evaluation.latency:
        found |= {"p50_ms": evaluation.latency.p50, "p95_ms": evaluation.latency.p95}
    return found


def _dataset(snapshot: Snapshot) -> Any:
    from mlflow.data.http_dataset_source import HTTPDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    source = HTTPDatasetSource(snapshot.splits[sorted(snapshot.splits)[0]].uri)
    return MetaDataset(source, name=snapshot.pipeline, digest=_digest(snapshot))


def _digest(snapshot: Snapshot) -> str:
    return snapshot.revision[:36]  # MLflow takes no more


def _input(api: Any, run_id: str, config: PipelineConfig, snapshot: Snapshot) -> None:
    from mlflow.entities import DatasetInput, InputTag

    dataset = _dataset(snapshot)._to_mlflow_entity()
    tags = [InputTag("mlflow.data.context", "training"), InputTag("source", str(config.data.source)[:500])]
    api.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])


def _variants(api: Any, run_id: str, selection: Selection, snapshot: Snapshot) -> None:
    """Every judged file as a LoggedModel with the same metric names on the same data set, so that a page compares them.

    The run's own metrics of these names are those of the file that ships, which comes last. The registered file has its
    model from `registry.register`.
    """
    import mlflow

    home = api.get_run(run_id).info.experiment_id
    found = mlflow.search_logged_models([home], f"source_run_id = '{run_id}'", output_format="list")
    known = {model.name: model for model in found}
    shipped = selection.chosen.variant if selection.chosen else None
    for variant in sorted(selection.evaluations, key=lambda name: name == shipped):
        evaluation = selection.evaluations[variant]
        model = known.get(variant)
        if model is None:
            tags = {"evergreen.outcome": selection.verdicts[variant].outcome}
            params = {"variant": variant, "sha256": evaluation.model_sha256}
            model = mlflow.create_external_model(
                name=variant, source_run_id=run_id, params=params, tags=tags, experiment_id=home
            )
        of = {"model_id": model.model_id, "dataset_name": snapshot.pipeline, "dataset_digest": _digest(snapshot)}
        _log(api, run_id, _flat(evaluation), of=of)
