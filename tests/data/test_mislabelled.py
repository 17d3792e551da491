from __future__ import annotations

import random

import numpy as np
import pytest

from mlops.data.mislabelled import label_issues

_WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in "rstv"]


def rows(n: int, labels: int = 4, seed: int = 0) -> tuple[list[str], list[str]]:
    chance = random.Random(seed)
    texts, names = [], []
    for _ in range(n):
        label = chance.randrange(labels)
        own = _WORDS[label * 12 : label * 12 + 12]
        texts.append(" ".join(chance.choices(own, k=3) + chance.choices(_WORDS[60:], k=6)))
        names.append(f"label-{label}")
    return texts, names


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_flipped_labels_are_found_and_their_share_is_told(rate: float) -> None:
    texts, labels = rows(1500)
    chance = random.Random(7)
    flipped = {n for n in range(len(labels)) if chance.random() < rate}
    given = [f"label-{(int(label[-1]) + 1) % 4}" if n in flipped else label for n, label in enumerate(labels)]
    found = label_issues(texts, given)
    named = set(found.rows.tolist())
    assert len(named & flipped) >= 0.8 * len(flipped)
    assert len(named & flipped) >= 0.8 * len(named)
    assert found.noise_rate == pytest.approx(rate, abs=0.04)
    assert (found.judged, found.total) == (1500, 1500)
    # The worst first, with what they should be.
    assert (np.diff(found.scores) >= 0).all()
    first = int(found.rows[0])
    assert (found.given[0], found.suggested[0]) == (given[first], labels[first])


def test_clean_labels_are_left_alone_and_the_order_does_not_matter() -> None:
    texts, labels = rows(800, seed=3)
    found = label_issues(texts, labels)
    assert len(found.rows) <= 8
    assert found.noise_rate < 0.02
    given = ["label-0" if n % 10 == 0 else label for n, label in enumerate(labels)]
    order = list(range(800))
    random.Random(1).shuffle(order)
    one = label_issues(texts, given)
    other = label_issues([texts[n] for n in order], [given[n] for n in order])
    assert {order[n] for n in other.rows.tolist()} == set(one.rows.tolist())


def test_rare_labels_and_few_rows_are_not_judged() -> None:
    texts, labels = rows(300)
    found = label_issues([*texts, "one of its kind", "another"], [*labels, "rare", "rarer"])
    assert (found.judged, found.total) == (300, 302)
    nothing = label_issues(["a", "b"], ["x", "y"])
    assert (len(nothing.rows), nothing.judged, nothing.noise_rate) == (0, 0, 0.0)
    assert label_issues(*rows(900), max_rows=400).judged <= 400


def test_texts_without_spaces_and_empty_ones() -> None:
    chance = random.Random(5)
    shared = [chr(code) for code in range(0x4E00, 0x4E60)]
    own = {"good": "好吃快送热香棒赞", "bad": "冷慢贵差脏苦硬咸"}
    labels = ["good" if n % 2 else "bad" for n in range(600)]
    texts = ["".join(chance.choices(own[label], k=2) + chance.choices(shared, k=8)) for label in labels]
    wrong = set(range(0, 600, 20))
    given = ["good" if n in wrong else label for n, label in enumerate(labels)]
    found = set(label_issues([*texts, ""], [*given, "bad"]).rows.tolist())
    assert len(found & wrong) >= 20
    assert len(found - wrong) <= 10
