"""The DAG `rollback` in real Airflow: the form, the move with who and why, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_release

from mlops import ledger, promotion, registry
from mlops.store import open_store
from mlops.tracking import client

Load = Callable[[], dict[str, Any]]


@pytest.fixture
def dag(load_dags: Load, airflow_db: Path) -> Any:
    """Versions 1 and 2 of "tiny" have served, version 2 serves."""
    for seed in (0, 1):
        promotion.promote("tiny", registry.register(tiny_release(seed=seed), {}, None).version, "a test")
    return load_dags()["rollback"]


def champion() -> str | None:
    return registry.aliased(client(), "tiny", "champion")


def state(run: Any) -> str:
    return str(run.get_task_instance("rollback").state)


def test_back_and_written_down(dag: Any) -> None:
    run = dag.test(run_conf={"model": "tiny", "reason": "complaints about refunds"})
    assert state(run) == "success"
    assert run.get_task_instance("rollback").xcom_pull(task_ids="rollback") == {"model": "tiny", "version": "1"}
    assert champion() == "1"
    last = ledger.entries("tiny")[-1]
    assert (last["action"], last["from"], last["to"], last["reason"]) == (
        "rollback",
        "2",
        "1",
        "complaints about refunds",
    )


def test_what_it_refuses_moves_nothing_and_is_not_tried_again(dag: Any) -> None:
    damaged = open_store().fetch(registry.at("tiny", "1").model.files) / "package.json"
    for conf, why in (
        ({"model": "absent", "reason": "a test"}, "no earlier release"),
        ({"model": "tiny", "to": "7", "reason": "a test"}, "earlier ones are 1"),
        ({"model": "Not A Name", "reason": "a test"}, "allowed: lower-case"),
    ):
        run = dag.test(run_conf=conf)
        assert (state(run), run.get_task_instance("rollback").try_number) == ("failed", 1), why
    assert champion() == "2"
    damaged.write_text("{}")
    assert state(dag.test(run_conf={"model": "tiny", "reason": "a test"})) == "failed"
    assert champion() == "2"
    assert [entry["action"] for entry in ledger.entries("tiny")] == ["promote", "promote"]


def test_the_form(load_dags: Load, pipelines: Path) -> None:
    form = load_dags()["rollback"].params
    assert set(form) == {"model", "to", "reason"}
    for field in form:
        assert form.get_param(field).schema["title"]
        assert form.get_param(field).description
