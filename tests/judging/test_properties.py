"""What a judgement may not depend on, whatever the rows are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.config_gate import GateSection
from mlops.judgement import Case, Judgement, Rows, judge
from mlops.tasks import get
from mlops.types import ArtifactRef, Evaluation, Metric

TASK = get("text-classification")
RULES = GateSection(metric="macro_f1", floor=0.0, margin=0.05, resamples=300)
LABELS = ("a", "b", "c")


def rows(seed: int, errors: float, n: int = 150, labels: tuple[str, ...] = LABELS) -> Rows:
    """Answers that are wrong as often as `errors` says; the same labels for every seed."""
    truth = np.random.default_rng(0).choice(3, n, p=[0.6, 0.3, 0.1])
    random = np.random.default_rng(seed)
    found = np.where(random.random(n) < errors, (truth + random.integers(1, 3, n)) % 3, truth)
    ids = tuple(f"{number:04}" for number in range(n))
    return Rows(ids, tuple(labels[code] for code in truth), tuple(labels[code] for code in found), (0.9,) * n)


def judged(candidate: Rows, champion: Rows | None, labels: tuple[str, ...] = LABELS) -> Judgement:
    evaluation = judged_evaluation(len(candidate.ids)).model_copy(update={"outputs": tuple(sorted(labels))})
    return judge(Case(TASK, RULES, evaluation, candidate, champion))


def shuffled(found: Rows, order: np.ndarray) -> Rows:
    return Rows(
        *(
            tuple(values[place] for place in order)
            for values in (found.ids, found.labels, found.predicted, found.scores)
        )
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.4), st.floats(0, 0.4))
def test_the_order_of_rows_changes_nothing(seed: int, ours: float, theirs: float) -> None:
    candidate, champion = rows(seed, ours), rows(seed + 1, theirs)
    order = np.random.default_rng(seed).permutation(len(candidate.ids))
    one, other = judged(candidate, champion), judged(shuffled(candidate, order), shuffled(champion, order))
    assert one.verdict == other.verdict
    assert one.numbers["difference"] == other.numbers["difference"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.4), st.floats(0, 0.4))
def test_other_names_for_the_labels_change_nothing(seed: int, ours: float, theirs: float) -> None:
    other_names = ("zebra", "cow", "newt")
    one = judged(rows(seed, ours), rows(seed + 1, theirs)).numbers["difference"]
    two = judged(rows(seed, ours, labels=other_names), rows(seed + 1, theirs, labels=other_names), other_names).numbers[
        "difference"
    ]
    assert one["value"] == np.float64(two["value"]).round(12) or abs(one["value"] - two["value"]) < 1e-9
    # The draws come in another order: what is left is the chance of 1,600 of them.
    assert abs(one["low"] - two["low"]) < 0.02


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.5), st.integers(20, 400))
def test_a_model_is_never_worse_than_itself(seed: int, errors: float, n: int) -> None:
    model = rows(seed, errors, n)
    found = judged(model, model)
    (check,) = (check for check in found.verdict.checks if check.name == "against_champion")
    assert check.outcome != "fail"
    assert found.numbers["difference"]["value"] == 0
    assert found.numbers["difference"]["low"] <= 0 <= found.numbers["difference"]["high"]


def test_few_rows_without_a_difference_settle_nothing() -> None:
    (check,) = (
        check for check in judged(rows(1, 0.0, 40), rows(2, 0.0, 40)).verdict.checks if check.name == "against_champion"
    )
    assert check.outcome == "inconclusive"
    assert "would settle it" in check.detail


def test_a_retrain_that_breaks_a_slice_is_held() -> None:
    champion = rows(1, 0.1, 600)
    where = tuple("north" if number % 5 else "south" for number in range(600))
    broken = tuple(
        ("b" if label == "a" else "a") if place == "south" and number % 2 else answer
        for number, (label, answer, place) in enumerate(zip(champion.labels, champion.predicted, where, strict=True))
    )
    columns = {"place": where}
    candidate = Rows(champion.ids, champion.labels, broken, champion.scores, columns=columns)
    asked = {"max_slice_drop": 0.1, "margin": 0.9, "slices": [{"column": "place"}]}
    rules = GateSection.model_validate(RULES.model_dump() | asked)
    case = Case(TASK, rules, judged_evaluation(600), candidate, champion)
    found = judge(case)
    checks = {check.name: check for check in found.verdict.checks}
    assert checks["slices"].outcome == "fail"
    assert "place: south" in checks["slices"].detail
    assert "place: north" not in checks["slices"].detail
    assert found.sentence.startswith("The candidate is kept out by slices")
    worst = next(one for one in found.numbers["slices"] if one["kind"] == "discovered")
    assert worst["name"] == "place: south"


def judged_evaluation(n: int) -> Evaluation:
    metric = Metric(value=0.5, low=0.4, high=0.6, n=n)
    return Evaluation(
        model_sha256="m",
        snapshot_sha256="s",
        split="test",
        metrics={"macro_f1": metric},
        outputs=LABELS,
        per_row=ArtifactRef(kind="scores", uri="file:///none", sha256="0" * 64, size_bytes=1),
    )
