"""What a new release has to show before it serves, and what it cannot do to the server that tries it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import release, runtime, still
from starlette.testclient import TestClient
from tiny import tiny_models, tiny_release, tiny_rows
from work import EVERY

from mlops import promotion, registry
from mlops.errors import UserError
from mlops.rollback import rollback
from mlops.serving import golden, releases
from mlops.serving.app import create_app
from mlops.serving.first_load import try_load
from mlops.serving.keys import Keys
from mlops.serving.releases import Loader
from mlops.serving.service import Service
from mlops.store import open_store
from mlops.tasks import get

TEXTS = [row["text"] for row in tiny_rows(30, seed=6)]


def publish(variant: str = "fp32", seed: int = 0) -> str:
    version = registry.register(tiny_release(variant, seed=seed), {}, None).version
    promotion.promote("tiny", version, "a test")
    return version


def version_of(loader: Loader) -> str | None:
    return loader.served.version if loader.served else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(tiny_models()["fp32"], tmp_path / "package"))
    (copy / "manifest.json").unlink(missing_ok=True)
    return copy


def test_golden_cases_hold_for_both_files_and_tell_another_model() -> None:
    cases = golden.make(runtime("fp32"), TEXTS)
    assert len(cases["asked"]) == golden.CASES
    json.dumps(cases)
    assert golden.differs(runtime("fp32"), cases) == ""
    turned = cases | {"logits": [row[::-1] for row in cases["logits"]]}
    assert "golden cases are answered otherwise (case 0 by" in golden.differs(runtime("fp32"), turned)
    for logits in ([[float("nan")] * 3] * 8, [[0.0]] * 8):
        assert "8 of 8" in golden.differs(runtime("fp32"), cases | {"logits": logits})
    assert golden.make(runtime("fp32"), [])["asked"] == []


@pytest.mark.parametrize("key", EVERY)
def test_golden_cases_of_every_kind_survive_json(key: str) -> None:
    task = get(key)
    item = task.asked(EVERY[key]().question)

    class Fixed:
        def __init__(self) -> None:
            self.task, self.labels = (
                task,
                tuple(task.outputs(["O", "B-x"] if task.kind == "tokens" else ["0", "1", "2"])),
            )

        def logits(self, items: list[Any]) -> list[Any]:
            assert items == [item]
            width = len(self.labels)
            rows = len(item) if task.kind == "tokens" else 1
            values = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
            return [values if task.kind == "tokens" else values[0]]

    fixed: Any = Fixed()
    assert golden.differs(fixed, json.loads(json.dumps(golden.make(fixed, [item])))) == ""


def test_a_release_that_answers_otherwise_is_refused_and_the_old_one_stays() -> None:
    publish("fp32")
    loader = Loader("tiny", poll=60)
    loader.refresh()
    assert version_of(loader) == "1"
    other = tiny_release("int8")
    cases = golden.make(runtime("int8"), TEXTS)
    golden.write(open_store(), other.model.files.sha256, cases | {"logits": [row[::-1] for row in cases["logits"]]})
    publish("int8")
    loader.refresh()
    assert version_of(loader) == "1"
    assert "version 2 was refused" in loader.problem
    assert "golden cases are answered otherwise" in loader.problem
    assert loader.counts == {"taken": 1, "refused": 1}


def test_the_judged_answers_travel_with_the_package() -> None:
    golden.write(open_store(), tiny_release("fp32").model.files.sha256, golden.make(runtime("fp32"), TEXTS))
    publish("fp32")
    loader = Loader("tiny", poll=60)
    loader.refresh()
    assert version_of(loader) == "1", loader.problem
    (copy,) = (path for path in releases._folder("tiny").iterdir() if path.name.endswith(".golden"))
    assert len(json.loads(copy.read_text())["asked"]) == golden.CASES


def endless(path: Path) -> None:
    """A model that counts for ever before it answers."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in ("input_ids", "attention_mask")
    ]
    inputs.append(helper.make_tensor_value_info("token_type_ids", TensorProto.INT64, ["b", "s"]))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Add", ["n", "n"], ["more"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("n", TensorProto.FLOAT, ["b", "s"]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, ["b", "s"]),
        ],
    )
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["first"], to=TensorProto.FLOAT),
        helper.make_node("Loop", ["", "true", "first"], ["last"], body=body),
        helper.make_node("ReduceMean", ["last"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["mean", "mean", "mean"], ["logits"], axis=1),
    ]
    true = numpy_helper.from_array(np.array(True), "true")
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 3])
    graph = helper.make_graph(nodes, "endless", inputs, [output], [true])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, str(path))


def test_a_file_that_never_answers_ends_another_process(folder: Path) -> None:
    endless(folder / "model.onnx")
    with pytest.raises(UserError, match="no answer within 6 s"):
        try_load(folder, None, 6.0, threads=1)


def test_a_poisoned_tokenizer_and_a_crash_end_another_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try_load(folder, None, 60.0, threads=1)
    whole = (folder / "tokenizer.json").read_text()
    poisoned = json.loads(whole)
    poisoned["post_processor"]["special_tokens"] = {}
    (folder / "tokenizer.json").write_text(json.dumps(poisoned))
    with pytest.raises(UserError, match=r"tokenizer|cannot answer|Panic"):
        try_load(folder, None, 60.0, threads=1)
    (folder / "tokenizer.json").write_text(whole)
    monkeypatch.setattr("mlops.serving.first_load._BASE_BYTES", 1 << 20)
    monkeypatch.setattr("mlops.serving.first_load._PER_BYTE", 0)
    with pytest.raises(UserError, match="in a process of its own"):
        try_load(folder, None, 60.0, threads=1)


def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    publish("fp32")
    loader = Loader("tiny", poll=60)
    loader.refresh()
    publish("int8")
    monkeypatch.setattr(releases, "FIRST_LOAD_SECONDS", 0.01)
    loader.refresh()
    assert version_of(loader) == "1"
    assert "no answer within 0 s" in loader.problem


def test_the_alias_is_followed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException): ...

    seen: list[str] = []

    def broken(self: Loader) -> None:
        seen.append("looked")
        raise Panic("no Exception")

    loader = Loader("tiny", poll=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "at", lambda *_: (_ for _ in ()).throw(Panic("the registry")))
        loader.refresh()
        assert "Panic: the registry" in loader.problem
    loader.start()
    monkeypatch.setattr(Loader, "refresh", broken)
    deadline = time.monotonic() + 20
    while len(seen) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    loader.stop()
    assert len(seen) >= 3


def test_old_copies_go() -> None:
    loader = Loader("tiny", poll=60)
    for seed in range(releases.KEPT + 2):
        publish("fp32" if seed % 2 else "int8", seed=seed)
        loader.refresh()
        assert version_of(loader) == str(seed + 1)
    left = sorted(path.name.split("-")[0] for path in releases._folder("tiny").iterdir() if path.is_dir())
    assert left == ["3", "4", "5"]


def test_a_reload_is_asked_with_a_key_or_a_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = still(release())
    with TestClient(create_app(loader)) as open_server:
        assert open_server.post("/v1/reload").status_code == 202
    assert loader.looks == 1
    body, when = b'{"entity": "model_version_alias"}', str(int(time.time()))

    def signature(secret: str, when: str) -> dict[str, str]:
        signed = hmac.new(secret.encode(), f"id-1.{when}.".encode() + body, hashlib.sha256).digest()
        return {
            "X-MLflow-Signature": f"v1,{base64.b64encode(signed).decode()}",
            "X-MLflow-Timestamp": when,
            "X-MLflow-Delivery-Id": "id-1",
        }

    with TestClient(create_app(loader, keys=Keys(tmp_path / "keys.json"))) as server:
        assert server.post("/v1/reload", content=body).status_code == 401
        assert server.post("/v1/reload", content=body, headers=signature("", when)).status_code == 401
        monkeypatch.setenv("EVERGREEN_WEBHOOK_SECRET", "shared")
        assert server.post("/v1/reload", content=body, headers=signature("shared", when)).status_code == 202
        for headers in (
            signature("another", when),
            signature("shared", str(int(when) - 1000)),
            signature("shared", when) | {"X-MLflow-Timestamp": "soon"},
            signature("shared", when) | {"X-MLflow-Delivery-Id": "id-2"},
            {"X-MLflow-Signature": ""},
        ):
            assert server.post("/v1/reload", content=body, headers=headers).status_code == 401
        assert server.post("/v1/reload", content=body + b" ", headers=signature("shared", when)).status_code == 401
    assert loader.looks == 2


def test_a_release_taken_under_load_fails_and_mixes_nothing() -> None:
    publish("fp32")
    loader = Loader("tiny", poll=60)
    loader.refresh()
    right = {"1": runtime("fp32").predict(TEXTS), "2": runtime("int8").predict(TEXTS)}
    service = Service(lambda job: loader.served, most_waiting=10_000)
    service.start()
    versions: list[str] = []

    async def client(number: int, stop: asyncio.Event) -> None:
        start = number % 20
        while not stop.is_set():
            job = await service.ask(TEXTS[start : start + 10], 60)
            assert job.served is not None
            versions.append(job.served.version)
            for found, one in zip(job.answers, right[job.served.version][start : start + 10], strict=True):
                assert found["scores"] == pytest.approx(one["scores"], abs=0.05 if job.served.version == "2" else 1e-4)

    async def load() -> None:
        stop = asyncio.Event()
        clients = [asyncio.create_task(client(number, stop)) for number in range(8)]
        for variant in ("int8", "fp32"):
            await asyncio.sleep(0.3)
            if variant == "int8":
                await asyncio.to_thread(publish, "int8")
            else:
                await asyncio.to_thread(rollback, "tiny", "a test")
            await asyncio.to_thread(loader.refresh)
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*clients)

    asyncio.run(load())
    service.stop()
    assert set(versions) == {"1", "2"}
    assert versions[-1] == "1"
