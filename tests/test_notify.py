"""The notify section of a pipeline file, and what a message says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from mlops import config
from mlops.config_notify import Event
from mlops.errors import ConfigError
from mlops.reports.message import message

PIPELINE = """\
name: tickets
task: text-classification
data: {source: rows.jsonl}
model: {base: "package://some/model"}
"""


def load(folder: Path, section: str) -> config.PipelineConfig:
    path = folder / "tickets.yaml"
    path.write_text(PIPELINE + section + "\n")
    return config.load(path)


def test_defaults_and_the_word_on(tmp_path: Path) -> None:
    assert load(tmp_path, "").notify == ()
    first, second = load(
        tmp_path,
        "notify: [{by: smtp, to: [ml@example.org]}, {by: slack, to: ['#ml'], connection: mine, on: [held, rolled_back]}]",
    ).notify
    assert (first.connection, first.on) == (
        None,
        ("promoted", "rejected", "failed", "awaiting_approval", "rolled_back"),
    )
    assert (second.to, second.connection, second.on) == (("#ml",), "mine", ("held", "rolled_back"))
    again = load(tmp_path, "notify: [{by: apprise}]")
    assert config.PipelineConfig.model_validate_json(again.model_dump_json(by_alias=True)) == again
    assert again.fingerprint == load(tmp_path, "").fingerprint


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("[{by: smpt}]", "notify.0.by: found 'smpt'; should be 'smtp', 'slack' or 'apprise'; did you mean 'smtp'?"),
        (
            "[{by: apprise, conection: x}]",
            "notify.0.conection: unknown key, found 'x'; allowed: by, connection, to, on",
        ),
        ("[{by: smtp}]", "notify.0: to: found 'nothing'; allowed are addresses such as ml@example.org"),
        ("[{by: smtp, to: [a@b.c, nobody]}]", "notify.0: to: found 'nobody'"),
        ("[{by: slack, to: [a, b]}]", "notify.0: to: found ['a', 'b']; allowed is one channel"),
        ('[{by: apprise, to: ["a\\nb"]}]', "'a\\nb' is no address"),
        ("[{by: apprise, on: [promotd]}]", "notify.0.on.0: found 'promotd'"),
        ("[{by: apprise, on: []}]", "notify.0: on: found none; allowed are one or more of promoted, held"),
        ("[{to: [a@b.c]}]", "notify.0.by: is missing"),
        ("[{by: apprise, connection: 'a b'}]", "notify.0.connection: found 'a b'"),
    ],
)
def test_faults_in_a_users_words(tmp_path: Path, section: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"notify: {section}")
    (found,) = caught.value.faults
    assert fault in found


def evaluation(value: float) -> dict[str, Any]:
    return {"metrics": {"macro_f1": {"value": value, "low": value - 0.02, "high": value + 0.02, "n": 1500}}}


def test_what_a_message_says() -> None:
    summary = {
        "pipeline": "tickets",
        "outcome": "promoted",
        "reason": "better <b>\x1b[31m",
        "sentence": "better\nby 0.02",
        "candidate": evaluation(0.95),
        "champion_before": evaluation(0.93) | {"version": "4"},
        "release": {"name": "tickets", "version": "5"},
    }
    told = message("promoted", summary, "macro_f1", {"MLflow run": 'http://m/?a="b"', "server": None})
    assert told.subject == "tickets: promoted (version 5)"
    assert told.body.splitlines() == [
        "promoted: the candidate serves now",
        "macro_f1: 0.9500 [0.9300, 0.9700] on 1,500 test rows, candidate",
        "macro_f1: 0.9300 [0.9100, 0.9500] on 1,500 test rows, champion, version 4",
        "better by 0.02",
        "reason: better <b>\ufffd[31m",
    ]
    assert told.text.endswith('\n\nMLflow run: http://m/?a="b"')
    assert "better &lt;b&gt;" in told.page
    assert told.page.endswith('<p><a href="http://m/?a=&quot;b&quot;">MLflow run</a></p>')


@pytest.mark.parametrize("event", get_args(Event))
def test_every_event_has_words(event: str) -> None:
    told = message(event, {"pipeline": "t", "reason": "x" * 5000}, "f1", {})
    assert told.subject == f"t: {event.replace('_', ' ')}"
    assert told.body.startswith(event.replace("_", " "))
    assert len(told.text) < 1800
