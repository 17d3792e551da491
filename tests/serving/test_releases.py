"""Following an alias: swaps, refusals, and what is left when registry or files are gone."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tiny import tiny_release

from mlops import promotion, registry
from mlops.errors import NotFound, StoreError
from mlops.rollback import rollback
from mlops.serving import releases
from mlops.serving.app import create_app
from mlops.serving.copies import require_copy
from mlops.serving.options import Limits
from mlops.serving.releases import Loader, load_runtime
from mlops.store import build_manifest


def publish(variant: str = "fp32", seed: int = 0) -> str:
    version = registry.register(tiny_release(variant, seed=seed), {}, None).version
    promotion.promote("tiny", version, "a test")
    return version


def loaded() -> Loader:
    loader = Loader("tiny", poll=60)
    loader.refresh()
    return loader


def served(loader: Loader) -> tuple[str, str]:
    assert loader.served is not None, loader.problem
    return loader.served.version, loader.served.variant


def test_it_follows_the_alias() -> None:
    publish()
    loader = loaded()
    assert served(loader) == ("1", "fp32")
    publish("int8")
    loader.refresh()
    assert served(loader) == ("2", "int8")
    rollback("tiny", "a test")
    loader.refresh()
    assert served(loader) == ("1", "fp32")
    assert loader.problem == ""


def test_without_a_model_it_waits_and_says_for_what() -> None:
    loader = loaded()
    assert loader.served is None
    with TestClient(create_app(loader)) as server:
        ready = server.get("/readyz")
        assert ready.status_code == 503
        assert "no version or alias 'champion'" in ready.json()["reason"]
        assert server.get("/healthz").status_code == 200
        answer = server.post("/v1/predict", json={"inputs": ["x"]})
        assert answer.status_code == 503
        assert "champion" in answer.json()["detail"]
        publish()
        loader.refresh()
        assert server.get("/readyz").json()["model"] == {"name": "tiny", "version": "1", "variant": "fp32"}
    with pytest.raises(NotFound):
        load_runtime("another")


def damage(home: Path, version: str) -> None:
    """Changes one byte of a version's local copy."""
    (path,) = (home / "cache" / "serving" / "tiny").glob(f"{version}-*/model.onnx")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_damaged_release_is_refused_and_the_old_one_stays(home: Path) -> None:
    publish()
    loader = loaded()
    publish("int8")
    load_runtime("tiny")  # makes the local copy
    damage(home, "2")
    loader.refresh()
    assert served(loader) == ("1", "fp32")
    assert "version 2 was refused" in loader.problem
    assert "sha256" in loader.problem
    rollback("tiny", "the damaged one")
    publish("int8", seed=1)
    loader.refresh()
    assert served(loader) == ("3", "int8")


def test_what_could_not_be_loaded_is_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish()
    monkeypatch.setattr(releases, "RETRY_SECONDS", 0.2)
    (home / "store" / "model").rename(home / "store" / "away")  # a store that is out for a moment
    loader = loaded()
    assert loader.served is None
    assert "version 1 was refused" in loader.problem
    (home / "store" / "away").rename(home / "store" / "model")
    time.sleep(0.3)
    loader.refresh()
    assert served(loader) == ("1", "fp32")
    assert loader.problem == ""


def test_a_problem_that_has_passed_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    publish()
    loader = loaded()
    with monkeypatch.context() as gone:
        gone.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        gone.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        loader.refresh()
        assert "the registry does not answer" in loader.problem
        assert served(loader) == ("1", "fp32")
    loader.refresh()
    assert loader.problem == ""


def test_another_registrys_version_1_is_not_taken_for_this_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("fp32")
    assert load_runtime("tiny")[1].variant == "fp32"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/other.db")
    monkeypatch.setenv("EVERGREEN_STORE", f"file://{home}/other-store")
    publish("int8")
    assert load_runtime("tiny")[1].variant == "int8"


def test_without_registry_and_store_a_new_server_answers_from_its_copy(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("int8")
    loaded()
    shutil.rmtree(home / "store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    loader = loaded()
    assert served(loader) == ("1", "int8")
    assert loader.served is not None
    assert set(loader.served.runtime.predict(["ba do"])[0]) == {"label", "score", "scores"}


def test_the_server_answers_each_text_and_refuses_what_it_cannot_read() -> None:
    publish()
    deep = b"[" * 100_000
    texts = ["ba do", "", "\x00 \u202e", "ki " * 5000, "日本語 😀"]
    with TestClient(create_app(loaded())) as server:
        answer = server.post("/v1/predict", json={"inputs": texts})
        assert answer.status_code == 200
        assert answer.json()["model"] == {"name": "tiny", "version": "1", "variant": "fp32"}
        for prediction in answer.json()["predictions"]:
            assert set(prediction) == {"label", "score", "scores"}
            assert (
                prediction["score"] == max(prediction["scores"].values()) == prediction["scores"][prediction["label"]]
            )
            assert sum(prediction["scores"].values()) == pytest.approx(1)
        assert len(answer.json()["predictions"]) == len(texts)
        bad = [{}, {"inputs": []}, {"inputs": "x"}, {"inputs": [None]}, {"inputs": ["x"], "text": "y"}, [], "x"]
        for body in (*bad, {"inputs": ["x"] * (Limits().items + 1)}):
            refused = server.post("/v1/predict", json=body)
            assert refused.status_code == 422, body
            assert refused.json()["detail"][0]["msg"]
        plain = {"content-type": "application/json"}
        for content in (
            b"{",
            b"",
            b"\xff",
            b'{"inputs": ["\xff"]}',
            b'{"inputs": [NaN]}',
            b'{"inputs": ["\\ud800"]}',
            deep,
        ):
            for headers in (plain, {}):
                refused = server.post("/v1/predict", content=content, headers=headers)
                assert refused.status_code == 422, (content, headers)
                assert refused.json()["detail"]


def forge(home: Path, version: str) -> None:
    """Changes one byte of a version's local copy, and its manifest so that the two agree."""
    damage(home, version)
    (folder,) = (path for path in (home / "cache" / "serving" / "tiny").glob(f"{version}-*") if path.is_dir())
    (folder / "manifest.json").write_text(json.dumps(build_manifest(folder)))


def test_a_copy_that_somebody_changed_whole_is_made_anew_and_never_serves(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish("int8")
    loaded()
    forge(home, "1")
    again = loaded()
    assert served(again) == ("1", "int8")
    assert "somebody changed the copy" in caplog.text
    forge(home, "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    caplog.clear()
    assert loaded().served is None  # nobody to ask for the right one
    assert "somebody changed the copy" in caplog.text


def test_a_manifest_that_leaves_the_model_out_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"files": {"package.json": {"sha256": "0", "size": 1}}}))
    digest = hashlib.sha256((tmp_path / "manifest.json").read_bytes()).hexdigest()
    with pytest.raises(StoreError, match=r"does not list model\.onnx, tokenizer\.json"):
        require_copy(tmp_path, digest)
