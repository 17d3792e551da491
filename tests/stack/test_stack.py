"""The main job on the stack, through Airflow's REST API alone: rows, store, logs and values on S3, a person who decides."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiny import tiny_rows

pytestmark = pytest.mark.stack


def asked_of(stack: Any, dag: str, run: str) -> None:
    """Until a run waits for a person, and a little more: who answers at once fails the task (a fault of Airflow 3.3)."""
    deadline = time.monotonic() + 600
    while stack.airflow.states(dag, run).get("approval") != "awaiting_input":
        states = stack.airflow.states(dag, run)
        assert not {"failed", "upstream_failed"} & set(states.values()), states
        assert time.monotonic() < deadline, states
        time.sleep(1)
    time.sleep(3)


def test_a_retrain_by_hand_is_promoted_and_served(stack: Any) -> None:
    airflow = stack.airflow
    stack.put("alone", "first", tiny_rows(240))
    airflow.until_parsed("retrain_alone")
    airflow.unpause("retrain_alone")
    run = airflow.trigger("retrain_alone")
    assert airflow.wait("retrain_alone", run) == "success", airflow.states("retrain_alone", run)
    told = airflow.value("retrain_alone", run, "finish")
    assert told["outcome"] == "promoted", told["reason"]
    queues = {each["task_id"]: each["queue"] for each in airflow.tasks("retrain_alone", run)}
    assert queues["fine_tune"] == "gpu"
    assert queues["validate"] == "default"
    assert "fine_tune" in airflow.log("retrain_alone", run, "fine_tune")
    logs = stack.s3.list_objects_v2(Bucket="evergreen", Prefix="airflow-logs/dag_id=retrain_alone")
    assert logs["KeyCount"] > 10
    deadline = time.monotonic() + 60
    with httpx.Client(base_url=stack.known["PUBLIC_SERVE_URL"], timeout=10) as server:
        while server.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, server.get("/readyz").text
            time.sleep(0.5)
        answer = server.post("/v1/predict", json={"inputs": ["ba do"]}).json()
    assert (answer["model"]["name"], answer["model"]["version"]) == ("alone", "1")


def test_nobody_asks_mlflow_without_a_password(stack: Any) -> None:
    place = f"{stack.known['PUBLIC_MLFLOW_URL']}/api/2.0/mlflow/registered-models/search"
    assert httpx.get(place).status_code == 401
    known = ("server", stack.known["MLFLOW_SERVER_PASSWORD"])
    assert httpx.get(place, auth=known).status_code == 200
    body = {"name": "alone", "alias": "champion", "version": "1"}
    moved = httpx.post(place.replace("search", "alias"), auth=known, json=body)
    assert moved.status_code == 403  # who reads may not promote
    assert httpx.get(place, auth=known, headers={"Host": "evil.test"}).status_code == 403


def test_new_objects_start_a_retrain_and_a_person_decides(
    stack: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    airflow, dag = stack.airflow, "retrain_asked"
    stack.put("asked", "first", tiny_rows(240))
    airflow.until_parsed(dag)
    airflow.unpause(dag)
    run = airflow.trigger(dag)
    asked_of(stack, dag, run)
    airflow.answer(dag, run, "approval", "Approve", reason="looks good")
    assert airflow.wait(dag, run) == "success", airflow.states(dag, run)
    assert airflow.value(dag, run, "finish")["outcome"] == "promoted"

    time.sleep(10)  # the watcher's first look ever only remembers
    stack.put("asked", "second", tiny_rows(200, seed=7))
    deadline = time.monotonic() + 120
    while len(runs := airflow.runs(dag)) < 2:
        assert time.monotonic() < deadline, "no event of the data asset came"
        time.sleep(1)
    assert runs[0]["run_type"] == "asset_triggered"
    second = runs[0]["dag_run_id"]
    asked_of(stack, dag, second)
    airflow.answer(dag, second, "approval", "Reject", reason="not today")
    assert airflow.wait(dag, second) == "success", airflow.states(dag, second)
    told = airflow.value(dag, second, "finish")
    stack.use(monkeypatch, tmp_path)
    from mlops import ledger, registry

    entries = [(entry["action"], entry["who"], entry["reason"]) for entry in ledger.entries("asked")]
    assert ("approve", "admin", "looks good") in entries
    champion = registry.champion("asked")
    assert champion is not None
    assert champion.version == "1"
    assert told["outcome"] == "held"
    assert any(action == "hold" and "not today" in reason for action, _, reason in entries)
