"""Messages through Airflow's own notifier to a real mail server: of a retrain, of a question, of a rollback; never
its end."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mail import mail_server, read
from tiny import tiny_base, tiny_config, tiny_models, tiny_release, tiny_rows, tiny_run

from mlops import promotion, registry
from mlops.config_notify import NotifyEntry

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
notify:
  - {{by: smtp, to: [ml@example.org, ops@example.org], on: [promoted, failed, rolled_back]}}
  - {{by: smtp, to: [boss@example.org], on: [rejected], connection: other}}
"""
PLAIN = {
    "disable_ssl": True,
    "disable_tls": True,
    "from_email": "evergreen@example.org",
    "retry_limit": 1,
    "timeout": 5,
}


def connect(monkeypatch: pytest.MonkeyPatch, port: int, name: str = "SMTP_DEFAULT") -> None:
    told = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": PLAIN}
    monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(told))


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    with mail_server() as (port, received):
        connect(monkeypatch, port)
        yield received


@pytest.fixture
def load(load_dags: Load, pipelines: Path, airflow_db: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.setenv("EVERGREEN_MLFLOW_URL", "http://mlflow.test")
    monkeypatch.setenv("EVERGREEN_SERVE_URL", "http://serve.test/")
    rows = pipelines.parent / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in tiny_rows(240)))
    base = tiny_base(pipelines.parent / "base")
    (pipelines / "tiny.yaml").write_text(PIPELINE.format(rows=rows, base=base))
    return load_dags


def test_a_promotion_and_a_rollback_are_told_with_links(load: Load, mails: list[bytes]) -> None:
    from mlops.tracking import client

    run = load()["retrain_tiny"].test(run_conf={})
    assert str(run.state) == "success"
    subject, to, body = read(mails.pop())
    assert mails == []
    assert (subject, to) == ("tiny: promoted (version 1)", ["ml@example.org", "ops@example.org"])
    assert "macro_f1: " in body
    assert "test rows, candidate" in body
    summary = run.get_task_instance("finish").xcom_pull(task_ids="finish")
    kept = client().get_run(summary["mlflow_run_id"])
    page = f"http://mlflow.test/#/experiments/{kept.info.experiment_id}/runs/{summary['mlflow_run_id']}"
    airflow = kept.data.tags["airflow.url"]
    assert airflow.startswith("http://airflow.test/dags/retrain_tiny/runs/")
    for address in (airflow, page, f"{page}/artifacts/gate_report.html", "http://mlflow.test/#/models/tiny/versions/1"):
        assert f'<a href="{address}">' in body
    assert '<a href="http://serve.test">server</a>' in body

    # The same places are links of the Airflow tasks, and MLflow's page leads back.
    def told(task: str, key: str) -> Any:
        return run.get_task_instance(task).xcom_pull(task_ids=task, key=key)

    for task in ("gate", "finish"):
        assert (told(task, "mlflow_run"), told(task, "gate_report")) == (page, f"{page}/artifacts/gate_report.html")
    assert told("promote", "version") == "http://mlflow.test/#/models/tiny/versions/1"
    assert f"[Airflow run]({airflow}) · [prediction server](http://serve.test)" in kept.data.tags["mlflow.note.content"]
    assert "notify" not in kept.data.params

    second = registry.register(tiny_release(seed=5), {}, None).version
    promotion.promote("tiny", second, "a test")
    run = load()["rollback"].test(run_conf={"model": "tiny", "to": None, "reason": "wrong on <refunds> {{ 7 * 7 }}"})
    assert str(run.state) == "success"
    subject, _, body = read(mails.pop())
    assert subject == "tiny: rolled back (version 1)"
    assert "wrong on &lt;refunds&gt; {{ 7 * 7 }}" in body  # neither markup nor a template


def test_a_broken_retrain_is_told_and_a_start_that_fails_too(load: Load, mails: list[bytes], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    text = rows.read_text()
    rows.unlink()
    assert str(load()["retrain_tiny"].test(run_conf={}).state) == "failed"
    subject, _, body = read(mails.pop())
    assert subject == "tiny: failed"
    assert "source: SourceError" in body
    assert "gate_report" not in body
    rows.write_text(text)
    (tmp_path / "base" / "tokenizer.json").unlink()
    assert str(load()["retrain_tiny"].test(run_conf={}).state) == "failed"
    subject, _, body = read(mails.pop())
    assert subject == "tiny: failed"
    assert "start: BaseModelError" in body
    assert mails == []


def test_a_server_that_is_down_costs_a_warning(
    load: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    connect(monkeypatch, 9, "OTHER")
    (tmp_path / "rows.jsonl").write_text('{"text": null, "label": "metals"}\n' * 40)
    run = load()["retrain_tiny"].test(run_conf={})
    assert str(run.get_task_instance("finish").state) == "success"
    assert run.get_task_instance("finish").xcom_pull(task_ids="finish")["outcome"] == "rejected"
    assert "rejected was not told by smtp through other: ConnectionRefusedError" in caplog.text


def test_a_question_is_told_when_it_begins_to_wait(
    mails: list[bytes], airflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from airflow.sdk.exceptions import TaskAwaitingInput
    from evergreen.approval import approval

    from mlops.steps.promote import promote

    release = registry.register(tiny_release(), {}, None)
    entry = {"by": "smtp", "to": ["ml@example.org"]}
    config = tiny_config(tiny_models()["base"], promote="approval", notify=[entry])
    run = tiny_run(tiny_models()["base"])
    values = {
        "promote": promote(config, run, release).model_dump(mode="json"),
        "start": {"config": config.model_dump(mode="json", by_alias=True), "run": run.model_dump(mode="json")},
    }
    instance = types.SimpleNamespace(id="0" * 32, xcom_pull=lambda task_ids, key="return_value": values.get(task_ids))
    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **_: None)
    task = approval("tiny", 5, timedelta(hours=1))
    with pytest.raises(TaskAwaitingInput):
        type(task).execute.__wrapped__(task, {"ti": instance, "task_instance": instance})
    subject, to, body = read(mails.pop())
    assert (subject, to) == ("tiny: awaiting approval (version 1)", ["ml@example.org"])
    assert "macro_f1: 1.0000 [0.9000, 1.0000] on 36 test rows, candidate" in body
    assert "without an answer within 72 hours it does not serve" in body


@pytest.mark.parametrize("by", ["slack", "apprise"])
def test_a_provider_that_is_missing_breaks_that_pipelines_dag_alone(by: str, pipelines: Path, load_dags: Load) -> None:
    text = 'name: NAME\ntask: text-classification\ndata: {source: rows.jsonl}\nmodel: {base: "package://some/model"}\n'
    (pipelines / "one.yaml").write_text(text.replace("NAME", "one"))
    (pipelines / "two.yaml").write_text(text.replace("NAME", "two") + f"notify: [{{by: {by}, to: ['#models']}}]\n")
    found = load_dags()
    assert "broken" not in found["retrain_one"].tags
    assert found["retrain_two"].get_task("check").faults == f"notify: by: {by} needs apache-airflow-providers-{by}"


@pytest.mark.parametrize(
    ("by", "given"),
    [
        ("slack", {"slack_conn_id": "mine", "channel": "#models", "text": "s\nb"}),
        ("apprise", {"apprise_conn_id": "mine", "tag": ["#models"], "title": "s", "body": "b"}),
    ],
)
def test_what_the_other_notifiers_are_given(by: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their packages are not here: a class that takes what theirs take stands in."""
    from evergreen import notify

    from mlops.reports.message import Message

    module = types.ModuleType("a_notifier")
    module.Kind = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "a_notifier", module)
    monkeypatch.setitem(notify._NOTIFIERS, by, ("a_notifier", "Kind", "a-package"))
    entry = NotifyEntry.model_validate({"by": by, "to": ["#models"], "connection": "mine"})
    assert notify._notifier(entry, Message("s", "b", {})) == given
