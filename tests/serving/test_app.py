"""The routes: /v1/predict, the Open Inference Protocol, health, and a document whose examples can be sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from served import release, still
from starlette.testclient import TestClient

from mlops.blobs import LocalBlobs
from mlops.serving import schemas
from mlops.serving.app import create_app
from mlops.serving.bodies import depth
from mlops.serving.options import Limits
from mlops.serving.predictions import PredictionLog
from mlops.store import Store
from mlops.tasks import get

INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    limits = replace(Limits(), body_bytes=10_000, items=8, characters=1000)
    place = tmp_path_factory.mktemp("store")
    predictions = PredictionLog(Store(LocalBlobs(place), place), "tiny")
    with TestClient(create_app(still(release()), limits, predictions=predictions)) as client:
        yield client


def tensor(*texts: str, **changes: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)} | changes


def test_an_answer_says_who_gave_it(server: TestClient) -> None:
    answer = server.post("/v1/predict", json={"inputs": ["ba do", "ba " * 100]}, headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == {"name": "tiny", "version": "1", "variant": "fp32"}
    assert body["truncated"] == [False, True]
    assert body["request_id"] == answer.headers["x-request-id"] == "mine-1"
    assert schemas.Response.model_validate(body)
    for odd in ("", "x" * 65, "a b", "é".encode().decode("latin-1")):
        other = server.get("/healthz", headers={"X-Request-ID": odd.encode("latin-1")})  # type: ignore[dict-item]
        assert len(other.headers["x-request-id"]) == 32


def test_what_is_wrong_is_told_per_input(server: TestClient) -> None:
    bad = ["x", None, "y" * 1001, {"text_a": "x"}, {"text_a": "x", "text_b": "y" * 1001}, ["a", 1], 7]
    answer = server.post("/v1/predict", json={"inputs": bad})
    assert answer.status_code == 422
    faults = answer.json()["detail"]
    assert [fault["loc"][-1] for fault in faults] == [1, 2, 3, 4, 5, 6]
    assert "has 1001 characters, allowed are 1000" in faults[1]["msg"]
    for body, told in (
        ({"inputs": ["x"], "text": 1}, "allowed is inputs"),
        ({"inputs": []}, "found 0 inputs, allowed are 1 to 8"),
        ({"inputs": ["x"] * 9}, "found 9 inputs"),
        ({"inputs": {"a": 1}}, "allowed is a list"),
        ({"inputs": [["tokens", "here"]]}, "text-classification is asked texts"),
        ({}, "is missing"),
    ):
        answer = server.post("/v1/predict", json=body)
        assert answer.status_code == 422
        assert told in answer.json()["detail"][0]["msg"]


def test_depth_is_found_without_parsing() -> None:
    assert depth(b'{"inputs": ["[[[[[[[[", "{{{{{{{{{"]}', 4) <= 4
    assert depth(b'{"a\\"[[[[[[": [[[[["x"]]]]]}', 4) > 4
    assert depth(b"[[[[[[", 4) > 4
    assert depth(b'["' + b"[" * 1_000_000, 4) <= 4  # a string that never ends is no depth; the parser refuses it


def test_a_deadline_of_the_callers_own(server: TestClient) -> None:
    late = server.post("/v1/predict", json={"inputs": ["ba"]}, headers={"X-Timeout-Seconds": "1e-9"})
    assert late.status_code == 504
    assert "not answered within 1e-09 s" in late.json()["detail"]
    for odd in ("-1", "0", "soon", "nan", "inf"):
        refused = server.post("/v1/predict", json={"inputs": ["ba"]}, headers={"X-Timeout-Seconds": odd})
        assert refused.status_code == 422, odd
        assert refused.json()["detail"][0]["loc"] == ["header", "x-timeout-seconds"]


def test_the_open_inference_protocol(server: TestClient) -> None:
    assert server.get("/v2").json()["name"] == "evergreen"
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"ready": True}
    described = server.get("/v2/models/tiny").json()
    assert described["versions"] == ["1"]
    assert described["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert described["parameters"]["task"] == "text-classification"
    assert server.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
    direct = server.post("/v1/predict", json={"inputs": ["ba do", "ki lu"]}).json()["predictions"]
    for path in (INFER, "/v2/models/tiny/versions/1/infer"):
        answer = server.post(path, json={"id": "7", "inputs": [tensor("ba do", "ki lu")]})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["model_name"], body["model_version"], body["id"]) == ("tiny", "1", "7")
        outputs = {each["name"]: each for each in body["outputs"]}
        assert outputs["label"]["data"] == [each["label"] for each in direct]
        assert outputs["label"]["shape"] == [2]
        assert [json.loads(each)["label"] for each in outputs["prediction"]["data"]] == outputs["label"]["data"]
        assert outputs["score"]["data"] == pytest.approx([each["score"] for each in direct], abs=1e-6)
        assert outputs["truncated"]["data"] == [False, False]
    column = {"inputs": [tensor("ba", shape=[1, 1], data=[["ba"]], name="input-0")], "outputs": [{"name": "label"}]}
    assert [each["name"] for each in server.post(INFER, json=column).json()["outputs"]] == ["label"]


def test_what_the_protocol_refuses(server: TestClient) -> None:
    for body, told in (
        ({}, "allowed is a list of tensors"),
        ({"inputs": [tensor("x"), tensor("y")]}, "allowed are ['text']"),
        ({"inputs": [tensor("x", datatype="FP32")]}, "allowed is 'BYTES'"),
        ({"inputs": [tensor("x", shape=[2])]}, "has the shape [2] and 1 values"),
        ({"inputs": [tensor("x", data=[1])]}, "holds more than strings"),
        ({"inputs": [tensor("x", data=None)]}, "binary extension"),
        ({"inputs": [tensor(*["x"] * 9)]}, "found 9 inputs"),
        ({"inputs": [tensor("x")], "outputs": [{"name": "logits"}]}, "allowed are ['label'"),
        ({"inputs": [tensor("x")], "outputs": 3}, "allowed is a list of {name}"),
        ({"inputs": [tensor("x")], "id": 3}, "allowed is a string"),
        ([], "allowed is a JSON object"),
    ):
        answer = server.post(INFER, json=body)
        assert answer.status_code == 400, (body, answer.text)
        assert told in answer.json()["error"]
    assert server.post(INFER, content=b"\xff").status_code == 400
    for path in ("/v2/models/other", "/v2/models/tiny/versions/9", "/v2/models/tiny/versions/9/ready"):
        assert server.get(path).status_code == 404
        assert "served" in server.get(path).json()["error"] or "serves" in server.get(path).json()["error"]


def test_without_a_release() -> None:
    with TestClient(create_app(still(None))) as server:
        assert server.get("/v2/health/ready").status_code == 503
        assert server.get("/v2/health/live").status_code == 200
        for path in ("/v2/models/tiny", "/v2/models/tiny/ready"):
            assert server.get(path).status_code == 503
        assert server.post(INFER, json={"inputs": [tensor("x")]}).status_code == 503
        assert server.get("/openapi.json").status_code == 200


def test_the_documents_examples_can_be_sent(server: TestClient) -> None:
    document = server.get("/openapi.json").json()
    sent = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "requestBody" not in operation:
                continue
            for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
                where = path.replace("{name}", "tiny").replace("{version}", "1")
                assert server.request(method, where, json=example["value"]).status_code in (200, 202)
                sent += 1
    assert sent >= 4
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"], name
    assert "swagger" in server.get("/docs").text


@pytest.mark.parametrize(
    "key", ["text-classification", "text-pair-classification", "text-ranking", "token-classification"]
)
def test_examples_of_every_kind_can_be_asked(key: str) -> None:
    task = get(key)
    inputs = [value for example in schemas.examples(task.kind).values() for value in example["value"]["inputs"]]
    assert inputs
    assert all(task.asked(value) for value in inputs)


def test_numbers_for_prometheus() -> None:
    with TestClient(create_app(still(release()))) as server:
        for texts in (["ba do"], ["ba", "ki"]):
            server.post("/v1/predict", json={"inputs": texts})
        server.post("/v1/predict", json={})
        server.get(f"/{'x' * 100}")
        page = server.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in page.text.splitlines() if not line.startswith("#"))
    assert float(lines['evergreen_requests_total{route="/v1/predict",status="200"}']) == 2
    assert float(lines['evergreen_requests_total{route="/v1/predict",status="422"}']) == 1
    assert float(lines['evergreen_requests_total{route="unlisted",status="404"}']) == 1
    assert float(lines['evergreen_texts_total{version="1"}']) == 3
    assert float(lines['evergreen_tokens_total{version="1"}']) > 3
    assert float(lines['evergreen_release{variant="fp32",version="1"}']) == 1
    assert float(lines["evergreen_ready"]) == 1
    assert float(lines["evergreen_waiting_texts"]) == 0
    assert float(lines["evergreen_rounds"]) == 2


def test_a_span_per_request(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from mlops.serving.traces import tracing

    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert tracing() is None
    exporter = InMemorySpanExporter()
    found = tracing(exporter)
    assert found is not None
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with TestClient(create_app(still(release()), done=found[0])) as server:
        server.post("/v1/predict", json={"inputs": ["ba do"]}, headers={"traceparent": parent})
        server.get("/healthz", headers={"traceparent": "nonsense"})
    found[1]()
    first, second = exporter.get_finished_spans()
    assert first.name == "POST /v1/predict"
    assert first.attributes is not None
    assert first.attributes["evergreen.items"] == 1
    assert format(first.context.trace_id, "032x") == parent.split("-")[1]
    assert first.end_time is not None
    assert first.start_time is not None
    assert first.end_time > first.start_time
    assert second.parent is None
