"""One retrain is one MLflow run: params, metrics by step, the data set, plots and report, variants that compare."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from tiny import tiny_file, tiny_models, tiny_release, tiny_run

from mlops import config, pipeline, registry
from mlops.tracking import client, compare_url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tiny_file(tmp_path, gate={"floor": 0.6, "resamples": 200, "baselines": ["majority"]})


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
    assert {model.name for model in models} == {"candidate", "int8", "fp32"}
    for model in models:
        values = {metric.key: metric for metric in model.metrics}
        assert values["macro_f1"].dataset_digest == data.dataset.digest
        if model.name == "candidate":
            assert values["macro_f1"].value == pytest.approx(run.data.metrics["candidate/macro_f1"])
            assert (model.params["variant"], model.tags["evergreen.outcome"]) == ("torch", "pass")
            continue
        told = summary["variants"][model.name]
        assert values["macro_f1"].value == pytest.approx(told["metrics"]["macro_f1"]["value"])
        assert values["size_mb"].value == pytest.approx(told["size_bytes"] / 1e6)
        assert values["p95_ms"].value == pytest.approx(told["latency_ms"]["p95"])


def test_the_champion_stands_beside_the_candidate_and_a_page_compares_their_runs(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pipeline.run(config.load(file))
    monkeypatch.setenv("EVERGREEN_MLFLOW_URL", "https://mlflow.example.org/")
    # A candidate that the gate keeps out has no files: it stands beside the champion all the same.
    second = pipeline.run(config.load(file, ["train.learning_rate=0.0", "train.epochs=1"]))
    assert second["outcome"] == "rejected"
    api, run_id = client(), second["mlflow_run_id"]
    run, home = api.get_run(run_id), api.get_experiment_by_name("tiny").experiment_id

    import mlflow

    models = mlflow.search_logged_models([home], f"source_run_id = '{run_id}'", output_format="list")
    found = {model.name: {metric.key: metric.value for metric in model.metrics} for model in models}
    assert set(found) == {"candidate", "champion-v1"}
    assert set(found["candidate"]) - {"p50_ms", "p95_ms"} == set(found["champion-v1"]) - {"p50_ms", "p95_ms"}
    assert found["champion-v1"]["macro_f1"] == pytest.approx(second["champion_before"]["metrics"]["macro_f1"]["value"])
    assert run.data.metrics["macro_f1"] == pytest.approx(found["candidate"]["macro_f1"])

    address = run.data.tags["evergreen.compare"]
    page, _, query = address.partition("?")
    assert page == "https://mlflow.example.org/#/compare-runs"
    asked = {name: json.loads(values[0]) for name, values in parse_qs(query, strict_parsing=True).items()}
    assert asked == {"runs": [run_id, first["mlflow_run_id"]], "experiments": [home]}
    assert f"[Compare with the champion, version 1]({address})" in run.data.tags["mlflow.note.content"]


def test_without_a_champion_or_a_server_there_is_nothing_to_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = registry.register(tiny_release(), {}, None)
    run = tiny_run(tiny_models()["base"])
    beaten = run.model_copy(update={"champion": release})
    monkeypatch.setenv("EVERGREEN_MLFLOW_URL", "https://mlflow.example.org")
    assert compare_url(run, "a") is None
    assert compare_url(beaten, None) is None
    assert compare_url(beaten.model_copy(update={"champion": release.model_copy(update={"version": "7"})}), "a") is None
    own = client().create_run(client().get_experiment_by_name("tiny").experiment_id).info.run_id
    theirs = client().get_model_version("tiny", release.version).run_id  # MLflow made one for the upload
    assert f"%22{own}%22%2C%20%22{theirs}%22" in str(compare_url(beaten, own))
    assert compare_url(beaten, theirs) is None
    monkeypatch.delenv("EVERGREEN_MLFLOW_URL")
    assert compare_url(beaten, own) is None


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
