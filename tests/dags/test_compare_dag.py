"""The DAG `compare` in real Airflow: versions by default and by name, data as it is now, the report and the link."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tiny import tiny_artifact, tiny_config, tiny_file, tiny_models, tiny_release, tiny_snapshot

from mlops import promotion, registry, tracking
from mlops.scoring import score

Load = Callable[[], dict[str, Any]]


@pytest.fixture
def dag(load_dags: Load, pipelines: Path, airflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Version 1 (fp32) of "tiny" serves, version 2 (int8) does not; both know their answers and have MLflow runs."""
    monkeypatch.setenv("EVERGREEN_MLFLOW_URL", "http://mlflow.test")
    tiny_file(pipelines)
    snapshot = tiny_snapshot(tiny_models()["base"])
    for seed, variant in enumerate(("fp32", "int8")):
        evaluation = score(tiny_artifact(variant), snapshot)
        run_id = tracking.start_run(tiny_config(tiny_models()["base"]), f"r{seed}", {})
        registry.register(tiny_release(variant, seed=seed).model_copy(update={"evaluation": evaluation}), {}, run_id)
    promotion.promote("tiny", "1", "a test")
    return load_dags()["compare"]


def run(dag: Any, **conf: Any) -> Any:
    whole = {"model": "tiny", "a": "champion", "b": None, "now": False, **conf}
    return dag.test(run_conf=whole).get_task_instance("compare")


def test_champion_and_the_newest_by_default_with_report_and_link(dag: Any) -> None:
    instance = run(dag)
    assert str(instance.state) == "success"
    found = instance.xcom_pull(task_ids="compare")
    assert (found["a"]["version"], found["b"]["version"], found["data"]) == ("1", "2", None)
    report = instance.xcom_pull(task_ids="compare", key="report")
    assert report.startswith("## tiny: version 2 beside version 1")
    assert "| macro\\_f1 |" in report
    address = unquote(instance.xcom_pull(task_ids="compare", key="comparison"))
    assert address in unquote(report)
    head, _, runs = address.partition("&runs=")
    assert head == 'http://mlflow.test/#/compare-model-versions?name="tiny"'
    assert set(json.loads(runs)) == {"1", "2"}
    assert all(json.loads(runs).values())


def test_data_as_it_is_now(dag: Any) -> None:
    found = run(dag, a="2", b="1", now=True).xcom_pull(task_ids="compare")
    assert (found["a"]["version"], found["b"]["version"], found["data"]) == ("2", "1", "tiny")
    assert registry.aliased(tracking.client(), "tiny", "champion") == "1"


def test_a_users_mistake_is_not_tried_again(dag: Any, capfd: pytest.CaptureFixture[str]) -> None:
    for conf, told in (({"b": "9"}, "no version or alias '9'"), ({"model": "other"}, "no version or alias 'champion'")):
        instance = run(dag, **conf)
        assert (str(instance.state), instance.try_number) == ("failed", 1)
        assert told in capfd.readouterr().out


def test_the_form(load_dags: Load, pipelines: Path) -> None:
    tiny_file(pipelines)
    (pipelines / "torn.yaml").write_text("name: [")
    dag = load_dags()["compare"]
    form = {name: dag.params.get_param(name) for name in dag.params}
    assert {name: param.value for name, param in form.items()} == {
        "model": "tiny",
        "a": "champion",
        "b": None,
        "now": False,
    }
    assert form["model"].schema["examples"] == ["tiny"]
    assert all(param.schema["title"] and param.description for param in form.values())
