"""One retrain is one MLflow run: params, metrics by step, the data set, plots and report, variants that compare."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import tiny_file

from mlops import config, pipeline
from mlops.tracking import client


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tiny_file(tmp_path, gate={"floor": 0.6, "resamples": 200})


def test_a_promoted_retrain(file: Path) -> None:
    summary = pipeline.run(config.load(file))
    assert summary["outcome"] == "promoted", summary["reason"]
    api, run_id = client(), summary["mlflow_run_id"]
    experiment = api.get_experiment_by_name("tiny")
    assert [run.info.run_id for run in api.search_runs([experiment.experiment_id])] == [run_id]
    run = api.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert (run.data.params["train.epochs"], run.data.params["gate.floor"]) == ("6", "0.6")
    assert run.data.tags["evergreen.outcome"] == "promoted"
    history = api.get_metric_history(run_id, "train/loss")
    assert len(history) > 1
    assert len({metric.step for metric in history}) == len(history)
    assert run.data.metrics["macro_f1"] == pytest.approx(summary["candidate"]["metrics"]["macro_f1"]["value"])
    assert run.data.metrics["seconds/fine_tune"] == pytest.approx(summary["seconds"]["fine_tune"], abs=0.001)
    (data,) = run.inputs.dataset_inputs
    assert summary["snapshot"]["sha256"].startswith(data.dataset.digest)
    artifacts = {artifact.path for artifact in api.list_artifacts(run_id)}
    assert {"confusion_matrix.png", "reliability_curve.png", "gate_report.html", "summary.json"} <= artifacts

    import mlflow

    models = mlflow.search_logged_models([experiment.experiment_id], output_format="list")
    assert {model.name for model in models} == {"int8", "fp32"}
    for model in models:
        values = {metric.key: metric for metric in model.metrics}
        told = summary["variants"][model.name]
        assert values["macro_f1"].value == pytest.approx(told["metrics"]["macro_f1"]["value"])
        assert values["size_mb"].value == pytest.approx(told["size_bytes"] / 1e6)
        assert values["p95_ms"].value == pytest.approx(told["latency_ms"]["p95"])
        assert values["macro_f1"].dataset_digest == data.dataset.digest


def test_a_rejected_and_a_broken_retrain_end_their_runs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rejected = pipeline.run(config.load(file, ["train.learning_rate=0.0", "train.epochs=1"]))
    assert rejected["outcome"] == "rejected"
    run = client().get_run(rejected["mlflow_run_id"])
    assert run.info.status == "FAILED"
    assert "floor" in run.data.tags["evergreen.reason"]

    def broken(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("mlops.steps.fine_tune.fine_tune", broken)
    with pytest.raises(OSError, match="full"):
        pipeline.run(config.load(file, ["train.seed=3"]))
    experiment = client().get_experiment_by_name("tiny").experiment_id
    last = client().search_runs([experiment], order_by=["attributes.start_time DESC"])[0]
    assert last.info.status == "FAILED"
    assert last.data.tags["evergreen.reason"] == "OSError: the disk is full"
