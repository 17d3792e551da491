"""Statistics of several labels, orders, entities and rankings against scikit-learn, seqeval and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    cohen_kappa_score,
    f1_score,
    label_ranking_average_precision_score,
    mean_absolute_error,
    ndcg_score,
)

from mlops.data.tags import entities
from mlops.statistics.bootstrap import intervals, point
from mlops.statistics.classification import set_counts, set_scores
from mlops.statistics.entities import entity_counts, entity_scores
from mlops.statistics.ordinal import confusion, ordinal_scores
from mlops.statistics.ranking import ranking_scores, ranking_units

KINDS = ["PER", "LOC", "ORG"]
TAGS = ["O", *(f"{prefix}-{kind}" for kind in KINDS for prefix in "BI")]


def test_several_labels_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth = random.random((200, 4)) < [0.5, 0.3, 0.1, 0.0]
    found = np.where(random.random((200, 4)) < 0.8, truth, ~truth)
    values = point(set_counts(truth, found, (truth == found).all(axis=1)), lambda totals: set_scores(totals, [*"abcd"]))
    assert values["accuracy"] == pytest.approx(accuracy_score(truth, found))
    for name in ("macro", "micro", "weighted"):
        assert values[f"{name}_f1"] == pytest.approx(f1_score(truth, found, average=name, zero_division=0))
    assert values["f1/b"] == pytest.approx(f1_score(truth[:, 1], found[:, 1]))


def test_orders_equal_scikit_learn() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 5, 300)
    found = np.clip(truth + random.integers(-2, 3, 300), 0, 4)
    values = point(confusion(truth, found, 5), lambda totals: ordinal_scores(totals, [*"12345"]))
    assert values["qwk"] == pytest.approx(cohen_kappa_score(truth, found, weights="quadratic"))
    assert values["mae"] == pytest.approx(mean_absolute_error(truth, found))
    assert values["within_one"] == pytest.approx(np.mean(np.abs(truth - found) <= 1))
    assert values["macro_f1"] == pytest.approx(f1_score(truth, found, average="macro"))
    assert not intervals(confusion(truth, found, 5), lambda totals: ordinal_scores(totals, [*"12345"]), 50)[
        "mae"
    ].higher_is_better


def test_an_order_does_not_hold_for_a_label_that_it_does_not_know() -> None:
    rows = confusion(np.array([0, -1]), np.array([0, 1]), 3)
    values = point(rows, lambda totals: ordinal_scores(totals, [*"123"]))
    assert values["accuracy"] == values["within_one"] == 0.5


SENTENCES = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=9), min_size=1, max_size=8
)


@settings(max_examples=150, deadline=None)
@given(SENTENCES)
def test_entities_equal_strict_seqeval(rows: list[list[tuple[str, str]]]) -> None:
    truth, found = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    stats = entity_counts([set(entities(tags)) for tags in truth], [set(entities(tags)) for tags in found], KINDS)
    values = point(stats, lambda totals: entity_scores(totals, KINDS))
    if not any(entities(tags) for tags in truth + found):
        assert values["f1"] == 0
        return
    report = classification_report(truth, found, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    for ours, theirs in (("f1", "f1-score"), ("precision", "precision"), ("recall", "recall")):
        assert values[ours] == pytest.approx(report["micro avg"][theirs])
        for kind in KINDS:
            if kind in report:
                assert values[f"{ours}/{kind}"] == pytest.approx(report[kind][theirs])
    assert values["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])


def test_a_kind_that_the_model_does_not_know_costs_recall() -> None:
    truth, found = [{("NEW", 0, 1), ("PER", 2, 3)}], [{("PER", 2, 3)}]
    values = point(entity_counts(truth, found, ["PER"]), lambda totals: entity_scores(totals, ["PER"]))
    assert (values["precision"], values["recall"]) == (1.0, 0.5)


def test_rankings_equal_scikit_learn_group_by_group() -> None:
    random = np.random.default_rng(2)
    groups = [f"q{number % 30}" for number in range(400)]
    grades = random.choice([0, 0, 0, 1, 2], 400).astype(float)
    scores = random.normal(size=400) + grades
    values = point(ranking_units(grades, scores, groups), ranking_scores)
    expected: dict[str, list[float]] = {name: [] for name in ("mrr", "map", "ndcg@10", "recall@3")}
    for group in sorted(set(groups)):
        rows = [place for place, name in enumerate(groups) if name == group]
        truth, own = grades[rows], scores[rows]
        if not 0 < (truth > 0).sum() < len(truth):
            continue
        order = np.argsort(-own)
        expected["mrr"].append(1 / (1 + np.flatnonzero(truth[order] > 0)[0]))
        expected["map"].append(average_precision_score(truth > 0, own))
        expected["ndcg@10"].append(ndcg_score([2**truth - 1], [own], k=10))
        expected["recall@3"].append((truth[order][:3] > 0).sum() / (truth > 0).sum())
        one = label_ranking_average_precision_score([truth > 0], [own])
        assert one == pytest.approx(expected["map"][-1])
    for name, found in expected.items():
        assert values[name] == pytest.approx(np.mean(found)), name


def test_ties_are_no_success_and_groups_without_a_choice_say_nothing() -> None:
    values = point(ranking_units([1, 0, 0, 1, 1, 0], [0.5] * 6, ["a", "a", "a", "b", "b", "c"]), ranking_scores)
    assert values["mrr"] == pytest.approx(1 / 3)
    units = ranking_units([1, 0, 1], [1, 0, 1], ["a", "a", "b"])
    assert units[:, -1].tolist() == [1, 0]


def test_long_queries_take_no_more_room_than_they_have() -> None:
    groups = ["q" * 100_000] * 2 + [f"{number // 2}" for number in range(100_000)]  # 40 GB as an array of texts
    units = ranking_units([1, 0] * 50_001, [1, 0] * 50_001, groups)
    assert units.shape == (50_001, 7)
    assert (units == 1).all()


def test_units_of_two_models_pair_whatever_their_scores() -> None:
    random = np.random.default_rng(3)
    groups = [f"{number}" for number in random.integers(0, 9, 60)]
    grades = random.integers(0, 2, 60).astype(float)
    one, other = (ranking_units(grades, random.normal(size=60), groups) for _ in range(2))
    assert one.shape == other.shape
    np.testing.assert_array_equal(one[:, -1], other[:, -1])
