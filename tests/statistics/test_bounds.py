"""The paired bound where few rows, rare labels or many looks make it hard."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from mlops.config_gate import GateSection
from mlops.judging.answers import Rows, evidence, paired
from mlops.statistics.classification import counts, scores
from mlops.statistics.paired import Extremes, difference
from mlops.statistics.spending import level
from mlops.tasks import get


def bound(
    labels: np.ndarray, candidate: np.ndarray, champion: np.ndarray, kinds: int, metric: str, alpha: float
) -> float:
    names = [str(kind) for kind in range(kinds)]
    wrong = (labels + 1) % kinds
    ours, theirs, right, bad = (counts(labels, found, kinds) for found in (candidate, champion, labels, wrong))
    values = lambda summed: scores(summed, names)  # noqa: E731
    return difference(ours, theirs, values, metric, alpha, 2000, extremes=Extremes(right, bad)).low


@pytest.mark.parametrize("look", [1, 5, 15, 16, 20, 50])
@pytest.mark.parametrize("broken", [0, 3])
def test_the_bound_is_that_of_clopper_and_pearson_at_every_look(look: int, broken: int) -> None:
    n, alpha = 500, level(0.05, look)
    labels = np.arange(n) % 2
    candidate = np.where(np.arange(n) < broken, 1 - labels, labels)
    exact = -float(beta.ppf(1 - alpha, broken + 1, n - broken))
    assert bound(labels, candidate, labels, 2, "accuracy", alpha) == pytest.approx(exact, rel=0.12)


def test_later_looks_never_ask_for_less() -> None:
    labels = np.arange(500) % 2
    found = [bound(labels, labels, labels, 2, "accuracy", level(0.05, look)) for look in (1, 5, 15, 16, 20, 50)]
    assert found == sorted(found, reverse=True)


def test_errors_on_a_rare_label_are_let_in_no_more_often_than_alpha() -> None:
    random = np.random.default_rng(0)
    shares = np.array([0.905, 0.055, 0.02, 0.015, 0.005])
    let_in, drops = 0, []
    for _ in range(60):
        labels = random.choice(5, 1000, p=shares)
        lost = (labels == 4) & (random.random(1000) < 0.3)
        candidate = np.where(lost, 0, labels)
        let_in += bound(labels, candidate, labels, 5, "macro_f1", 0.025) > -0.02
        drops.append(lost.sum())
    assert min(drops) == 0  # there are draws that show nothing of it
    assert let_in == 0


def test_groups_of_one_are_no_evidence_in_a_ranking() -> None:
    task = get("text-ranking")

    def ranked(real: int, single: int) -> Rows:
        ids = [f"{group}-{place}" for group in range(real) for place in range(3)] + [f"s{n}" for n in range(single)]
        groups = [f"g{group}" for group in range(real) for _ in range(3)] + [f"alone{n}" for n in range(single)]
        labels = ["1", "0", "0"] * real + ["1"] * single
        scores = (0.9, 0.2, 0.1) * real + (0.5,) * single
        return Rows(tuple(ids), tuple(labels), tuple(labels), scores, groups=tuple(groups))

    rules = GateSection(metric="mrr", resamples=500)
    few, padded = ranked(15, 0), ranked(15, 300)
    assert evidence(task, few, ("0", "1")) == evidence(task, padded, ("0", "1")) == 15
    one, other = (paired(task, rows, rows, ("0", "1"), rules) for rows in (few, padded))
    assert (one.n, one.low) == (other.n, other.low)
    assert one.low < -0.05


def test_rows_to_settle_are_about_those_that_the_exact_bound_needs() -> None:
    labels = np.arange(100) % 2
    own = counts(labels, labels, 2)
    wrong = counts(labels, 1 - labels, 2)
    gap = difference(
        own, own, lambda summed: scores(summed, ["0", "1"]), "accuracy", 0.025, extremes=Extremes(own, wrong)
    )
    said = gap.rows_to_settle(0.01, 0.025)
    assert said is not None
    exact = next(n for n in range(1, 2000) if beta.ppf(0.975, 1, n) < 0.01)
    assert said == pytest.approx(exact, rel=0.15)
