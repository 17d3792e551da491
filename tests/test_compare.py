"""`mlops compare`: two registered versions, paired on the same rows, on a real registry and real tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tiny import LABELS, tiny_artifact, tiny_file, tiny_models, tiny_release, tiny_rows, tiny_snapshot

from mlops import compare, config, registry
from mlops.cli import main
from mlops.errors import UserError
from mlops.scoring import score
from mlops.store import open_store
from mlops.tracking import client
from mlops.types import Evaluation, Release, Snapshot


@pytest.fixture
def snapshot() -> Snapshot:
    return tiny_snapshot(tiny_models()["base"])


def registered(evaluation: Evaluation, variant: str, seed: int) -> Release:
    release = tiny_release(variant, seed=seed)
    return registry.register(release.model_copy(update={"evaluation": evaluation}), {}, None)


def spoilt(evaluation: Evaluation, count: int) -> Evaluation:
    """The same with the first `count` rows answered wrong."""
    store = open_store()
    table = pq.read_table(store.fetch(evaluation.per_row) / "rows.parquet")
    right = table["label"].to_pylist()
    wrong = [LABELS[(LABELS.index(label) + 1) % 3] for label in right[:count]] + right[count:]
    table = table.set_column(table.column_names.index("predicted"), "predicted", pa.array(wrong))
    with store.workspace() as folder:
        pq.write_table(table, folder / "rows.parquet")
        return evaluation.model_copy(update={"per_row": store.put(folder, "scores")})


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["compare", *arguments]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_a_better_and_a_worse_and_no_difference(capsys: pytest.CaptureFixture[str], snapshot: Snapshot) -> None:
    fp32, int8 = (score(tiny_artifact(variant), snapshot) for variant in ("fp32", "int8"))
    registered(spoilt(fp32, 12), "fp32", 1)
    registered(spoilt(int8, 0), "int8", 2)
    registered(spoilt(int8, 1), "int8", 3)
    client().set_registered_model_alias("tiny", "champion", "1")

    found: dict[str, Any] = json.loads(said(capsys, "tiny", "champion", "2", "--json"))
    assert (found["a"]["version"], found["b"]["version"]) == ("1", "2")
    assert (found["fixed"], found["broken"], found["flips"], found["rows"]) == (12, 0, 12, 36)
    gap = found["difference"]
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    assert (gap["n"], gap["units"], gap["level"]) == (36, "rows", pytest.approx(0.9))
    assert found["sentence"].startswith("version 2 is better than version 1: +0.")
    assert found["a"]["size_bytes"] > found["b"]["size_bytes"]
    assert found["data"] is None

    text = said(capsys, "tiny", "2", "1")
    assert "version 1 is worse than version 2: -0." in text
    for part in (
        "version 2 (int8)",
        "version 1 (fp32)",
        "macro_f1",
        "p95",
        "size",
        "0 fixed, 12 broken",
        "90% interval",
    ):
        assert part in text
    assert "no difference that 36 rows would show" in said(capsys, "tiny", "2", "3")


def test_versions_that_were_judged_on_other_rows_need_data(
    capsys: pytest.CaptureFixture[str], snapshot: Snapshot
) -> None:
    registered(score(tiny_artifact("fp32"), snapshot), "fp32", 1)
    registered(score(tiny_artifact("int8"), tiny_snapshot(tiny_models()["base"], n=200)), "int8", 2)
    error = said(capsys, "tiny", "1", "2", code=2)
    assert "version 1 was judged on 36 rows and version 2 on 30, " in error
    assert "--data PIPELINE scores both" in error


def test_what_cannot_be_compared_is_the_users_mistake(
    capsys: pytest.CaptureFixture[str], snapshot: Snapshot, tmp_path: Path
) -> None:
    assert "models: none" in said(capsys, "tiny", "1", "2", code=2)
    release = registered(score(tiny_artifact("fp32"), snapshot), "fp32", 1)
    assert "no version or alias '9'; versions: 1" in said(capsys, "tiny", "1", "9", code=2)
    assert "no version or alias 'champion'" in said(capsys, "tiny", "champion", "1", code=2)
    assert "both are version 1 of tiny" in said(capsys, "tiny", "1", "1", code=2)
    assert "found the model name 'Tiny'" in said(capsys, "Tiny", "1", "2", code=2)
    assert "no such file" in said(capsys, "tiny", "1", "2", "--data", str(tmp_path / "absent.yaml"), code=2)
    ranked = release.model_copy(
        update={"version": "2", "model": release.model.model_copy(update={"task": "text-ranking"})}
    )
    with pytest.raises(UserError, match="version 1 is for text-classification, version 2 for text-ranking"):
        compare._require_fit(release, ranked, None)
    loaded = config.load(tiny_file(tmp_path, data={"source": str(tmp_path / "rows.jsonl"), "target": "ordinal"}))
    with pytest.raises(UserError, match="--data: tiny is for text-classification:ordinal; tiny is for text-classif"):
        compare._require_fit(release, release.model_copy(update={"version": "2"}), loaded)


def test_answers_that_are_gone_are_told(capsys: pytest.CaptureFixture[str], snapshot: Snapshot) -> None:
    evaluation = score(tiny_artifact("fp32"), snapshot)
    registered(evaluation, "fp32", 1)
    lost = evaluation.per_row.model_copy(update={"sha256": "0" * 64, "uri": evaluation.per_row.uri[:-64] + "0" * 64})
    registered(score(tiny_artifact("int8"), snapshot).model_copy(update={"per_row": lost}), "int8", 2)
    error = said(capsys, "tiny", "1", "2", code=2)
    assert "the answers of version 2 to its test rows are gone" in error


def test_data_as_it_is_now_scores_both_again_and_leaves_no_trace(
    capsys: pytest.CaptureFixture[str], snapshot: Snapshot, tmp_path: Path
) -> None:
    other = tiny_snapshot(tiny_models()["base"], n=200)
    registered(score(tiny_artifact("fp32"), snapshot), "fp32", 1)
    registered(score(tiny_artifact("int8"), other), "int8", 2)
    path = tiny_file(tmp_path)
    api = client()
    homes = [each.experiment_id for each in api.search_experiments()]
    runs = {run.info.run_id for run in api.search_runs(homes)}

    found = json.loads(said(capsys, "tiny", "1", "2", "--data", str(path), "--json"))
    assert found["data"] == "tiny"
    assert 10 < found["rows"] == found["a"]["metrics"]["macro_f1"]["n"] == found["b"]["metrics"]["macro_f1"]["n"]
    assert found["snapshot"] != snapshot.revision
    assert found["b"]["latency_ms"]["p95"] > 0
    assert open_store().read_document("splits/tiny") is None
    assert {run.info.run_id for run in api.search_runs(homes)} == runs
    assert [row["version"] for row in registry.releases("tiny")] == ["1", "2"]

    values = yaml.safe_load(path.read_text())
    values["gate"] |= {"alpha": 0.1, "metric": "f1/metals"}
    path.write_text(yaml.safe_dump(values))
    text = said(capsys, "tiny", "1", "2", "--data", str(path))
    assert "80% interval" in text
    assert "f1/metals" in text
    assert "the test rows of tiny as they are now" in text


def test_data_with_other_labels_does_not_fit(
    capsys: pytest.CaptureFixture[str], snapshot: Snapshot, tmp_path: Path
) -> None:
    registered(score(tiny_artifact("fp32"), snapshot), "fp32", 1)
    registered(score(tiny_artifact("int8"), snapshot), "int8", 2)
    path = tiny_file(tmp_path)
    rows = tiny_rows(240, labels=("red", "green", "blue"))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    error = said(capsys, "tiny", "1", "2", "--data", str(path), code=2)
    assert "the labels of tiny are blue, green, red; version 1 of tiny knows metals, plants, waters" in error
