"""The client against a real server, and the samples of docs/serving.md as a reader would run them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Running, publish, serving
from tiny import tiny_models, tiny_rows

from mlops.client import Client, ServerError
from mlops.errors import UserError
from mlops.serving.runtime import Runtime

TEXTS = [row["text"] for row in tiny_rows(8, seed=7)]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


@pytest.fixture
def server(home: Path) -> Iterator[Running]:
    publish()
    with serving(home.parent, "--predictions", "text") as running:
        yield running


def test_it_asks_and_tells(server: Running) -> None:
    with Client(f"http://127.0.0.1:{server.port}/") as client:
        assert client.ready()
        answer = client.predict(TEXTS, request_id="mine", sticky="a user")
        expected = Runtime.load(tiny_models()["fp32"]).predict(TEXTS)
        assert [each["label"] for each in answer.predictions] == [each["label"] for each in expected]
        assert (answer.model, answer.version, answer.variant, answer.request_id) == ("tiny", "1", "fp32", "mine")
        assert answer.truncated == (False,) * 8
        client.feedback("mine", "metals", item=3)
        with pytest.raises(UserError, match="text-classification is asked texts"):
            client.predict([{"text_a": "x", "text_b": "y"}])
        with pytest.raises(TypeError):
            client.predict("one text")
        threads = [threading.Thread(target=lambda: found.append(client.predict(TEXTS).version)) for _ in range(6)]
        found: list[str] = []
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == ["1"] * 6
    with Client(f"http://127.0.0.1:{server.port}", timeout=1e-3) as hurried, pytest.raises(ServerError):
        hurried.predict(TEXTS * 20)
    # The page's own samples, one after the other.
    samples = [block for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.S) if "curl" in block]
    assert len(samples) >= 3
    curl = shutil.which("curl")
    if not curl:
        pytest.skip("curl is not installed")
    for sample in samples:
        command = sample.replace("localhost:8080", f"127.0.0.1:{server.port}").replace("news-topics", "tiny")
        done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=True)
        body = json.loads(done.stdout)
        assert "detail" not in body, (command, body)
        assert "error" not in body, (command, body)


def test_a_client_needs_no_model() -> None:
    code = "import sys, mlops.client; print(sorted({'numpy', 'onnxruntime', 'mlflow', 'torch', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_gone_or_busy_is_asked_again() -> None:
    answers = [
        b"HTTP/1.1 429 Too Many\r\nRetry-After: 0\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"",
        b"HTTP/1.1 202 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\nConnection: close\r\nX-Request-ID: seen\r\n\r\nwhat?",
    ]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with Client(f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            client.feedback("x", "y")  # refused, then reset, then taken
            with pytest.raises(ServerError, match=r"500: what\? \(request seen\)") as failed:
                client.feedback("x", "y")
        assert failed.value.status == 500
        thread.join(10)
    with Client("http://127.0.0.1:9", tries=2) as nobody:
        assert not nobody.ready()
        with pytest.raises(ServerError, match="did not answer"):
            nobody.predict(["x"])
    for url in ("localhost:8080", "ftp://x", "http://"):
        with pytest.raises(UserError, match="found the address"):
            Client(url)
