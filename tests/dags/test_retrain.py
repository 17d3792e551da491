"""Whole retrains of a tiny model in real Airflow, in one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_base, tiny_rows

from mlops.flow import STEPS

NAMES = [step.name for step in STEPS if not step.section]
Load = Callable[[], dict[str, Any]]

PIPELINE = """\
name: tiny
task: text-classification
data: {{source: {rows}, format: jsonl}}
model: {{base: {base}, max_length: 24}}
train: {{epochs: 3, learning_rate: 0.005, batch_tokens: 512}}
gate: {{floor: 0.5, margin: 0.0, baselines: [majority]}}
promote: auto
compress: {{variants: [fp32]}}
"""


class Retrains:
    """The DAG of the pipeline "tiny", run as often as a test likes."""

    def __init__(self, load: Load, pipelines: Path) -> None:
        self.load = load
        self.rows = pipelines.parent / "rows.jsonl"
        base = tiny_base(pipelines.parent / "base")
        self.write(tiny_rows(240))
        (pipelines / "tiny.yaml").write_text(PIPELINE.format(rows=self.rows, base=base))

    def write(self, rows: list[dict[str, Any]]) -> None:
        self.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(self, **conf: Any) -> Any:
        return self.load()["retrain_tiny"].test(run_conf=conf)


@pytest.fixture
def retrains(load_dags: Load, pipelines: Path, airflow_db: Path) -> Retrains:
    return Retrains(load_dags, pipelines)


def states(run: Any) -> dict[str, str]:
    return {instance.task_id: str(instance.state) for instance in run.get_task_instances()}


def tries(run: Any, task: str) -> int:
    return int(run.get_task_instance(task).try_number)


def summary(run: Any) -> dict[str, Any]:
    value = run.get_task_instance("finish").xcom_pull(task_ids="finish")
    assert isinstance(value, dict)
    return value


def mlflow_status(run_id: str) -> str:
    from mlflow import MlflowClient

    from mlops.settings import current

    return str(MlflowClient(current().tracking_uri).get_run(run_id).info.status)


def test_promoted_then_skipped_then_not_better(retrains: Retrains) -> None:
    from mlops import registry

    run = retrains.run()
    assert states(run) == {**dict.fromkeys(["start", *NAMES, "finish"], "success"), "approval": "skipped"}
    assert str(run.state) == "success"
    first = summary(run)
    assert first["outcome"] == "promoted"
    assert list(first["seconds"]) == NAMES
    champion = registry.champion("tiny")
    assert champion is not None
    assert mlflow_status(first["mlflow_run_id"]) == "FINISHED"
    verdict = run.get_task_instance("validate").xcom_pull(task_ids="validate")
    assert verdict["outcome"] == "pass"  # the design's types, as JSON

    run = retrains.run()
    assert str(run.state) == "success"
    assert states(run) == {
        **dict.fromkeys(["start", "source", "validate", "prepare", "finish"], "success"),
        **dict.fromkeys([*NAMES[3:], "approval"], "skipped"),
    }
    assert summary(run)["outcome"] == "skipped"
    assert f"version {champion.version}" in summary(run)["reason"]

    run = retrains.run(overrides={"train.seed": 14})  # as good as the champion, which is no gain beyond margin 0
    assert str(run.state) == "success", summary(run)
    assert summary(run)["outcome"] in ("held", "inconclusive")
    late = [*NAMES[NAMES.index("gate") + 1 :], "approval"]
    assert {states(run)[name] for name in late} == {"skipped"}
    assert states(run)["gate"] == states(run)["finish"] == "success"
    assert registry.champion("tiny") == champion


def test_rejected_data_fails_without_a_retry_and_says_why(
    retrains: Retrains, capfd: pytest.CaptureFixture[str]
) -> None:
    retrains.write([{"text": None, "label": "metals"} for _ in range(40)])
    run = retrains.run()
    assert str(run.state) == "failed"
    assert states(run) == {
        **dict.fromkeys(["start", "source", "finish"], "success"),
        "validate": "failed",
        **dict.fromkeys([*NAMES[2:], "approval"], "upstream_failed"),
    }
    assert tries(run, "validate") == 1
    found = summary(run)
    assert found["outcome"] == "rejected"
    assert found["verdicts"][0]["outcome"] == "fail"
    assert list(found["cost"]) == [*found["seconds"], "total"]
    assert "rejected: snapshot: fail" in capfd.readouterr().out
    assert run.get_task_instance("validate").xcom_pull(task_ids="validate")["outcome"] == "fail"


def test_a_users_mistake_is_not_tried_again(retrains: Retrains) -> None:
    retrains.rows.unlink()
    run = retrains.run()
    assert str(run.state) == "failed"
    assert states(run)["source"] == "failed"
    assert tries(run, "source") == 1
    assert summary(run)["outcome"] == "failed"
    assert "rows.jsonl" in summary(run)["reason"]
    assert list(summary(run)["cost"]) == ["source", "total"]


def test_a_crash_is_tried_again_and_ends_the_mlflow_run(
    retrains: Retrains, load_dags: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    from datetime import timedelta

    script = tmp_path / "python.py"
    script.write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setenv("EVERGREEN_PYTHON", f"{sys.executable} {script}")
    dag = load_dags()["retrain_tiny"]
    dag.get_task("fine_tune").retry_delay = timedelta(seconds=1)
    run = dag.test(run_conf={})
    assert str(run.state) == "failed"
    assert states(run)["fine_tune"] == "failed"
    assert tries(run, "fine_tune") == 2
    found = summary(run)
    assert found["outcome"] == "failed"
    assert "ended by SIGKILL" in found["reason"]
    assert mlflow_status(found["mlflow_run_id"]) == "FAILED"
