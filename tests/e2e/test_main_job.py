"""The whole main job on a tiny real model: every outcome, kills in the middle, rollback under a running server."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tiny import tiny_file

from mlops import config, ledger, pipeline, registry
from mlops.errors import StoreError, UserError
from mlops.rollback import rollback
from mlops.serving.app import create_app
from mlops.serving.releases import Loader


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A pipeline file on a tiny base and 240 learnable rows."""
    return tiny_file(tmp_path)


def retrain(path: Path, *overrides: str, force: bool = False) -> dict[str, Any]:
    return pipeline.run(config.load(path, overrides), force=force)


def mlops(*arguments: str, code: int | None = 0) -> str:
    """The command in a process of its own; its stdout."""
    done = subprocess.run([sys.executable, "-m", "mlops", *arguments], capture_output=True, text=True, check=False)
    assert code is None or done.returncode == code, done.stderr[-3000:]
    return done.stdout


def test_promoted_skipped_rejected_rolled_back(file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = retrain(file)
    assert first["outcome"] == "promoted", first["reason"]
    assert first["release"] == {"name": "tiny", "version": "1", "variant": first["candidate"]["variant"]}
    assert first["champion_before"] is None
    assert {"accuracy", "macro_f1", "weighted_f1", "f1/metals"} <= set(first["candidate"]["metrics"])
    assert set(first["candidate"]["metrics"]["macro_f1"]) == {"value", "low", "high", "n"}
    assert set(first["candidate"]["latency_ms"]) == {"p50", "p95"}
    proof = f"{first['release']['variant']} package"
    assert {verdict["subject"] for verdict in first["verdicts"]} == {"snapshot", "candidate", "int8", "fp32", proof}
    assert sum(first["snapshot"]["rows"].values()) <= 240
    assert (home / "runs" / "tiny" / first["retrain_id"] / "gate_report.html").exists()

    assert retrain(file)["outcome"] == "skipped"

    low = retrain(file, "train.learning_rate=0.0", "train.epochs=1", "gate.floor=0.9")
    assert low["outcome"] == "rejected"
    assert "floor" in low["reason"]
    assert [row["version"] for row in registry.releases("tiny")] == ["1"]

    second = retrain(file, "train.seed=14")
    assert second["outcome"] == "promoted", second["reason"]
    assert second["champion_before"]["version"] == "1"
    loader = Loader("tiny", poll=0.2)
    with TestClient(create_app(loader)) as server:
        answer = server.post("/v1/predict", json={"inputs": ["ba do", ""]}).json()
        assert answer["model"]["version"] == "2"
        assert set(answer["predictions"][0]) == {"label", "score", "scores"}
        rollback("tiny", "a test")
        deadline = time.monotonic() + 10
        while server.post("/v1/predict", json={"inputs": ["x"]}).json()["model"]["version"] != "1":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for body in ({}, {"inputs": []}, {"inputs": [1]}, {"inputs": "x"}, {"inputs": ["x"], "more": 1}):
            assert server.post("/v1/predict", json=body).status_code == 422
        assert (
            server.get("/healthz").status_code
            == server.get("/readyz").status_code
            == server.get("/docs").status_code
            == 200
        )
    assert [entry["action"] for entry in ledger.entries("tiny")] == ["promote", "promote", "rollback"]
    with pytest.raises(UserError, match="no earlier release"):
        rollback("tiny", "once more")
    # Without its registry a new server answers from its own copy.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    alone = Loader("tiny", poll=60)
    alone.refresh()
    assert alone.served is not None
    assert alone.served.version == "1"


def test_what_other_limits_kept_out_is_judged_anew_and_then_skipped(file: Path) -> None:
    kept_out = retrain(file, "verify.max_size_mb=0.001")
    assert kept_out["outcome"] == "rejected"
    assert "size_mb" in kept_out["reason"]
    assert retrain(file)["outcome"] == "promoted"  # the training is remembered, the judgement is not
    assert retrain(file)["outcome"] == "skipped"
    # Under other limits the champion has not been judged yet.
    assert retrain(file, "verify.max_size_mb=0.001")["outcome"] == "rejected"
    assert [row["version"] for row in registry.releases("tiny")] == ["1"]


def test_reports_that_cannot_be_made_do_not_undo_a_promotion(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no room for the picture")

    monkeypatch.setattr("mlops.reports.files.write_reports", broken)
    summary = retrain(file)
    assert summary["outcome"] == "promoted"
    assert summary["release"] is not None


def test_a_champion_whose_files_are_gone_is_not_passed_over(file: Path, home: Path) -> None:
    assert retrain(file)["outcome"] == "promoted"
    champion = registry.champion("tiny")
    assert champion is not None
    shutil.rmtree(home / "store" / champion.model.files.kind / champion.model.files.sha256)
    with pytest.raises(StoreError, match=r"the champion, tiny version 1, .* mlops rollback tiny") as caught:
        retrain(file, "train.seed=14")
    assert caught.value.exit_code == 1
    assert [row["version"] for row in registry.releases("tiny")] == ["1"]


def test_the_store_on_s3(file: Path, s3_server: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EVERGREEN_STORE", f"s3://evergreen/{file.parent.name}/main-job")
    assert retrain(file)["outcome"] == "promoted"
    assert retrain(file)["outcome"] == "skipped"
    assert retrain(file, "train.seed=14")["champion_before"]["version"] == "1"
    assert not (home / "store").exists()
    # Another machine has neither the files nor the cache.
    shutil.rmtree(home / "cache")
    loader = Loader("tiny", poll=60)
    loader.refresh()
    assert loader.served is not None, loader.problem
    assert loader.served.version == "2"
    rollback("tiny", "a test")
    loader.refresh()
    assert loader.served.version == "1"


def test_the_commands(file: Path) -> None:
    summary = json.loads(mlops("run", str(file), "--json"))
    assert summary["outcome"] == "promoted"
    run = mlops("predict", "tiny", "--text", "ba do", "--text", "ki")
    assert [set(json.loads(line)) for line in run.splitlines()] == [{"label", "score", "scores"}] * 2
    listed = json.loads(mlops("releases", "tiny", "--json"))
    assert listed["releases"][0]["aliases"] == ["champion"]
    code = """
        import sys, mlflow
        from mlops.tracking import client
        client()
        frame = mlflow.pyfunc.load_model("models:/tiny@champion").predict(["ba do"])
        print(frame.label[0], "torch" in sys.modules, "transformers" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["False", "False"]
    assert done.stdout.split()[0] in ("metals", "plants", "waters")
    assert mlops("predict", "nobody", "--text", "x", code=2) == ""
    assert mlops("check", str(file.with_name("absent.yaml")), code=2) == ""


@pytest.mark.parametrize(
    "place", ["mlops.training.loop.train", "mlops.registry._write_record", "mlops.promotion.point"]
)
def test_killed_in_the_middle_it_completes_with_one_version(file: Path, place: str) -> None:
    module, _, name = place.rpartition(".")
    code = f"""
        import os, signal, importlib
        module = importlib.import_module({module!r})
        before = getattr(module, {name!r})
        setattr(module, {name!r}, lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
        import mlops.steps.fine_tune
        if hasattr(mlops.steps.fine_tune, {name!r}):
            setattr(mlops.steps.fine_tune, {name!r}, getattr(module, {name!r}))
        from mlops import config, pipeline
        pipeline.run(config.load({str(file)!r}))
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    again = retrain(file)
    # Killed between the ledger's entry and the alias, the release serves already: nothing is left to do.
    assert again["outcome"] == ("skipped" if place.endswith(".point") else "promoted"), again["reason"]
    assert [row["state"] for row in registry.releases("tiny")] == ["complete"]
    champion = registry.champion("tiny")
    assert champion is not None
    registry.require_verdicts(champion)


def test_bad_rows_are_set_aside_and_all_bad_is_rejected(file: Path, tmp_path: Path) -> None:
    rows = (tmp_path / "rows.jsonl").read_bytes().splitlines(keepends=True)
    bad = [
        b'{"label": "metals"}\n',
        b'{"text": "a\\u0000b", "label": "metals"}\n',
        b'{"text": "\xff\xfe", "label": "metals"}\n',
    ]
    bad += [
        json.dumps({"text": "x" * 10_000_000, "label": "metals"}).encode() + b"\n",
        b'{"text": "y", "label": "odd"}\n',
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(rows[:120] + bad + rows[120:]))
    summary = retrain(file)
    assert summary["outcome"] == "promoted", summary["reason"]
    assert summary["snapshot"]["quarantined"] == 5
    (tmp_path / "rows.jsonl").write_bytes(b"".join(bad))
    rejected = retrain(file)
    assert rejected["outcome"] == "rejected"
    assert len(registry.releases("tiny")) == 1
