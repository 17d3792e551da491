"""How many answers change between two models: rows, or the tags of tokens."""

from __future__ import annotations

import pytest

from mlops.judging.answers import flips
from mlops.tasks import get


def test_a_row_has_one_label() -> None:
    task = get("text-classification")
    assert flips(task, ["a", "b", "a", "a"], ["a", "a", "a", "a"]) == 0.25
    assert flips(task, [], []) == 0
    with pytest.raises(ValueError, match="zip"):
        flips(task, ["a"], ["a", "b"])


def test_a_row_of_tokens_has_a_tag_each() -> None:
    task = get("token-classification")
    one = ["O O B-person I-person", "O O O O O O"]
    assert flips(task, one, one) == 0
    assert flips(task, one, ["O O B-person O", "O O O O O O"]) == 0.1
    assert flips(task, one, ["O O B-person", "O O O O O O"]) == 0.1
    assert flips(task, ["", ""], ["", ""]) == 0


def test_sets_of_labels_are_one_answer() -> None:
    assert flips(get("text-classification:multi"), ['["a"]', "[]"], ['["a", "b"]', "[]"]) == 0.5
