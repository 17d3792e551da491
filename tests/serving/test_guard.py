"""Who may ask, how much and how slowly; a route that nobody has listed is closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from served import release, still
from starlette.routing import Route
from starlette.testclient import TestClient

from mlops.cli import main
from mlops.errors import NotFound, UserError
from mlops.serving import access, keys
from mlops.serving.app import create_app
from mlops.serving.guard import Call
from mlops.serving.keys import Keys
from mlops.serving.options import Limits
from mlops.serving.service import Service

ASK = {"inputs": ["ba do"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def locked(file: Path) -> Iterator[tuple[TestClient, FastAPI]]:
    app = create_app(still(release()), keys=Keys(file))
    with TestClient(app) as client:
        yield client, app


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def again(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the server look at its file with the next request."""
    monkeypatch.setattr(keys, "_LOOK_SECONDS", 0.0)


def routes(app: FastAPI) -> set[tuple[str, str]]:
    return {(method, route.path) for route in app.routes if isinstance(route, Route) for method in route.methods or ()}


def call(client: TestClient, method: str, path: str, headers: dict[str, str] | None = None) -> Any:
    where = path.replace("{name}", "tiny").replace("{version}", "1")
    return client.request(method, where, headers=headers, json=ASK if method == "POST" else None)


def test_every_route_is_listed_and_every_listed_one_asks_for_its_scope(
    locked: tuple[TestClient, FastAPI], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, app = locked
    there = routes(app)
    assert there == set(access.ROUTES), "a route without a scope, or a scope without a route"
    documented = create_app(still(release())).openapi()["paths"]
    assert {(method.upper(), path) for path, methods in documented.items() for method in methods} <= there
    again(client, monkeypatch)
    texts = {scope: keys.add(file, scope, [scope])[0] for scope in access.SCOPES}
    for (method, path), needed in access.ROUTES.items():
        without = call(client, method, path)
        if needed == access.OPEN:
            assert without.status_code == 200, path
            continue
        assert without.status_code == 401, path
        assert without.headers["www-authenticate"] == "Bearer"
        assert call(client, method, path, bearer("evg_00000000_wrong")).status_code == 401
        for scope, text in texts.items():
            status = call(client, method, path, bearer(text)).status_code
            assert (status not in (401, 403)) == (needed in (access.ANY, scope)), (path, scope, status)


def test_a_new_route_is_closed_until_it_is_listed(locked: tuple[TestClient, FastAPI]) -> None:
    client, app = locked
    app.add_api_route("/v1/secrets", lambda: "told", methods=["GET"])
    assert client.get("/v1/secrets").status_code == 404
    assert client.get("/docs/oauth2-redirect").status_code == 404
    assert client.put("/v1/predict", json=ASK).status_code == 405
    assert client.put("/v1/predict", json=ASK).headers["allow"] == "POST"
    open_app = create_app(still(release()))
    open_app.add_api_route("/v1/secrets", lambda: "told", methods=["GET"])
    with TestClient(open_app) as keyless:
        assert keyless.get("/v1/secrets").status_code == 404


def test_keys_come_and_go_while_it_runs(
    locked: tuple[TestClient, FastAPI], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = locked
    again(client, monkeypatch)
    text, made = keys.add(file, "a team", ["predict"])
    assert client.post("/v1/predict", json=ASK, headers=bearer(text)).status_code == 200
    assert client.post("/v1/predict", json=ASK, headers={"X-API-Key": text}).status_code == 200
    assert text not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    second, _ = keys.add(file, "a team", ["predict"], days=1)
    keys.remove(file, made.id)
    assert client.post("/v1/predict", json=ASK, headers=bearer(text)).status_code == 401
    assert client.post("/v1/predict", json=ASK, headers=bearer(second)).status_code == 200
    whole = file.read_text()
    file.write_text("{")
    assert client.post("/v1/predict", json=ASK, headers=bearer(second)).status_code == 200
    body = json.loads(whole)
    body["keys"][0]["expires"] = "2020-01-01T00:00:00+00:00"
    file.write_text(json.dumps(body))
    assert client.post("/v1/predict", json=ASK, headers=bearer(second)).status_code == 401
    file.unlink()
    assert client.post("/v1/predict", json=ASK, headers=bearer(second)).status_code == 401


@pytest.mark.parametrize("text", ["", "x", "evg_", "evg__", "evg_a_b", "é", "evg_" + "x" * 5000, "evg_00000000_\x00"])
def test_odd_keys_are_no_keys(text: str, file: Path) -> None:
    keys.add(file, "a team", ["predict"])
    assert Keys(file).find(text) is None


def test_what_a_key_may_not_be(file: Path) -> None:
    with pytest.raises(UserError, match="found the scopes admin; allowed: predict"):
        keys.add(file, "a", ["admin"])
    for name, days in (("", None), ("x" * 101, None), ("a", 0.0), ("a", -1.0), ("a", float("nan"))):
        with pytest.raises(UserError):
            keys.add(file, name, ["predict"], days)
    with pytest.raises(NotFound, match="there are: none"):
        keys.remove(file, "x")
    for bad in ("[]", '{"keys": [{}]}', '{"keys": [3]}', "\x00"):
        file.write_text(bad)
        with pytest.raises(UserError, match="is no file of keys"):
            Keys(file)


def test_keys_from_the_shell(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "add", "a team", "--scope", "predict", "--days", "30"]) == 0
    text = capsys.readouterr().out.strip()
    assert text.startswith("evg_")
    assert Keys(home / "serving-keys.json").find(text) is not None
    assert main(["keys", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["scopes"] == ["predict"]
    assert main(["keys", "list"]) == 0
    assert "a team" in capsys.readouterr().out
    assert main(["keys", "remove", listed["id"]]) == 0
    assert main(["keys", "remove", listed["id"]]) == 2


def test_strangers_hear_less(locked: tuple[TestClient, FastAPI], file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = locked
    again(client, monkeypatch)
    text, _ = keys.add(file, "a team", ["predict"])
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.get("/readyz", headers=bearer(text)).json()["model"]["version"] == "1"


def test_a_large_body_is_not_read() -> None:
    limits = replace(Limits(), body_bytes=1000)
    with TestClient(create_app(still(release()), limits)) as client:
        declared = client.post("/v1/predict", content=b"x" * 1001)
        streamed = client.post("/v1/predict", content=iter([b"x" * 600] * 2))
        for answer in (declared, streamed):
            assert answer.status_code == 413
            assert answer.headers["connection"] == "close"
            assert "more than 1000 bytes" in answer.json()["detail"]
        assert client.post("/v2/models/tiny/infer", content=b"x" * 1001).json()["error"]
        assert client.post("/v1/predict", json=ASK).status_code == 200


def driven(app: FastAPI, messages: list[dict[str, Any]], wait: float = 0.0) -> list[dict[str, Any]]:
    """What the application sends to these messages of a client that then says nothing more for a while."""
    sent: list[dict[str, Any]] = []
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.sleep(wait)
            return {"type": "http.disconnect"}
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    return sent


def test_a_slow_body_and_a_client_that_hangs_up() -> None:
    calls: list[Call] = []
    app = create_app(still(release()), replace(Limits(), body_seconds=0.05), done=calls.append)
    part = {"type": "http.request", "body": b'{"inp', "more_body": True}
    assert driven(app, [part], wait=20)[0]["status"] == 408
    assert driven(app, [part], wait=0) == []
    assert [each.status for each in calls] == [408, 499]


def test_all_bodies_together_are_bounded() -> None:
    app = create_app(still(release()), replace(Limits(), buffered_bytes=100))
    parts = [{"type": "http.request", "body": b"x" * 60, "more_body": True}] * 2
    for _ in range(3):  # what was counted is given back
        found = driven(app, parts)
        assert found[0]["status"] == 429
        assert b"100 bytes" in found[1]["body"]
    assert driven(app, [{"type": "http.request", "body": b"x" * 60}])[0]["status"] == 422


def test_a_full_queue_refuses_before_the_body() -> None:
    service = Service(lambda job: None, most_waiting=1)
    service.queue.waiting = 1
    with TestClient(create_app(still(release()), service=service)) as client:
        for path in ("/v1/predict", "/v2/models/tiny/infer"):
            answer = client.post(path, content=b"\xff not read at all")
            assert answer.status_code == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert client.get("/readyz").status_code == 200


def test_a_fault_of_our_own_is_told_by_its_request_id(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError("secret text")

    service = Service(lambda job: None)
    monkeypatch.setattr(service, "ask", broken)
    with TestClient(create_app(still(release()), service=service)) as client:
        answer = client.post("/v1/predict", json=ASK)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.headers["x-request-id"]
