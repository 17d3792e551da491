"""The DAG `maintenance` in real Airflow: its form, a dry run, a removal, and when it starts by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_release

from mlops import promotion, registry
from mlops.retention import rule as rules

Load = Callable[[], dict[str, Any]]
DAY = 86_400.0


@pytest.fixture
def dag(load_dags: Load, airflow_db: Path) -> Any:
    """Versions 1, 2 and 3 of "tiny" have served, version 3 serves."""
    for seed in range(3):
        promotion.promote("tiny", registry.register(tiny_release(seed=seed), {}, None).version, "a test")
    return load_dags()["maintenance"]


def run(dag: Any, **conf: Any) -> tuple[str, Any]:
    instance = dag.test(run_conf={"keep": 5, "dry_run": False, **conf}).get_task_instance("collect")
    return str(instance.state), instance.xcom_pull(task_ids="collect")


def left() -> list[str]:
    return [row["version"] for row in registry.releases("tiny")]


def test_tells_then_removes_then_finds_nothing(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state, found = run(dag)
    assert (state, found["rule"], found["removed"]) == ("success", {"keep": 5, "days": 90}, 0)
    monkeypatch.setattr(rules, "Rule", functools.partial(rules.Rule, ahead=100 * DAY))
    assert run(dag, keep=1, dry_run=True)[1]["freed"]["version"]["count"] == 1
    assert left() == ["1", "2", "3"]
    state, found = run(dag, keep=1)
    assert (state, found["freed"]["version"]["count"], left()) == ("success", 1, ["2", "3"])
    assert found["stays"] == {"tiny": {"2": "previous", "3": "champion"}}
    assert run(dag, keep=1)[1]["removed"] == 0


def test_the_form_and_the_schedule(load_dags: Load) -> None:
    dag = load_dags()["maintenance"]
    assert {name: dag.params.get_param(name).value for name in dag.params} == {"keep": 5, "days": 90, "dry_run": False}
    assert dag.timetable.expression == "17 4 * * *"
    assert dag.is_paused_upon_creation is not False
    assert dag.get_task("collect").execution_timeout is not None
    for name, wrong in (("keep", 0), ("days", 0.5), ("dry_run", "perhaps")):
        with pytest.raises(ValueError, match="Failed validating"):
            dag.params.get_param(name).resolve(wrong)
