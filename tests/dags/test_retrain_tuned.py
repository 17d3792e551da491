"""A search in real Airflow: trials mapped over workers, the best of them trained on all rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_base, tiny_rows

Load = Callable[[], dict[str, Any]]

PIPELINE = """\
name: tiny
task: text-classification
data: {{source: {rows}, format: jsonl}}
model: {{base: {base}, max_length: 24}}
train: {{epochs: 3, learning_rate: 0.00001, batch_tokens: 512}}
tune:
  trials: 3
  timeout: 5
  workers: 3
  space: {{learning_rate: {{low: 0.004, high: 0.01, log: true}}}}
gate: {{floor: 0.5, margin: 0.0, baselines: [majority]}}
promote: auto
compress: {{variants: [fp32]}}
"""


@pytest.fixture
def load(load_dags: Load, pipelines: Path) -> Load:
    rows = pipelines.parent / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in tiny_rows(240)))
    base = tiny_base(pipelines.parent / "base")
    (pipelines / "tiny.yaml").write_text(PIPELINE.format(rows=rows, base=base))
    return load_dags


def summary(run: Any) -> dict[str, Any]:
    value = run.get_task_instance("finish").xcom_pull(task_ids="finish")
    assert isinstance(value, dict)
    return value


def test_a_search_stands_between_prepare_and_fine_tune(load: Load) -> None:
    dag = load()["retrain_tiny"]
    trials = dag.get_task("tune_trials")
    assert type(trials).__name__ == "MappedOperator"
    assert trials.upstream_task_ids == {"tune_workers"}
    assert dag.get_task("tune_workers").upstream_task_ids >= {"prepare"}
    assert dag.get_task("tune").upstream_task_ids >= {"tune_trials"}
    assert dag.get_task("fine_tune").upstream_task_ids >= {"tune"}
    assert trials.execution_timeout is not None
    assert trials.retries == 1


def test_workers_share_the_trials_and_the_best_is_trained(load: Load, airflow_db: Path) -> None:
    from mlops.tracking import client

    run = load()["retrain_tiny"].test(run_conf={"overrides": {"tune.workers": 2}})
    states = {(each.task_id, each.map_index): str(each.state) for each in run.get_task_instances()}
    assert str(run.state) == "success", summary(run)
    assert [key[1] for key in states if key[0] == "tune_trials"] == [0, 1]  # as this run has it, not the file
    found = summary(run)
    assert found["outcome"] == "promoted", found["reason"]
    ends = found["tuning"]["study"]
    assert ends["complete"] + ends["pruned"] + ends["failed"] == 3
    rate = found["tuning"]["train"]["learning_rate"]
    assert 0.004 <= rate <= 0.01
    assert found["seconds"]["tune_trials"] > 0
    assert set(found["cost"]) == {*found["seconds"], "total"}  # it came back from processes of their own
    assert found["cost"]["tune_trials"]["cpu_seconds"] > 0.1
    assert found["cost"]["fine_tune"]["peak_mb"] > 100
    api = client()
    home = api.get_experiment_by_name("tiny").experiment_id
    nested = api.search_runs([home], f"tags.`mlflow.parentRunId` = '{found['mlflow_run_id']}'")
    assert sorted(each.data.tags["evergreen.trial.number"] for each in nested) == ["0", "1", "2"]
    assert api.get_run(found["mlflow_run_id"]).data.params["train.learning_rate"] == str(rate)

    again = load()["retrain_tiny"].test(run_conf={})
    assert str(again.state) == "success"
    assert summary(again)["outcome"] == "skipped"
    states = {each.task_id: str(each.state) for each in again.get_task_instances()}
    assert {states[name] for name in ("tune_workers", "tune_trials", "tune", "fine_tune", "promote")} == {"skipped"}


def test_a_run_cannot_add_or_remove_the_search(load: Load, airflow_db: Path) -> None:
    run = load()["retrain_tiny"].test(run_conf={"overrides": {"tune": None}})
    assert str(run.state) == "failed"
    assert str(run.get_task_instance("start").state) == "failed"
