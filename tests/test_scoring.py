"""Scoring any form of a model on frozen rows."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny import put_prepared, tiny_artifact, tiny_config, tiny_models, tiny_rows, tiny_snapshot

from mlops.errors import StoreError, UserError
from mlops.rows import load_rows
from mlops.scoring import score
from mlops.steps.evaluate import evaluate, evaluate_champion
from mlops.store import open_store
from mlops.types import Evaluation, Release, Snapshot


@pytest.fixture
def snapshot() -> Snapshot:
    return tiny_snapshot(tiny_models()["base"])


def per_row(evaluation: Evaluation) -> dict[str, list]:
    return pq.read_table(open_store().fetch(evaluation.per_row) / "rows.parquet").to_pydict()


@pytest.mark.parametrize("variant", ["torch", "fp32", "int8"])
def test_every_form_is_scored_on_the_same_rows(variant: str, snapshot: Snapshot) -> None:
    model = tiny_artifact(variant)
    evaluation = score(model, snapshot)
    assert (evaluation.model_sha256, evaluation.snapshot_sha256) == (model.files.sha256, snapshot.revision)
    assert evaluation.split == "test"
    assert evaluation.size == model.files.size_bytes
    metric = evaluation.metrics["macro_f1"]
    assert metric.value > 0.85
    assert metric.low <= metric.value <= metric.high
    assert metric.n == snapshot.rows["test"]
    if variant == "torch":
        assert evaluation.latency is None
    else:
        assert evaluation.latency is not None
        assert 0 < evaluation.latency.p50 <= evaluation.latency.p95


def test_one_score_per_row_is_kept(snapshot: Snapshot) -> None:
    evaluation = score(tiny_artifact("fp32"), snapshot)
    rows = per_row(evaluation)
    source = pq.read_table(open_store().fetch(snapshot.splits["test"]) / "rows.parquet").to_pydict()
    assert evaluation.per_row.kind == "scores"
    for column in ("row_id", "label", "n_tokens"):
        assert rows[column] == source[column]
    chances = np.array(rows["probabilities"])
    assert chances.shape == (len(source["label"]), 3)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(rows["score"], chances.max(axis=1), atol=1e-6)
    right = np.mean([label == guess for label, guess in zip(rows["label"], rows["predicted"], strict=True)])
    assert evaluation.metrics["accuracy"].value == pytest.approx(right)
    assert len(load_rows(evaluation).ids) == snapshot.rows["test"]


def test_torch_and_fp32_give_the_same_probabilities(snapshot: Snapshot) -> None:
    one, other = (per_row(score(tiny_artifact(name), snapshot)) for name in ("torch", "fp32"))
    assert one["predicted"] == other["predicted"]
    np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-4)


def test_labels_that_the_model_does_not_know_count_as_wrong(snapshot: Snapshot) -> None:
    rows = [row | {"row_id": str(number)} for number, row in enumerate(tiny_rows(30, seed=9))]
    known = score(tiny_artifact("fp32"), _with_test(snapshot, rows), latency=False)
    strange = [row | {"label": "stones"} if int(row["row_id"]) < 10 else row for row in rows]
    evaluation = score(tiny_artifact("fp32"), _with_test(snapshot, strange), latency=False)
    assert known.metrics["accuracy"].value > 0.9
    assert evaluation.metrics["accuracy"].value <= 20 / 30
    assert "f1/stones" not in evaluation.metrics
    assert not {"stones"} & set(per_row(evaluation)["predicted"])


def _with_test(snapshot: Snapshot, rows: list[dict[str, str]]) -> Snapshot:
    splits = snapshot.splits | {"test": put_prepared(rows, tiny_models()["base"])}
    return snapshot.model_copy(update={"splits": splits, "rows": snapshot.rows | {"test": len(rows)}})


def test_a_split_without_rows_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(UserError, match="no rows in 'holdout'"):
        score(tiny_artifact("fp32"), snapshot, "holdout")


def test_a_damaged_model_is_not_scored(snapshot: Snapshot) -> None:
    model = tiny_artifact("fp32")
    path = open_store().fetch(model.files) / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(StoreError, match=r"model\.onnx has sha256"):
        score(model, snapshot)


def test_the_steps_agree_with_score_and_a_missing_champion_is_none(snapshot: Snapshot) -> None:
    config = tiny_config(tiny_models()["base"])
    candidate = evaluate(config, tiny_artifact("torch"), snapshot)
    assert candidate.metrics == score(tiny_artifact("torch"), snapshot).metrics
    assert evaluate_champion(config, None, snapshot) is None
    model = tiny_artifact("int8")
    champion = Release(name="tiny", version="1", variant="int8", model=model, evaluation=candidate, verdicts=())
    again = evaluate_champion(config, champion, snapshot)
    assert again is not None
    assert again.model_sha256 == model.files.sha256
    assert per_row(again)["row_id"] == per_row(candidate)["row_id"]
