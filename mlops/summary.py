"""What a retrain came to: one JSON object for machines, the files that people look at, and the end of the MLflow run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops import settings
from mlops.config import PipelineConfig
from mlops.cost.value import Cost, total
from mlops.data.parents import record
from mlops.expectations.docs import docs_folder, quarantine_folder
from mlops.pipeline import Stop
from mlops.records import read as read_record
from mlops.store import open_store
from mlops.types import ArtifactRef, Evaluation, Release, Run, Selection, Snapshot, Tuned, Variants, Verdict, identity

log = logging.getLogger("evergreen")


def finish(
    config: PipelineConfig,
    run: Run,
    values: Mapping[str, Any],
    seconds: Mapping[str, float],
    ending: Stop,
    costs: Mapping[str, Cost] | None = None,
) -> dict[str, Any]:
    """Writes reports and the MLflow run's end; the summary as `mlops run --json` prints it.

    The decision has been carried out by now: a report that cannot be made or a tracking server that is gone is a warning,
    not a lost retrain.
    """
    from mlops import tracking

    if values.get("snapshot") and ending.outcome != "skipped":
        # Now, not when it was read: after a crash the next run must find the same rows as new as this one did.
        record(open_store(), values["raw"])
    summary = summarise(config, run, values, seconds, ending, costs or {})
    deciding = deciding_record(values)
    summary["sentence"] = deciding["sentence"] if deciding else None
    summary["decided"] = deciding["subject"] if deciding else None
    _note_hold(config.name, run, values, ending)
    folder = settings.current().home / "runs" / config.name / run.retrain_id
    folder.mkdir(parents=True, exist_ok=True)
    files = _reports(folder, config, summary, values)
    summary["links"] = links(config, run, values, files)
    if address := tracking.compare_url(run, run.mlflow_run_id):
        summary["links"]["compare_with_champion"] = address
    _describe(config, summary, deciding)
    path = folder / "summary.json"
    path.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    try:
        tracking.finish_run(config, run, dict(values), dict(seconds), summary, files | {"summary.json": path})
    except Exception as error:
        log.warning("the MLflow run %s is incomplete: %s: %s", run.mlflow_run_id, type(error).__name__, error)
    return summary


def _note_hold(name: str, run: Run, values: Mapping[str, Any], ending: Stop) -> None:
    """A retrain that came to no version is in the ledger too, where there is a champion that it left in place."""
    if ending.outcome not in ("held", "inconclusive") or values.get("release") or run.champion is None:
        return
    from mlops import promotion

    try:
        reason = f"retrain {run.retrain_id}: {ending.outcome}: {ending.reason}"
        promotion.hold(name, None, reason, tuple(identity(verdict) for verdict in ending.verdicts))
    except Exception as error:
        log.warning("the ledger of %s does not have this: %s: %s", name, type(error).__name__, error)


def fail(
    config: PipelineConfig, run: Run, seconds: Mapping[str, float], reason: str, costs: Mapping[str, Cost]
) -> dict[str, Any]:
    """Ends a retrain that broke: why and what it cost, in summary.json and in its MLflow run."""
    from mlops import tracking

    summary = {
        "pipeline": config.name,
        "outcome": "failed",
        "reason": reason,
        "seconds": _rounded(seconds),
        "cost": _costs(costs),
        "mlflow_run_id": run.mlflow_run_id,
        "retrain_id": run.retrain_id,
    }
    folder = settings.current().home / "runs" / config.name / run.retrain_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    try:
        tracking.fail_run(run.mlflow_run_id, reason, summary)
    except Exception as error:  # what broke the run may have broken tracking too
        log.warning("the MLflow run %s could not be ended: %s", run.mlflow_run_id, error)
    return summary


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}


def _costs(costs: Mapping[str, Cost]) -> dict[str, Any]:
    """By step, and their total."""
    return {name: cost.model_dump(mode="json") for name, cost in {**costs, "total": total(costs)}.items()}


def _describe(config: PipelineConfig, summary: Mapping[str, Any], record: Mapping[str, Any] | None) -> None:
    """The model card as the description of the registered version; a card that cannot be written is a warning."""
    release = summary["release"]
    if release is None:
        return
    from mlops import registry
    from mlops.reports.model_card import card

    try:
        registry.set_card(release["name"], release["version"], card(config, release, record, summary))
    except Exception as error:
        log.warning("%s version %s has no card: %s", release["name"], release["version"], error)


def _reports(
    folder: Path, config: PipelineConfig, summary: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Path]:
    from mlops.reports.files import write_reports

    try:
        return write_reports(folder, config, summary, values, deciding_record(values))
    except Exception as error:
        log.warning("the reports in %s are incomplete: %s: %s", folder, type(error).__name__, error)
        return {}


def summarise(
    config: PipelineConfig,
    run: Run,
    values: Mapping[str, Any],
    seconds: Mapping[str, float],
    ending: Stop,
    costs: Mapping[str, Cost],
) -> dict[str, Any]:
    """The summary; every key is always there, none where the run did not get so far."""
    snapshot: Snapshot | None = values.get("snapshot") or values.get("raw")
    selection: Selection | None = values.get("selection")
    release: Release | None = values.get("release")
    return {
        "pipeline": config.name,
        "outcome": ending.outcome,
        "reason": ending.reason,
        "candidate": _candidate(values.get("evaluation"), selection, values.get("model")),
        "champion_before": _champion(run.champion, values.get("champion_evaluation")),
        "release": {"name": release.name, "version": release.version, "variant": release.variant} if release else None,
        "judgements": {name: ref.model_dump(mode="json") for name, ref in _judgements(values, selection).items()},
        "verdicts": [_verdict(verdict) for verdict in _verdicts(values, selection, ending)],
        "snapshot": _snapshot(snapshot, values.get("data_verdict")) if snapshot else None,
        "tuning": _tuning(values.get("tuned")),
        "variants": {name: evaluated(entry, name) for name, entry in selection.evaluations.items()}
        if selection
        else {},
        "compression": _compression(values.get("variants")),
        "seconds": _rounded(seconds),
        "cost": _costs(costs),
        "mlflow_run_id": run.mlflow_run_id,
        "retrain_id": run.retrain_id,
    }


def _judgements(values: Mapping[str, Any], selection: Selection | None) -> dict[str, ArtifactRef]:
    """Where the records of the judgements lie, by what was judged."""
    verdicts = [values.get("gate_verdict"), *(selection.verdicts.values() if selection else ())]
    return {verdict.subject: verdict.report for verdict in verdicts if verdict and verdict.report}


def deciding_record(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the file that ships, else of the first one that may not, else of the candidate."""
    selection: Selection | None = values.get("selection")
    found = _judgements(values, selection)
    shipped = selection.chosen.variant if selection and selection.chosen else None
    wanted = [shipped, *(selection.verdicts if selection else ()), "candidate"]
    ref = next((found[name] for name in wanted if name in found), None)
    return read_record(ref) if ref else None


def evaluated(evaluation: Evaluation, variant: str) -> dict[str, Any]:
    """An evaluation as the summary has it."""
    keys = {"value", "low", "high", "n"}
    latency = evaluation.latency
    return {
        "metrics": {name: metric.model_dump(include=keys) for name, metric in evaluation.metrics.items()},
        "variant": variant,
        "size_bytes": evaluation.size,
        "latency_ms": {"p50": latency.p50, "p95": latency.p95} if latency else None,
    }


def _candidate(evaluation: Evaluation | None, selection: Selection | None, model: Any) -> dict[str, Any] | None:
    """The file that ships, or the fine-tuned weights where none does."""
    if selection and selection.chosen:
        variant = selection.chosen.variant
        return evaluated(selection.evaluations[variant], variant)
    return evaluated(evaluation, model.variant) if evaluation else None


def _champion(champion: Release | None, evaluation: Evaluation | None) -> dict[str, Any] | None:
    if champion is None:
        return None
    scored = evaluated(evaluation or champion.evaluation, champion.variant)
    return {"name": champion.name, "version": champion.version} | scored


def _verdicts(values: Mapping[str, Any], selection: Selection | None, ending: Stop) -> list[Verdict]:
    snapshot: Snapshot | None = values.get("snapshot")
    data = [values.get("data_verdict"), snapshot.verdict if snapshot else None, values.get("gate_verdict")]
    found = [verdict for verdict in data if verdict]
    judged = [*selection.verdicts.values(), *selection.proofs.values()] if selection else []
    return [*found, *judged, *ending.verdicts]


def _verdict(verdict: Verdict) -> dict[str, Any]:
    keys = {"name", "observed", "allowed", "outcome", "detail"}
    checks = [check.model_dump(include=keys) for check in verdict.checks]
    told = {"subject": verdict.subject, "outcome": verdict.outcome, "checks": checks}
    return told | ({"data_docs": verdict.docs} if verdict.docs else {})


def _snapshot(snapshot: Snapshot, verdict: Verdict | None) -> dict[str, Any]:
    quarantined = snapshot.quarantined or _quarantined(verdict)
    return {
        "rows": snapshot.rows,
        "quarantined": quarantined,
        "deduplicated": snapshot.deduplicated,
        "sha256": snapshot.revision,
        "window": snapshot.window,
        "watermark": snapshot.watermark,
        "parent_sha256": snapshot.parent_sha256,
        "new_rows": snapshot.new_rows,
    }


def _compression(variants: Variants | None) -> dict[str, Any] | None:
    """What `compress` tried, and why it chose what it chose; none where it did not run."""
    if variants is None:
        return None
    return {"reason": variants.reason, "attempts": [each.model_dump(mode="json") for each in variants.attempts]}


def _tuning(choice: Tuned | None) -> dict[str, Any] | None:
    """What a search chose, and from how many trials; none without one."""
    if choice is None:
        return None
    return choice.model_dump(mode="json", exclude={"snapshot", "base"}) | {"base": choice.base.uri}


def _quarantined(verdict: Verdict | None) -> int:
    """Rows set aside by the data gate, for a data set that was rejected before `prepare` could count them."""
    import pyarrow.parquet as pq

    if verdict is None or verdict.report is None:
        return 0
    path = open_store().fetch(verdict.report) / "quarantine.parquet"
    return int(pq.read_metadata(path).num_rows) if path.exists() else 0


def links(config: PipelineConfig, run: Run, values: Mapping[str, Any], files: Mapping[str, Path]) -> dict[str, str]:
    """Where a person looks next: files of this machine, and the MLflow run."""
    found = {name: str(path) for name, path in files.items()}
    raw: Snapshot | None = values.get("raw")
    if raw:
        docs = docs_folder(config.name, raw.revision) / "index.html"
        if docs.exists():
            found["data_docs"] = str(docs)
        aside = quarantine_folder(config.name, raw.revision) / "rows.jsonl"
        if aside.exists():
            found["quarantine"] = str(aside)
    if run.mlflow_run_id:
        found["mlflow_run"] = run.mlflow_run_id
    return found
