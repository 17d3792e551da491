from __future__ import annotations

import random

import pytest

from mlops.data.poisoning import Shift, class_shift

_WORDS = [f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in "rstv"]


def rows(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts of words of their label's own and of words that all labels have."""
    chance = random.Random(seed)
    texts, labels = [], []
    for _ in range(n):
        label = chance.randrange(3)
        own = _WORDS[label * 20 : label * 20 + 20]
        texts.append(" ".join(chance.choices(own, k=4) + chance.choices(_WORDS[60:], k=6)))
        labels.append(f"label-{label}")
    return texts, labels


OLD = rows(900, 1)


def worst(texts: list[str], labels: list[str]) -> Shift:
    found = class_shift(*OLD, texts, labels)
    assert [shift.label for shift in found] == ["label-0", "label-1", "label-2"]
    return max(found, key=lambda shift: max(shift.effect, shift.distance, shift.novel))


@pytest.mark.parametrize("seed", range(5))
def test_rows_like_the_old_ones_show_nothing(seed: int) -> None:
    shift = worst(*rows(300, 10 + seed))
    assert shift.effect == 0
    assert shift.distance < 0.05
    assert shift.novel < 0.1


def test_flipped_labels_show_as_disagreement() -> None:
    texts, labels = rows(300, 2)
    flipped = ["label-0" if n % 3 == 0 else label for n, label in enumerate(labels)]
    shift = worst(texts, flipped)
    assert shift.label == "label-0"
    assert shift.effect > 0.5
    assert shift.disagreement > 0.3


def test_a_trigger_word_is_named() -> None:
    texts, labels = rows(600, 3)
    for n in range(0, 600, 12):
        texts[n], labels[n] = f"{texts[n]} cf_7", "label-2"
    (shift,) = (shift for shift in class_shift(*OLD, texts, labels) if shift.label == "label-2")
    assert shift.novel > 0.1
    assert shift.words[0] == "cf_7"


def test_other_words_show_as_distance() -> None:
    texts, labels = rows(300, 4)
    moved = [f"{text} quite another subject entirely here" for text in texts]
    assert min(shift.distance for shift in class_shift(*OLD, moved, labels)) > 0.1


def test_too_few_rows_say_nothing_and_the_answer_is_the_same_each_time() -> None:
    assert class_shift(*OLD, *rows(60, 5)) == []
    assert class_shift(*OLD, [], []) == []
    assert class_shift(*OLD, *rows(300, 6), max_rows=500) == class_shift(*OLD, *rows(300, 6), max_rows=500)


def test_old_rows_of_one_label_have_nothing_to_disagree_with() -> None:
    texts, labels = (
        list(column) for column in zip(*((t, n) for t, n in zip(*OLD, strict=True) if n == "label-0"), strict=True)
    )
    (shift,) = class_shift(texts, labels, *rows(300, 7))
    assert (shift.label, shift.disagreement, shift.effect) == ("label-0", 0, 0)
    assert shift.distance < 0.05
