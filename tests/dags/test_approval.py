"""A person's yes or no in the DAG: what is asked, and what each answer does to champion and ledger."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config, tiny_models, tiny_release, tiny_run

from mlops import ledger, promotion, registry
from mlops.steps.promote import promote
from mlops.tracking import client

PIPELINE = """\
name: tiny
task: text-classification
data: {source: rows.jsonl}
model: {base: "package://some/model"}
promote: approval
approval_hours: 5
"""


class Events:
    """Where a task tells its events."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def add(self, asset: Any, extra: dict[str, Any]) -> None:
        self.told.append((asset.uri, extra))


class Instance:
    """A task instance as far as the operator looks at it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values, self.id = values, "00000000-0000-0000-0000-000000000000"

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.values.get(task_ids)


@pytest.fixture
def asked(pipelines: Path, load_dags: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The task of a retrain that waits with version 2 of "tiny" beside version 1, its context, and what a person is shown."""
    (pipelines / "tiny.yaml").write_text(PIPELINE)
    task = load_dags()["retrain_tiny"].get_task("approval")
    first = registry.register(tiny_release(), {}, None)
    promotion.promote("tiny", first.version, "a test")
    release = registry.register(tiny_release(replaces="1", seed=1), {}, None)
    config = tiny_config(tiny_models()["base"], promote="approval")
    run = tiny_run(tiny_models()["base"]).model_copy(update={"champion": first})
    waits = promote(config, run, release)
    start = {"config": config.model_dump(mode="json", by_alias=True), "run": run.model_dump(mode="json")}
    context = {"ti": Instance({"promote": waits.model_dump(mode="json"), "start": start})}
    context["task_instance"] = context["ti"]
    context["outlet_events"] = defaultdict(Events)
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **what: shown.append(what)
    )
    return task, context, shown


def answer(task: Any, context: Any, option: str, reason: str = "", who: str | None = "ann") -> dict[str, Any]:
    event = {
        "chosen_options": [option],
        "params_input": {"reason": reason} if who else {},
        "responded_at": datetime.datetime.now(datetime.UTC),
        "responded_by_user": {"id": "1", "name": who} if who else None,
        "timedout": who is None,
    }
    found: dict[str, Any] = task.execute_complete(context, event)
    return found


def aliases() -> tuple[str | None, str | None]:
    return registry.aliased(client(), "tiny", "champion"), registry.aliased(client(), "tiny", "candidate")


def test_it_parks_and_shows_what_is_needed_to_decide(asked: Any) -> None:
    from airflow.sdk.exceptions import TaskAwaitingInput

    task, context, shown = asked
    assert task.execution_timeout is not None
    with pytest.raises(TaskAwaitingInput) as parked:
        type(task).execute.__wrapped__(task, context)
    assert parked.value.timeout == datetime.timedelta(hours=5)
    (what,) = shown
    assert what["subject"] == "May tiny version 2 serve?"
    assert (what["options"], what["defaults"], list(what["params"])) == (["Approve", "Reject"], ["Reject"], ["reason"])
    for part in ("macro_f1**: 1.0000 [0.9000, 1.0000] on 36 test rows", "Beside: version 1.", "| candidate | pass |"):
        assert part in what["body"]


def test_yes_promotes_with_the_persons_name(asked: Any) -> None:
    task, context, _ = asked
    assert answer(task, context, "Approve", "looks good") == {
        "outcome": "promoted",
        "reason": "approved by ann: looks good",
        "who": "ann",
    }
    assert aliases() == ("2", None)
    ((uri, facts),) = [told for events in context["outlet_events"].values() for told in events.told]
    assert (uri, facts["version"], facts["replaces"]) == ("evergreen://champion/tiny", "2", "1")
    told = [(entry["action"], entry["who"], entry["reason"]) for entry in ledger.entries("tiny")[2:]]
    assert told == [("approve", "ann", "looks good"), ("promote", "ann", "looks good")]


def test_no_is_a_hold_with_the_reason_and_the_alias_is_gone(asked: Any) -> None:
    task, context, _ = asked
    assert answer(task, context, "Reject", "wrong on refunds")["outcome"] == "held"
    assert aliases() == ("1", None)
    assert not context["outlet_events"]
    last = ledger.entries("tiny")[-1]
    assert (last["action"], last["to"], last["who"]) == ("hold", "2", "ann")
    assert "rejected: wrong on refunds" in last["reason"]


def test_nobody_is_a_hold_that_goes_on_waiting(asked: Any) -> None:
    task, context, _ = asked
    assert answer(task, context, "Reject", who=None)["reason"] == "nobody answered within 5 hours"
    assert aliases() == ("1", "2")
    assert "nobody answered within 5 hours" in ledger.entries("tiny")[-1]["reason"]


def test_where_nobody_needs_to_be_asked_it_is_skipped(asked: Any) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    task, context, shown = asked
    context["ti"].values["promote"] = None
    with pytest.raises(AirflowSkipException):
        type(task).execute.__wrapped__(task, context)
    assert shown == []
