"""The proof of a package: what holds for a good one, and what a bad one fails by."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny import tiny_models, tiny_rows

from mlops.errors import UserError
from mlops.serving.odd import odd
from mlops.serving.prove import Proof, prove
from mlops.serving.proving import companies
from mlops.serving.runtime import Runtime

TEXTS = [row["text"] for row in tiny_rows(40, seed=4)]
ODD = len(odd("text"))


def failed(proof: Proof) -> list[str]:
    return [check.name for check in proof.checks if check.outcome == "fail"]


def changed(tmp_path: Path, *nodes: onnx.NodeProto, **constants: np.ndarray) -> Path:
    """The fp32 package with nodes behind its logits, which they take as "before" and give as "logits"."""
    folder = Path(shutil.copytree(tiny_models()["fp32"], tmp_path / "changed"))
    (folder / "manifest.json").unlink(missing_ok=True)
    (folder / "model.onnx").chmod(0o644)
    model = onnx.load(folder / "model.onnx")
    for node in model.graph.node:
        node.output[:] = ["before" if name == "logits" else name for name in node.output]
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.node.extend(nodes)
    onnx.save(model, folder / "model.onnx")
    return folder


def neighbourly(tmp_path: Path) -> Path:
    """Its answers move with the mean of the batch."""
    mean = helper.make_node("ReduceMean", ["before"], ["mean"], axes=[0], keepdims=1)
    return changed(tmp_path, mean, helper.make_node("Add", ["before", "mean"], ["logits"]))


def short_sighted(tmp_path: Path) -> Path:
    """No number comes of sequences of fewer than three tokens."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"], start=1, end=2),
        helper.make_node("Cast", ["shape"], ["length"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["length", "three"], ["more"]),
        helper.make_node("Sqrt", ["more"], ["root"]),
        helper.make_node("Mul", ["root", "nothing"], ["zero"]),
        helper.make_node("Add", ["before", "zero"], ["logits"]),
    ]
    return changed(tmp_path, *nodes, three=np.float32([3]), nothing=np.float32([0]))


def test_a_good_package_holds_and_says_what_it_costs() -> None:
    folder = tiny_models()["fp32"]
    proof = prove(folder, TEXTS, expected=Runtime.load(folder).logits(TEXTS), golden=["badoki lu me"])
    assert failed(proof) == []
    assert proof.holds
    assert proof.rows == len(TEXTS) + 1 + ODD
    assert proof.difference < 1e-3
    assert 0 < proof.p50 <= proof.p95
    parts = proof.import_seconds + proof.load_seconds + proof.first_seconds
    assert 0 < parts < proof.cold_seconds
    assert proof.memory_mb > 20
    names = [check.name for check in proof.checks]
    assert "serves without training libraries" in names
    assert "against offline, change of a probability" in names
    assert f"odd inputs refused, of {ODD}" in names


def test_int8_may_answer_a_little_otherwise_in_company() -> None:
    proof = prove(tiny_models()["int8"], TEXTS)
    assert failed(proof) == []
    names = [check.name for check in proof.checks]
    assert "alone against batches, mixed, mean change of a probability" in names
    assert "alone against batches, by length, labels changed" in names


def test_answers_other_than_those_that_were_judged_fail() -> None:
    folder = tiny_models()["fp32"]
    judged = [-values for values in Runtime.load(folder).logits(TEXTS)]
    proof = prove(folder, TEXTS, expected=judged)
    assert failed(proof) == ["against offline, change of a probability"]
    (check,) = (check for check in proof.checks if check.outcome == "fail")
    assert check.observed > 0.1
    assert "beyond it: row" in check.detail
    assert not proof.holds


@pytest.mark.parametrize(
    ("made", "names", "said"),
    [
        (neighbourly, ["alone against batches, mixed", "alone against batches, by length"], "beyond it: "),
        (short_sighted, ["answers that are not finite", "alone against batches, mixed"], "empty"),
    ],
)
def test_a_package_that_answers_otherwise_alone_fails(
    tmp_path: Path, made: Callable[[Path], Path], names: list[str], said: str
) -> None:
    proof = prove(made(tmp_path), TEXTS)
    found = failed(proof)
    assert all(any(each.startswith(name) for each in found) for name in names), found
    assert said in " ".join(check.detail for check in proof.checks if check.outcome == "fail")


def test_a_limit_of_the_cold_start_is_held() -> None:
    assert failed(prove(tiny_models()["fp32"], TEXTS[:2], cold_seconds=1e-6)) == ["cold start"]


def test_without_items_and_without_a_package_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no items"):
        prove(tiny_models()["fp32"], [])
    with pytest.raises(UserError, match="is not a folder"):
        prove(tmp_path / "nowhere", TEXTS)


def test_a_mixed_batch_has_short_and_long_rows_and_every_row_is_in_one() -> None:
    lengths = [5, 50, 3, 70, 9, 20, 8, 40, 60, 4]
    groups = companies(lengths)
    assert sorted(row for group in groups for row in group) == list(range(10))
    assert [len(group) for group in groups] == [8, 2]
    assert {lengths[row] for row in groups[0][:2]} == {3, 70}
