"""Token-budget batches: every row once, within the budget, little padding, reproducible."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.training.batches import by_length, shuffled

LENGTHS = st.lists(st.integers(1, 200), max_size=300)


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 400), st.integers(0, 5), st.integers(0, 3))
def test_every_row_once_and_within_the_budget(lengths: list[int], budget: int, seed: int, epoch: int) -> None:
    for batches in (shuffled(lengths, budget, seed, epoch), by_length(lengths, budget)):
        assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
        for rows in batches:
            assert len(rows) * max(lengths[row] for row in rows) <= budget or len(rows) == 1


def test_same_seed_same_batches_and_each_epoch_other_ones() -> None:
    chance = random.Random(3)
    lengths = [chance.randint(3, 60) for _ in range(500)]
    assert shuffled(lengths, 512, 13, 1) == shuffled(lengths, 512, 13, 1)
    assert shuffled(lengths, 512, 13, 1) != shuffled(lengths, 512, 13, 2)
    assert shuffled(lengths, 512, 13, 1) != shuffled(lengths, 512, 14, 1)


def test_little_is_padding_and_short_rows_do_not_come_first() -> None:
    chance = random.Random(3)
    lengths = [min(200, int(chance.lognormvariate(3, 0.8)) + 2) for _ in range(3000)]
    batches = shuffled(lengths, 2048, 13)
    padded = sum(len(rows) * max(lengths[row] for row in rows) for rows in batches)
    assert padded < 1.1 * sum(lengths)
    longest = [max(lengths[row] for row in rows) for rows in batches]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_equal_lengths_are_shuffled() -> None:
    batches = shuffled([16] * 400, 160, 13)
    assert {len(rows) for rows in batches} == {10}
    assert any(max(rows) - min(rows) > 100 for rows in batches)


def test_longest_first_for_inference() -> None:
    assert by_length([3, 9, 5, 9], 18) == [[1, 3], [2, 0]]


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="0 tokens"):
        shuffled([1], 0, 1)


def test_rows_without_tokens_take_the_room_of_one() -> None:
    assert by_length([0] * 5, 2) == [[0, 1], [2, 3], [4]]
