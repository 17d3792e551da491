"""The proof of a package: what holds for a good one, and what a bad one fails by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from grafts import neighbourly, short_sighted
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
    proof = prove(made(tmp_path / "grafted"), TEXTS)
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
