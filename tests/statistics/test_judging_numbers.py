"""Spending, several tests at once, calibration, and bounds that hold where rows are few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mlops.statistics.bootstrap import by_unit, distinct, intervals
from mlops.statistics.calibration import bin_counts, curve, ece
from mlops.statistics.classification import counts, scores
from mlops.statistics.multiple import holm
from mlops.statistics.paired import Extremes, difference
from mlops.statistics.spending import effort, level, spent, worn_at


def test_all_looks_together_spend_alpha() -> None:
    levels = [level(0.05, look) for look in range(1, 2000)]
    assert levels[0] == pytest.approx(0.025)
    assert sum(levels[:50]) == pytest.approx(spent(0.05, 50))
    assert sum(levels) < 0.05
    assert effort(0.05, 1) == 1
    assert effort(0.05, worn_at(0.05)) >= 1.5 > effort(0.05, worn_at(0.05) - 1)
    with pytest.raises(ValueError, match="look 0"):
        level(0.05, 0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_calibration_by_hand() -> None:
    sure = np.array([0.95] * 100 + [0.55] * 100)
    right = np.array([True] * 75 + [False] * 25 + [True] * 55 + [False] * 45)
    found = ece(bin_counts(sure, right))
    assert found.value == pytest.approx(0.10)
    assert found.low < 0.10 < found.high
    bins = curve(bin_counts(sure, right))
    assert [(entry["rows"], round(entry["accuracy"], 2)) for entry in bins] == [(100, 0.55), (100, 0.75)]


def _draw(seed: int = 0, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.choice(4, n, p=[0.6, 0.2, 0.15, 0.05])
    return labels, np.where(random.random(n) < 0.75, labels, random.integers(0, 4, n))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_bca_intervals_equal_those_of_scipy(metric: str) -> None:
    labels, found = _draw()
    names = list("abcd")
    ours = intervals(counts(labels, found, 4), lambda totals: scores(totals, names), 20_000)[metric]

    def value(rows: np.ndarray) -> float:
        return float(scores(counts(labels[rows], found[rows], 4).sum(axis=0, keepdims=True), names)[metric][0])

    theirs = stats.bootstrap(
        (np.arange(len(labels)),), value, n_resamples=4000, method="BCa", vectorized=False, rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.006)
    assert ours.high == pytest.approx(theirs.high, abs=0.006)


def test_the_order_of_the_units_changes_nothing() -> None:
    labels, found = _draw()
    order = np.random.default_rng(5).permutation(len(labels))
    one, other = (
        intervals(counts(labels[rows], found[rows], 4), lambda totals: scores(totals, list("abcd")))
        for rows in (np.arange(len(labels)), order)
    )
    assert one == other


def test_types_and_units() -> None:
    units = np.array([[1.0, 0], [0, 1], [1, 0], [1, 0]])
    types = distinct(units)
    assert (types.n, sorted(types.counts.tolist())) == (4, [1, 3])
    assert types.totals.tolist() == [[3, 1]]
    assert by_unit(units, ["x", "y", "x", "z"]).tolist() == [[2, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_without_a_difference_the_bound_is_that_of_clopper_and_pearson(n: int) -> None:
    labels = np.arange(n) % 2
    same = counts(labels, labels, 2)
    wrong = counts(labels, 1 - labels, 2)
    gap = difference(
        same, same, lambda totals: scores(totals, ["a", "b"]), "accuracy", 0.05, 40_000, extremes=Extremes(same, wrong)
    )
    # With n rows without a fault, a share of faults of up to 1 - alpha^(1/n) is not excluded.
    assert gap.low == pytest.approx(-(1 - 0.05 ** (1 / n)), rel=0.06)
    assert gap.value == 0.0
    assert gap.high == pytest.approx(-gap.low, rel=0.1)


@pytest.mark.parametrize(("n", "broken"), [(200, 3), (200, 10), (1000, 4)])
def test_some_broken_rows_have_that_bound_too(n: int, broken: int) -> None:
    labels = np.zeros(n, dtype=np.int64)
    answers = labels.copy()
    answers[:broken] = 1
    right, wrong = counts(labels, labels, 2), counts(labels, 1 - labels, 2)
    gap = difference(
        counts(labels, answers, 2),
        right,
        lambda totals: scores(totals, ["a", "b"]),
        "accuracy",
        0.05,
        40_000,
        extremes=Extremes(right, wrong),
    )
    assert gap.low == pytest.approx(-stats.beta.ppf(0.95, broken + 1, n - broken), rel=0.03)
