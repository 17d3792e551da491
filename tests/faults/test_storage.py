"""S3 and MLflow's server behind a line that fails: refused, slow, and done although the answer never came.

A request that was done and not answered is sent again by every client. What it made the first time must count once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import running
from mlflow.exceptions import MlflowException
from outcomes import empty_registry, end, row
from relay import Harm, Relay, relay
from servers import free_port
from test_kills import kill_all
from tiny import tiny_release

from mlops import ledger, locks, promotion, registry
from mlops.errors import StoreError
from mlops.store import open_store

ONCE = [("promote", "1")]


@pytest.fixture
def line(s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """The line to the S3 server that has the store and the lock."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EVERGREEN_STORE", f"s3://evergreen/{tmp_path.name}")
    # As often as ever, sooner: the waits between tries are botocore's own matter.
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.02)
    monkeypatch.setattr(locks, "WAIT_SECONDS", 20.0)
    empty_registry()
    with relay(s3_server["AWS_ENDPOINT_URL"]) as known:
        monkeypatch.setenv("AWS_ENDPOINT_URL", known.url)
        yield known


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a tracking server with a database of its own."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port(set())
    # Files go to a folder and not through the server: two hundred of them, and no harm is done to them here.
    place = ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--no-serve-artifacts"]
    place += ["--default-artifact-root", str(folder / "artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_HOME", str(folder))
        empty_registry().rename(folder / "m.db")
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log.txt").open("wb") as log:
        server = subprocess.Popen([*command, *place], stdout=log, stderr=log, env=environment, start_new_session=True)
    running.wait_for(f"http://127.0.0.1:{port}/health", server, folder / "log.txt")
    yield f"http://127.0.0.1:{port}"
    kill_all(server.pid)


def publish(name: str = "tiny") -> float:
    """Registers and promotes a tiny release; seconds."""
    began = time.monotonic()
    release = registry.register(tiny_release(name=name), {}, None)
    promotion.promote(name, release.version, "a test")
    return time.monotonic() - began


def test_s3_that_is_busy_or_slow_is_waited_for(line: Relay) -> None:
    line.harms = [Harm("refuse", times=2), Harm("slow", method="PUT|POST", times=1, seconds=0.1)]
    publish()
    assert line.harms[0].done.total() > 20
    assert line.harms[1].done.total() > 5
    line.harms.clear()
    row(
        "S3 answers 503 twice to every request, and slowly",
        "`register`, `promote`",
        "promoted",
        end("tiny", ["1"], "1", ONCE),
    )


def test_s3_that_did_it_and_did_not_answer_did_it_once(line: Relay) -> None:
    line.harms = [Harm("cut")]
    seconds = publish()
    harmed = line.harms[0].done
    assert {"PUT"} <= {key.split()[0] for key in harmed}
    assert any("/ledger/" in key for key in harmed)
    assert any("/locks/" in key for key in harmed)
    assert seconds < 30, "it waited for the term of a lease that was its own"
    line.harms.clear()
    row("S3 does every request and cuts the line before it answers", "`register`, `promote`", "promoted",
        end("tiny", ["1"], "1", ONCE))  # fmt: skip


def test_of_two_writers_of_the_same_bytes_one_wins_although_the_line_is_cut(line: Relay) -> None:
    store = open_store()
    line.harms = [Harm("cut", method="PUT")]
    assert store.create_document("race/1", {"who": "both"})  # cut, sent again, and known as its own
    line.harms = [Harm("cut", method="PUT")]
    assert not store.create_document("race/1", {"who": "both"})
    line.harms.clear()
    assert not store.create_document("race/1", {"who": "both"})


def test_s3_that_stays_away_is_an_error_and_the_next_try_ends_it(line: Relay) -> None:
    line.harms = [Harm("refuse", method="PUT", path="/ledger/", times=99)]
    with pytest.raises(StoreError, match=r"documents/ledger/tiny/000001\.json.*503"):
        publish()
    assert (registry.champion("tiny"), ledger.entries("tiny")) == (None, [])
    line.harms.clear()
    publish()
    row("S3 answers 503 for good", "`promote`", "failed; promoted when tried again", end("tiny", ["1"], "1", ONCE))


@pytest.fixture
def api(mlflow_server: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """The line to the tracking server; the store is a folder."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    with relay(mlflow_server) as known:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", known.url)
        yield known


def test_mlflow_that_did_it_and_did_not_answer_has_one_version(api: Relay) -> None:
    api.harms = [Harm("cut", "PUT|POST|PATCH|DELETE", "/mlflow/(?!runs/outputs)")]
    publish()
    harmed = " ".join(api.harms[0].done)
    api.harms.clear()
    whole = [each["version"] for each in registry.releases("tiny") if each["state"] == "complete"]
    assert len(whole) == 1
    left = end("tiny", whole, whole[0], [("promote", whole[0])])
    for what in ("experiments/create", "model-versions/create", "model-versions/set-tag", "registered-models/alias"):
        assert what in harmed
    row("MLflow does every write and cuts the line before it answers", "`register`, `promote`", "promoted", left)


def test_what_mlflow_itself_does_not_do_twice_is_an_error_and_the_next_try_ends_it(api: Relay) -> None:
    """MLflow 3.17 answers a repeated runs/outputs with a broken constraint of its database."""
    api.harms = [Harm("cut", path="runs/outputs")]
    with pytest.raises(MlflowException, match="UNIQUE constraint failed: inputs"):
        publish("other")
    assert "other" not in registry.names()
    publish("other")
    left = end("other", ["1"], "1", ONCE)
    assert left == 1  # the first try's upload
    row("MLflow links an upload to its run and cuts the line", "`register`", "failed; promoted when tried again", left)
