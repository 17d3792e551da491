"""A retrain as one MLflow run: params, metrics, the data set as an input, files, and every judged model."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlops import __version__, settings
from mlops.code import git_commit
from mlops.config import PipelineConfig
from mlops.expectations.docs import docs_folder
from mlops.tracking_attempts import log_attempts
from mlops.tracking_models import dataset_of, flat_metrics, judged_models, log_metrics, log_models
from mlops.tuning.choice import as_tuned
from mlops.types import Run, Snapshot, Tuned

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
    """The id of the experiment of that name, made where there is none.

    A server has a place for files. A database that is asked directly has none, and MLflow's own default is the folder
    that a process happens to run in: the embedded one keeps them at home, one that machines share in the store that
    they share.
    """
    found = api.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    where = settings.current()
    place = None
    if where.tracking_uri.startswith("sqlite:"):
        place = (where.mlflow_artifacts / name).as_uri()
    elif where.tracking_uri.startswith(("postgresql", "mysql", "mssql")):
        place = f"{where.store.rstrip('/')}/mlflow/{name}"
    from mlflow.exceptions import MlflowException

    try:
        return str(api.create_experiment(name, artifact_location=place))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        # Another process was first; or this one was, and the answer was lost.
        return str(api.get_experiment_by_name(name).experiment_id)


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
        log_metrics(client(), run_id, metrics, step)
    except Exception as error:
        log.warning("progress of step %s was not tracked: %s: %s", step, type(error).__name__, error)


def fail_run(run_id: str | None, reason: str, summary: Mapping[str, Any]) -> None:
    """Ends a run that broke, with the reason and what its steps cost until then, that of the one that raised
    included."""
    if run_id is None:
        return
    api = client()
    api.set_tag(run_id, "evergreen.reason", reason[:4000])
    api.set_terminated(run_id, "FAILED")
    log_metrics(api, run_id, _metrics({}, summary["seconds"]) | _costs(summary["cost"]))


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
    for subject, ref in summary["judgements"].items():
        api.set_tag(run_id, f"evergreen.judgement.{subject}", json.dumps(ref))
    if summary.get("decided"):
        api.set_tag(run_id, "evergreen.decided", summary["decided"])
    log_metrics(api, run_id, _metrics(values, seconds) | _costs(summary.get("cost", {})))
    for path in files.values():
        api.log_artifact(run_id, str(path))
    _data_docs(api, run_id, config, values)
    snapshot: Snapshot | None = values.get("snapshot") or values.get("raw")
    if snapshot:
        _input(api, run_id, config, snapshot)
        api.set_tag(run_id, "evergreen.snapshot", snapshot.revision)
        log_models(api, run_id, judged_models(run, values), snapshot)
        log_attempts(api, run_id, values["variants"].attempts if values.get("variants") else ())
    note = f"**{summary['outcome']}**\n\n```\n{summary['reason'][:4000]}\n```"
    if run.champion and (address := compare_url(run, run_id)):
        api.set_tag(run_id, "evergreen.compare", address)
        note += f"\n\n[Compare with the champion, version {run.champion.version}]({address})"
    if ways := _ways_out(run):
        note += "\n\n" + " · ".join(f"[{name}]({address})" for name, address in ways.items())
    if "prediction server" in ways:
        api.set_tag(run_id, "evergreen.server", ways["prediction server"])
    if summary["release"]:
        api.set_tag(run_id, "evergreen.shipped", summary["release"]["variant"])
    api.set_tag(run_id, "evergreen.outcome", summary["outcome"])
    api.set_tag(run_id, "evergreen.reason", summary["reason"][:4000])
    api.set_tag(run_id, "mlflow.note.content", note)
    api.set_terminated(run_id, "FAILED" if summary["outcome"] == "rejected" else "FINISHED")


def _ways_out(run: Run) -> dict[str, str]:
    """Where a person goes on from MLflow's page of a run."""
    found = {"Airflow run": run.airflow.get("url"), "prediction server": settings.current().serve_url}
    return {name: address for name, address in found.items() if address}


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
    run = run_url(run_id)
    return f"{run}/artifacts/{name}" if run else None


def run_url(run_id: str | None) -> str | None:
    """Where a browser finds a run, with the same exception."""
    where = settings.current().mlflow_url
    if where is None or run_id is None:
        return None
    try:
        home = client().get_run(run_id).info.experiment_id
    except Exception as error:  # a link is not worth a retrain
        log.warning("MLflow did not say where run %s is: %s", run_id, error)
        return None
    return f"{where}/#/experiments/{home}/runs/{run_id}"


def version_url(name: str, version: str) -> str | None:
    """Where a browser finds a registered version with its model card, with the same exception."""
    where = settings.current().mlflow_url
    return f"{where}/#/models/{name}/versions/{version}" if where else None


def compare_versions_url(name: str, runs: Mapping[str, str | None]) -> str | None:
    """MLflow's own page that compares registered versions; none where one of them came from no run, or with the same
    exception.

    runs: the run of each version, by its number.
    """
    where = settings.current().mlflow_url
    if where is None or not all(runs.values()):
        return None
    return f"{where}/#/compare-model-versions?name={quote(json.dumps(name))}&runs={quote(json.dumps(dict(runs)))}"


def compare_url(run: Run, run_id: str | None) -> str | None:
    """MLflow's own page that compares a retrain's run with the champion's; none without a champion, without a run of
    either, or without an MLflow server that a browser can reach.
    """
    where = settings.current().mlflow_url
    if where is None or run_id is None or run.champion is None:
        return None
    try:
        api = client()
        theirs = api.get_model_version(run.champion.name, run.champion.version).run_id
        if not theirs or theirs == run_id:
            return None
        homes = list(dict.fromkeys(str(api.get_run(each).info.experiment_id) for each in (run_id, theirs)))
    except Exception as error:  # a link is not worth a retrain
        log.warning("MLflow did not say where the champion's run is: %s", error)
        return None
    return f"{where}/#/compare-runs?runs={quote(json.dumps([run_id, theirs]))}&experiments={quote(json.dumps(homes))}"


def _params(api: Any, run_id: str, config: PipelineConfig) -> None:
    from mlflow.entities import Param

    values = config.model_dump(mode="json", by_alias=True, exclude={"suite", "behaviour", "root", "notify"})
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
            found |= {f"{prefix}/{name}": value for name, value in flat_metrics(evaluation).items()}
    return found


def _costs(costs: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """cost/STEP/seconds and the like; what is not known is not logged."""
    return {
        f"cost/{step}/{name}": float(value)
        for step, cost in costs.items()
        for name, value in cost.items()
        if isinstance(value, int | float)
    }


def _input(api: Any, run_id: str, config: PipelineConfig, snapshot: Snapshot) -> None:
    from mlflow.entities import DatasetInput, InputTag

    dataset = dataset_of(snapshot)._to_mlflow_entity()
    tags = [InputTag("mlflow.data.context", "training"), InputTag("source", str(config.data.source)[:500])]
    api.log_inputs(run_id, datasets=[DatasetInput(dataset, tags)])
