"""Every model that a retrain judged as a LoggedModel of its run: the same metric names on the same data set, side by side."""

from __future__ import annotations

import hashlib
import posixpath
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlops.data.snapshots import own_splits
from mlops.types import Evaluation, Run, Selection, Snapshot


class JudgedModel(NamedTuple):
    """One model with what it scored. outcome: of its verdict; none where it was not the one on trial."""

    evaluation: Evaluation
    variant: str
    outcome: str | None = None


def judged_models(run: Run, values: Mapping[str, Any]) -> dict[str, JudgedModel]:
    """By their names in MLflow: champion-vN, candidate (the fine-tuned weights) and each file; what ships comes last.

    Without a file that ships the candidate comes last: the last one's metrics are the run's own.
    """
    selection: Selection | None = values.get("selection")
    found: dict[str, JudgedModel] = {}
    theirs, ours = values.get("champion_evaluation"), values.get("evaluation")
    if theirs is not None and run.champion is not None:
        found[f"champion-v{run.champion.version}"] = JudgedModel(theirs, run.champion.variant)
    if ours is not None:
        verdict, model = values.get("gate_verdict"), values.get("model")
        found["candidate"] = JudgedModel(
            ours, model.variant if model else "torch", verdict.outcome if verdict else None
        )
    for name, evaluation in selection.evaluations.items() if selection else ():
        found[name] = JudgedModel(evaluation, name, selection.verdicts[name].outcome if selection else None)
    last = selection.chosen.variant if selection and selection.chosen else "candidate"
    return dict(sorted(found.items(), key=lambda entry: entry[0] == last))


def log_models(api: Any, run_id: str, models: Mapping[str, JudgedModel], snapshot: Snapshot) -> None:
    """Logs them in order. The registered file has its model from `registry.register`; the others are made here."""
    import mlflow

    if not models:
        return
    home = api.get_run(run_id).info.experiment_id
    found = mlflow.search_logged_models([home], f"source_run_id = '{run_id}'", output_format="list")
    known = {model.name: model for model in found}
    for name, judged in models.items():
        model = known.get(name)
        if model is None:
            model = mlflow.create_external_model(
                name=name,
                source_run_id=run_id,
                params={"variant": judged.variant, "sha256": judged.evaluation.model_sha256},
                tags={"evergreen.outcome": judged.outcome} if judged.outcome else None,
                experiment_id=home,
            )
        of = {"model_id": model.model_id, "dataset_name": snapshot.pipeline, "dataset_digest": _digest(snapshot)}
        log_metrics(api, run_id, flat_metrics(judged.evaluation), of=of)


def log_metrics(
    api: Any, run_id: str, metrics: Mapping[str, float], step: int = 0, of: Mapping[str, str] | None = None
) -> None:
    """of: model_id, dataset_name and dataset_digest that the metrics belong to."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    entries = [Metric(_key(name), float(value), now, step, **(of or {})) for name, value in metrics.items()]
    for start in range(0, len(entries), 500):
        api.log_batch(run_id, metrics=entries[start : start + 500])


def _key(name: str) -> str:
    """MLflow allows letters, digits and _-./ space : in a metric's name, which has to be a path that is as short as it can
    be; a label may hold anything. What had to change has a piece of its sha256, so that no two become one."""
    plain = "".join(sign if sign.isalnum() or sign in "_-./ :" else "_" for sign in name)[:250]
    if plain == name and posixpath.normpath(plain) == plain and not plain.startswith((".", "/")):
        return plain
    safe = "/".join(part.strip(". ") or "_" for part in plain[:230].split("/"))
    return f"{safe} {hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def flat_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Metrics with their bounds, size and latency, under the same names for every model."""
    found: dict[str, float] = {}
    for name, metric in evaluation.metrics.items():
        found |= {name: metric.value, f"{name}/low": metric.low, f"{name}/high": metric.high}
    found["size_mb"] = evaluation.size / 1e6
    if evaluation.latency:
        found |= {"p50_ms": evaluation.latency.p50, "p95_ms": evaluation.latency.p95}
    return found


def dataset_of(snapshot: Snapshot) -> Any:
    """A snapshot as MLflow's data sets are."""
    from mlflow.data.http_dataset_source import HTTPDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    source = HTTPDatasetSource(min(own_splits(snapshot).items())[1].uri)
    return MetaDataset(source, name=snapshot.pipeline, digest=_digest(snapshot))


def _digest(snapshot: Snapshot) -> str:
    return snapshot.revision[:36]  # MLflow takes no more
