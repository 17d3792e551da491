"""kill -9 of MLflow's server, of the S3 server and of our own, each while clients ask: what they saw."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import running
from running import publish, serving
from servers import free_port, s3

from mlops.client import Client


@pytest.fixture
def mlflow_server(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A tracking server of its own; this process and its children use it."""
    port, log = free_port(set()), tmp_path / "mlflow.log"
    place = [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/m.db",
        "--artifacts-destination",
        str(tmp_path / "artifacts"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("wb") as lines:
        server = subprocess.Popen(
            [*command, *place], stdout=lines, stderr=lines, env=environment, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    running.wait_for(f"{url}/health", server, log)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    yield server
    kill_all(server.pid)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A store in an S3 server of its own; its process id."""
    (tmp_path / "s3").mkdir()
    with s3(tmp_path / "s3") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("EVERGREEN_STORE", "s3://evergreen/store")
        (pid,) = [child.pid for child in psutil.Process().children() if f"-dir={tmp_path / 's3'}" in child.cmdline()]
        yield pid


def kill_all(pid: int) -> None:
    """kill -9 of a process and its children, as an out-of-memory killer or a lost machine ends them."""
    try:
        every = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return
    for process in every:
        process.kill()
    psutil.wait_procs(every, 10)


@contextmanager
def load(url: httpx.URL, clients: int = 4) -> Iterator[Counter[str]]:
    """Clients that ask without a pause; how often each outcome was seen, "200 1" for an answer of version 1."""
    seen: Counter[str] = Counter()
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=30) as own:
            while not over.is_set():
                try:
                    answer = own.post("/v1/predict", json={"inputs": ["ba do", "ku"]})
                    whole = answer.status_code == 200 and len(answer.json()["predictions"]) == 2
                    seen[
                        f"{answer.status_code} {answer.json()['model']['version']}" if whole else answer.text[:200]
                    ] += 1
                except httpx.TransportError as error:
                    seen[type(error).__name__] += 1
                    time.sleep(0.05)

    askers = [threading.Thread(target=ask) for _ in range(clients)]
    for asker in askers:
        asker.start()
    try:
        yield seen
    finally:
        over.set()
        for asker in askers:
            asker.join(60)


def wait_for(seen: Counter[str], what: str, more: int) -> None:
    """Until so many more of an outcome were seen."""
    enough, deadline = seen[what] + more, time.monotonic() + 60
    while seen[what] < enough:
        assert time.monotonic() < deadline, dict(seen)
        time.sleep(0.02)


def test_registry_and_store_are_killed_under_load_and_no_client_notices(
    mlflow_server: subprocess.Popen[bytes], store: int, home: Path
) -> None:
    publish()
    with serving(home.parent, "--predictions", "text") as (client, _, _):
        with load(client.base_url) as seen:
            wait_for(seen, "200 1", 50)
            kill_all(mlflow_server.pid)
            wait_for(seen, "200 1", 200)
            os.kill(store, signal.SIGKILL)
            wait_for(seen, "200 1", 200)
            time.sleep(3)  # past a look at the alias
            wait_for(seen, "200 1", 50)
            assert client.get("/readyz").status_code == 200
        assert set(seen) == {"200 1"}
        # What could not be kept is counted, not hidden.
        deadline = time.monotonic() + 60
        while True:
            lines = client.get("/metrics").text.splitlines()
            lost = [
                float(line.split()[-1])
                for line in lines
                if line.startswith("evergreen_prediction") and "failed" in line
            ]
            if any(lost):
                break
            assert time.monotonic() < deadline, [line for line in lines if "prediction" in line]
            time.sleep(0.5)
        port = client.base_url.port
        assert port is not None
    # A restart with both still gone: the last good release, from its verified copy.
    with serving(home.parent, port=port) as (client, _process, _log):
        answer = client.post("/v1/predict", json={"inputs": ["ba do"]})
        assert (answer.status_code, answer.json()["model"]["version"]) == (200, "1")


def test_the_server_is_killed_under_load_and_a_client_rides_over_it(home: Path) -> None:
    publish()
    with serving(home.parent) as (client, process, _log):
        port = client.base_url.port
        assert port is not None
        with load(client.base_url) as seen:
            wait_for(seen, "200 1", 50)
            process.kill()
            process.wait(10)
            wait_for(seen, "ConnectError", 4)
            answered: list[str] = []

            def patient() -> None:
                with Client(f"http://127.0.0.1:{port}", timeout=60, tries=60) as own:
                    answered.append(own.predict(["ba do"]).version)

            waiting = threading.Thread(target=patient)
            waiting.start()
            with serving(home.parent, port=port) as (again, _, _):
                wait_for(seen, "200 1", 50)
                waiting.join(60)
                assert again.get("/readyz").status_code == 200
        # A connection that is cut, or refused: never half an answer, a wrong one or an error of the server's own.
        assert set(seen) <= {"200 1", "ConnectError", "ReadError", "WriteError", "RemoteProtocolError"}, dict(seen)
        assert answered == ["1"]
