"""Metrics and intervals against scikit-learn and scipy on the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from mlops.statistics.bootstrap import intervals
from mlops.statistics.classification import counts, scores
from mlops.types import Metric

NAMES = ["a", "b", "c", "d"]


def metrics(
    labels: np.ndarray, predicted: np.ndarray, names: list[str], resamples: int = 2000, seed: int = 0
) -> dict[str, Metric]:
    return intervals(counts(labels, predicted, len(names)), lambda totals: scores(totals, names), resamples, seed)


def rows(n: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.choice(4, size=n, p=[0.5, 0.3, 0.15, 0.05])
    predicted = np.where(random.random(n) < right, labels, random.integers(0, 4, n))
    return labels, predicted


def test_values_equal_those_of_scikit_learn() -> None:
    labels, predicted = rows(500, 0.7, 1)
    found = metrics(labels, predicted, NAMES, resamples=100)
    assert found["accuracy"].value == pytest.approx(accuracy_score(labels, predicted))
    assert found["macro_f1"].value == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert found["weighted_f1"].value == pytest.approx(f1_score(labels, predicted, average="weighted"))
    for position, value in enumerate(f1_score(labels, predicted, average=None)):
        assert found[f"f1/{NAMES[position]}"].value == pytest.approx(value)


def test_interval_equals_that_of_scipy() -> None:
    labels, predicted = rows(400, 0.8, 2)
    ours = metrics(labels, predicted, NAMES, resamples=4000)["accuracy"]
    right = (labels == predicted).astype(float)
    theirs = stats.bootstrap(
        (right,), np.mean, n_resamples=4000, method="percentile", random_state=3
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.006)
    assert ours.high == pytest.approx(theirs.high, abs=0.006)


def test_macro_f1_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    everything = rows(200_000, 0.7, 4)
    truth = f1_score(*everything, average="macro")
    inside = 0
    for seed in range(60):
        found = metrics(*rows(300, 0.7, 100 + seed), NAMES, resamples=300, seed=seed)["macro_f1"]
        inside += found.low <= truth <= found.high
    assert inside >= 50  # 57 expected; fewer than 50 of 60 has a chance below 1 in 1,000


def test_a_label_that_the_model_does_not_know_counts_as_wrong() -> None:
    found = metrics(np.array([0, 1, -1]), np.array([0, 1, 1]), ["a", "b"], resamples=100)
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert found["f1/b"].value == pytest.approx(2 / 3)


def test_order_of_rows_and_names_of_labels_change_no_value() -> None:
    labels, predicted = rows(200, 0.7, 5)
    order = np.random.default_rng(0).permutation(200)
    first = metrics(labels, predicted, NAMES, resamples=100)
    second = metrics(labels[order], predicted[order], ["w", "x", "y", "z"], resamples=100)
    assert first["macro_f1"].value == pytest.approx(second["macro_f1"].value)


def test_no_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no rows"):
        metrics(np.array([], dtype=int), np.array([], dtype=int), NAMES)


def test_a_label_without_a_row_costs_nothing() -> None:
    labels = np.array([0, 1] * 10)
    found = metrics(labels, labels, ["a", "b", "absent"], resamples=200)
    assert (found["macro_f1"].value, found["macro_f1"].low) == (1.0, 1.0)
    guessed = np.where(np.arange(20) == 0, 2, labels)
    assert metrics(labels, guessed, ["a", "b", "absent"], resamples=200)["macro_f1"].value == pytest.approx(
        f1_score(labels, guessed, average="macro")
    )
