"""The server as a process: its lines, its refusals, and an end that answers everybody who was let in."""

from __future__ import annotations

import errno
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from running import publish, serving
from servers import free_port

from mlops.serving.server import Options, _listen


def test_nobody_waits_in_a_queue_before_it_can_answer(home: Path) -> None:
    """While a model is loaded its port is taken and refuses at once."""
    port = free_port(set())
    taken = _listen(Options(port=port))
    with taken, socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
        taken.listen()
        assert client.connect_ex(("127.0.0.1", port)) == 0


def test_it_answers_writes_lines_and_ends_in_order(home: Path) -> None:
    publish()
    with serving(home.parent, "--drain", "1") as (client, process, log):
        answer = client.post("/v1/predict", json={"inputs": ["ba do secret"]}, headers={"X-Request-ID": "one"})
        assert answer.status_code == 200
        statuses: list[int | str] = []
        begun = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=client.base_url, timeout=30) as own:
                while True:
                    try:
                        statuses.append(own.post("/v1/predict", json={"inputs": ["ba do"] * 20}).status_code)
                    except httpx.ConnectError:
                        return  # it takes no new connections any more: what is left is for other servers
                    except httpx.TransportError as error:
                        statuses.append(repr(error))
                        return
                    begun.set()

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        assert begun.wait(20)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with httpx.Client(base_url=client.base_url) as late:
            assert late.get("/readyz").status_code == 503
            assert late.get("/healthz").status_code == 200
            found = late.post("/v1/predict", json={"inputs": ["ba do"]})
            assert found.status_code == 200
            assert found.headers["connection"] == "close"
        for asker in askers:
            asker.join(60)
        assert process.wait(30) == 0
        assert set(statuses) == {200}
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "one"]
    assert (line["route"], line["status"], line["items"], line["version"]) == ("/v1/predict", 200, 1, "1")
    assert line["tokens"] > 2
    assert "secret" not in log.read_text()
    assert lines[-1]["message"] == "stopped; 0 texts were left without an answer"


def test_beyond_loopback_it_asks_for_keys(home: Path) -> None:
    publish()
    with serving(home.parent, "--host", "0.0.0.0", "--log", "text") as (client, process, log):
        assert client.post("/v1/predict", json={"inputs": ["ba"]}).status_code == 401
        command = [sys.executable, "-m", "mlops", "keys", "add", "a team"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        time.sleep(1.1)
        answer = client.post("/v1/predict", json={"inputs": ["ba"]}, headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "has no key yet" in log.read_text()
        assert text not in log.read_text()


@pytest.mark.parametrize(
    "options", [("--port", "0"), ("--deadline", "0"), ("--deadline", "nan"), ("--max-body", "-1"), ("--drain", "-1")]
)
def test_options_that_cannot_be(options: tuple[str, ...]) -> None:
    from mlops.cli import main

    assert main(["serve", "tiny", *options]) == 2
