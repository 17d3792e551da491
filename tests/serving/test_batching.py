"""Who goes next: every text once, budgets kept, and no long request in front of the short ones."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.serving.batching import Fair, Work, parted, together
from mlops.serving.inputs import Encoded


def work(*lengths: int, dropped: bool = False) -> Work:
    """One item per length."""
    ids = [np.arange(length, dtype=np.int32) for length in lengths]
    return Work.of(Encoded(ids, list(range(len(ids)))), len(ids), lambda: dropped)


@settings(deadline=None, max_examples=60)
@given(
    requests=st.lists(st.lists(st.integers(0, 300), max_size=12), max_size=12),
    budget=st.integers(1, 600),
)
def test_every_text_once_and_within_the_budget(requests: list[list[int]], budget: int) -> None:
    fair, works = Fair(), [work(*lengths) for lengths in requests]
    for each in works:
        fair.add(each)
    found = []
    while picks := fair.take(budget):
        assert len(picks) == 1 or sum(one.costs[item] for one, item in picks) <= budget
        found += picks
    assert len(fair) == 0
    assert len(found) == len(set(found)) == sum(map(len, requests))
    for each in works:
        assert [item for one, item in found if one is each] == list(range(len(each.costs)))


def test_a_short_request_overtakes_a_long_one_that_came_before() -> None:
    fair = Fair()
    long, short = work(*[200] * 50), work(20)
    fair.add(long)
    fair.take(400)
    fair.add(short)
    assert short in [one for one, _ in fair.take(400)]
    alone, behind = work(300), work(20)
    fair = Fair()
    fair.add(alone)
    fair.add(behind)
    assert [one for one, _ in fair.take(100)] == [behind]


def test_a_long_text_waits_for_no_more_than_its_share() -> None:
    """A stream of short ones that never ends: each of 8 clients gets as many tokens as the long text needs."""
    fair, chance = Fair(), random.Random(0)
    long = work(256)
    fair.add(long)
    clients, served = 8, 0
    for _ in range(clients):
        fair.add(work(32))
    for _ in range(1000):
        picks = fair.take(64)
        if long in [one for one, _ in picks]:
            break
        served += 32 * len(picks)
        for _ in picks:
            fair.add(work(32 if chance.random() < 0.5 else 31))
    else:
        raise AssertionError("the long text starves")
    assert served <= clients * (256 + 32) + 64


def test_what_nobody_waits_for_is_not_computed() -> None:
    fair, gone, there = Fair(), work(10, 10, dropped=True), work(10)
    fair.add(gone)
    fair.add(there)
    assert fair.take(100) == [(there, 0)]
    assert len(fair) == 0


def test_parts_and_wholes() -> None:
    """Windows of one document stay together; pairs keep where the second text begins."""
    ids = [np.full(size, size, dtype=np.int32) for size in (3, 4, 5, 6)]
    whole = Encoded(ids, [0, 0, 1, 2], None, [each[:1] for each in ids])
    first, second = parted(whole, [2, 1])
    assert (first.items, second.items) == ([0, 0, 1], [0])
    works = [Work.of(first, 2, lambda: False), Work.of(second, 1, lambda: False)]
    assert [each.costs for each in works] == [[7, 5], [6]]
    again = together([(works[1], 0), (works[0], 0)])
    assert [len(each) for each in again.input_ids] == [6, 3, 4]
    assert again.items == [0, 1, 1]
    assert again.places is not None
    assert [int(each[0]) for each in again.places] == [6, 3, 4]
    pairs = Encoded(ids[:2], [0, 1], [1, 2], None, [True, False])
    left, right = parted(pairs, [1, 1])
    assert (left.seconds, right.seconds, left.cut, right.cut) == ([1], [2], [True], [False])
    assert together([(Work.of(right, 1, lambda: False), 0)]).seconds == [2]
