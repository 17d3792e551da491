"""The paired difference: its value, its direction, and how often it is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from mlops.statistics.classification import counts, scores
from mlops.statistics.paired import Difference
from mlops.statistics.paired import difference as paired

NAMES = ["a", "b", "c"]


def difference(
    labels: np.ndarray, a: np.ndarray, b: np.ndarray, names: list[str], metric: str, **rules: float
) -> Difference:
    ours, theirs = (counts(labels, answers, len(names)) for answers in (a, b))
    return paired(ours, theirs, lambda totals: scores(totals, names), metric, **rules)  # type: ignore[arg-type]


def model(labels: np.ndarray, right: float, random: np.random.Generator) -> np.ndarray:
    return np.where(random.random(len(labels)) < right, labels, (labels + random.integers(1, 3, len(labels))) % 3)


def test_a_model_is_never_worse_than_itself() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    own = model(labels, 0.8, random)
    gap = difference(labels, own, own, NAMES, "macro_f1", alpha=0.05, resamples=500)
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)


@pytest.mark.parametrize("n", [2, 20, 200])
def test_few_rows_do_not_claim_to_see_what_they_cannot(n: int) -> None:
    labels = np.arange(n) % 3
    gap = difference(labels, labels, labels, NAMES, "macro_f1", alpha=0.05, resamples=200)
    assert (1 - gap.detectable) ** n == pytest.approx(0.2)


def test_swapping_the_models_turns_the_sign() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 300)
    good, bad = model(labels, 0.9, random), model(labels, 0.7, random)
    one = difference(labels, good, bad, NAMES, "macro_f1", alpha=0.05)
    other = difference(labels, bad, good, NAMES, "macro_f1", alpha=0.05)
    assert one.value == pytest.approx(-other.value)
    assert one.low > 0 > other.high


def test_a_model_that_is_worse_by_the_margin_is_let_in_no_more_often_than_alpha() -> None:
    random = np.random.default_rng(2)
    let_in = 0
    for seed in range(200):
        labels = random.integers(0, 3, 400)
        champion, candidate = model(labels, 0.85, random), model(labels, 0.80, random)
        gap = difference(labels, candidate, champion, NAMES, "accuracy", alpha=0.05, resamples=300, seed=seed)
        let_in += gap.low > -0.05
    assert let_in <= 20  # 10 expected; more than 20 of 200 has a chance below 1 in 1,000


def test_rows_to_settle_grows_as_the_gap_shrinks_and_never_comes_for_a_worse_model() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 200)
    good, bad = model(labels, 0.85, random), model(labels, 0.65, random)
    gap = difference(labels, bad, good, NAMES, "accuracy", alpha=0.05)
    assert gap.rows_to_settle(0.01, 0.05) is None
    wide, narrow = gap.rows_to_settle(0.9, 0.05), gap.rows_to_settle(abs(gap.value) + 0.001, 0.05)
    assert wide is not None
    assert narrow is not None
    assert narrow > 1000 > wide


@pytest.mark.parametrize(("metric", "n", "message"), [("f2", 3, "unknown metric 'f2'"), ("accuracy", 0, "no rows")])
def test_faults(metric: str, n: int, message: str) -> None:
    zeros = np.zeros(n, dtype=int)
    with pytest.raises(ValueError, match=message):
        difference(zeros, zeros, zeros, NAMES, metric, alpha=0.05)


def test_units_that_do_not_pair_are_refused() -> None:
    one, other = (counts(np.zeros(n, dtype=int), np.zeros(n, dtype=int), 3) for n in (3, 4))
    with pytest.raises(ValueError, match="3 and 4 units that do not pair"):
        paired(one, other, lambda totals: scores(totals, NAMES), "accuracy", alpha=0.05)
