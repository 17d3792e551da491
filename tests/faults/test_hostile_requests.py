"""Bodies, headers and lines that no client sends: never an answer of 5xx, never a request without one, memory within bounds."""

from __future__ import annotations

import json
import random
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.append(str(Path(__file__).resolve().parents[1] / "serving"))
from running import publish, serving

DEEP = 20_000
ODD_VALUES: list[Any] = [
    None, True, 0, -1, 2**63, 1e308, "", "x" * 100_001, "\x00\u202e", "\ud7ff\ue000", "日本語" * 50, "🙂" * 2000,
    "a\u0301" * 5000,
    "word " * 15_000, [], {}, [[]], [[[]]], {"inputs": []}, ["x"] * 1025, [["t"] * 2000], {"text_a": "x"},
    {"text_a": 1, "text_b": 2},
    {"text_a": "x", "text_b": "y", "text_c": "z"}, {"": ""}, {"__proto__": {}}, "'; DROP TABLE --", "{{7*7}}", "../../etc/passwd",
]  # fmt: skip
ODD_BYTES = [
    b"", b"{", b"}", b"[]", b"null", b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"inputs": ["\xff"]}', b'{"inputs": ["\\ud800"]}',
    b'{"inputs": [NaN]}', b'{"inputs": [1e999]}', b'{"inputs": ["x"], "inputs": ["y"]}', b"[" * DEEP, b'{"a":' * DEEP,
    b'{"inputs": ' + b"[" * 1000 + b"]" * 1000 + b"}", b'{"inputs": ["' + b"x" * 1_900_000 + b'"]}',
    b'{"inputs": [' + b"[]," * 600_000 + b"[]]}", b'{"inputs": [' + b'"",' * 600_000 + b'""]}', b"9" * 1_000_000,
    b'{"inputs": [' + b"9" * 100_000 + b"]}", b'{"' + b"k" * 1_000_000 + b'": 1}', b'"' + b"\\u0000" * 300_000 + b'"',
    b'{"inputs": ["' + b"\\" * 999_999 + b'"]}', b"\x00" * 100_000, b"\x1f\x8b\x08" + b"\x00" * 1000, b" " * 1_900_000 + b"{}",
]  # fmt: skip


def grown(chance: random.Random, depth: int = 0) -> Any:
    """A value of random JSON, of words that the routes know and odd ones."""
    if depth > 4 or chance.random() < 0.4:
        return chance.choice(ODD_VALUES)
    names = [
        "inputs",
        "text_a",
        "text_b",
        "data",
        "shape",
        "datatype",
        "name",
        "id",
        "outputs",
        "request_id",
        "label",
        "item",
    ]
    if chance.random() < 0.5:
        return [grown(chance, depth + 1) for _ in range(chance.randint(0, 4))]
    return {chance.choice(names): grown(chance, depth + 1) for _ in range(chance.randint(0, 4))}


def bodies(examples: list[Any], chance: random.Random, count: int) -> Iterator[bytes]:
    yield from ODD_BYTES
    for example in examples:
        for name in example:
            for value in ODD_VALUES:
                yield json.dumps(example | {name: value}).encode()
            yield json.dumps({key: value for key, value in example.items() if key != name}).encode()
        whole = json.dumps(example).encode()
        for _ in range(count):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            yield bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])])
    for _ in range(count):
        yield json.dumps(grown(chance)).encode()


def test_no_body_makes_it_fail_or_grow(home: Path) -> None:
    publish()
    chance = random.Random(0)
    with serving(home.parent, "--log", "quiet") as running:
        client, server = running.client, psutil.Process(running.process.pid)
        document = client.get("/openapi.json").json()
        sent, statuses = 0, Counter[int]()
        sizes: list[int] = []
        for _ in range(2):
            for path, methods in document["paths"].items():
                if "post" not in methods:
                    continue
                content = methods["post"].get("requestBody", {"content": {"application/json": {"examples": {}}}})[
                    "content"
                ]
                examples = [each["value"] for each in content["application/json"]["examples"].values()]
                where = path.replace("{name}", "tiny").replace("{version}", "1")
                for body in bodies(examples, chance, 40):
                    kind = chance.choice(["application/json", "text/plain", "application/octet-stream", ""])
                    answer = client.post(where, content=body, headers={"Content-Type": kind} if kind else {})
                    statuses[answer.status_code] += 1
                    assert answer.status_code < 500, (where, body[:200], answer.text[:500])
                    assert (
                        answer.status_code in methods["post"]["responses"]
                        or str(answer.status_code) in methods["post"]["responses"]
                    ), (where, body[:200], answer.status_code)
                    sent += 1
            sizes.append(server.memory_info().rss)
        assert sent >= 1000
        assert statuses[200] > 0
        assert statuses[422] + statuses[400] > 500
        # The first pass brings every buffer to its size; the second, as hostile, adds next to nothing.
        assert sizes[1] < sizes[0] * 1.15, sizes
        assert sizes[1] < 1_500_000_000
        answer = client.post("/v1/predict", json={"inputs": ["ba do"]})
        assert answer.status_code == 200
        assert running.process.poll() is None


def raw(port: int, data: bytes) -> bytes:
    """What is answered to bytes that need not be HTTP; nothing where more is waited for or the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
        found = b""
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                found += part
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            pass
        return found


def test_no_line_makes_it_fail(home: Path) -> None:
    publish()
    chance = random.Random(1)
    start = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n"
    lines = [
        b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%2e%2e/%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /v2/models/%ff%fe/ready HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/models/" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        start + b"Content-Length: -5\r\n\r\n", start + b"Content-Length: 99999999999999999999\r\n\r\n",
        start + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello", start + b"Content-Length: 100\r\n\r\nshort",
        start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", start + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        start + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", start + b"Expect: 100-continue\r\n\r\n",
        start + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", start + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        start + b"".join(b"X%d: y\r\n" % number for number in range(2000)) + b"\r\n",
        start + b"X-Request-ID: \xff\xfe\r\nX-Timeout-Seconds: \xff\r\nContent-Length: 2\r\n\r\n{}",
        start + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", start + b"Authorization: " + b"\xff" * 100 + b"\r\n\r\n",
    ]  # fmt: skip
    good = start + b'Content-Type: application/json\r\nContent-Length: 21\r\n\r\n{"inputs": ["ba do"]}'
    for _ in range(150):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        lines.append(bytes(damaged))
    with serving(home.parent, "--log", "quiet") as running:
        answered = 0
        for line in lines:
            answer = raw(running.port, line)
            answered += answer.startswith(b"HTTP/1.1 4")
            assert not answer.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5")), (line[:200], answer[:300])
        assert answered > 50
        assert raw(running.port, good).startswith(b"HTTP/1.1 200")
        # Connections that say nothing keep nobody out.
        silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
        try:
            with httpx.Client(base_url=running.client.base_url, timeout=30) as fresh:
                assert fresh.post("/v1/predict", json={"inputs": ["ba do"]}).status_code == 200
        finally:
            for connection in silent:
                connection.close()
        assert running.process.poll() is None
