from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.config import Shares
from mlops.data.book import KEPT_OUT, Book, Entry
from mlops.data.splits import Texts, group_keys, position, split_as_given, split_by_hash

SHARES = Shares(train=0.5, validation=0.2, test=0.3)


def texts(*rows: tuple[str, str], label: str = "x", unit: dict[str, str] | None = None) -> Texts:
    """Rows of (key, group)."""
    keys = [key for key, _ in rows]
    return Texts(keys, [label] * len(keys), [group for _, group in rows], [(unit or {}).get(key) for key in keys])


def known(**splits: str) -> Book:
    return {key: Entry(split, key) for key, split in splits.items()}


def test_shares_are_met_and_a_group_is_never_parted() -> None:
    rows = texts(*((f"k{n}", f"g{n // 2}") for n in range(6000)))
    assigned = split_by_hash(rows, Shares(), {})
    counts = Counter(assigned.splits)
    for name, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert abs(counts[name] / 6000 - share) < 0.02, counts
    assert all(assigned.splits[n] == assigned.splits[n + 1] for n in range(0, 6000, 2))
    assert assigned.leaks == {}


def test_a_text_keeps_its_split_whatever_the_shares_become() -> None:
    rows = texts(*((f"k{n}", f"k{n}") for n in range(300)))
    first = split_by_hash(rows, SHARES, {})
    again = split_by_hash(rows, Shares(train=0.1, validation=0.1, test=0.8), first.book)
    assert again.splits == first.splits
    assert again.book == first.book


def test_a_new_row_that_bridges_train_and_test_trains_nothing() -> None:
    book = known(a="train", b="test", c="validation")
    rows = texts(("a", "g"), ("b", "g"), ("c", "g"), ("new", "g"))
    assigned = split_by_hash(rows, SHARES, book)
    assert assigned.splits == [KEPT_OUT, "test", KEPT_OUT, KEPT_OUT]
    assert assigned.leaks == {"test": 3}
    # The bridge goes again: what was found to resemble test stays out, also its new relatives.
    later = split_by_hash(texts(("a", "a"), ("newer", "a"), ("b", "b")), SHARES, assigned.book)
    assert later.splits == [KEPT_OUT, KEPT_OUT, "test"]


def test_new_relatives_of_train_and_validation_join_them() -> None:
    book = known(a="train", c="validation", d="train", e="validation")
    rows = texts(("a", "g"), ("n1", "g"), ("c", "h"), ("n2", "h"), ("d", "i"), ("e", "i"), ("n3", "i"))
    assigned = split_by_hash(rows, SHARES, book)
    assert assigned.splits == ["train", "train", "validation", "validation", KEPT_OUT, "validation", "validation"]
    assert assigned.leaks == {"validation": 1}


def test_a_unit_that_was_in_test_sends_nothing_new_to_train() -> None:
    book = {"old": Entry("test", "old", "ann"), "other": Entry("train", "other", "bob")}
    units = {"n1": "ann", "n2": "bob"}
    assigned = split_by_hash(texts(("n1", "n1"), ("n2", "n2"), unit=units), SHARES, book)
    assert assigned.splits == [KEPT_OUT, "train"]


def test_a_few_rows_fill_every_split_and_no_label_loses_its_last_row_of_train() -> None:
    rows = Texts(["a", "b", "c", "d", "e"], ["x", "x", "x", "x", "rare"], ["a", "b", "c", "d", "e"], [None] * 5)
    seeded = split_by_hash(rows, Shares(train=0.98, validation=0.01, test=0.01), {})
    assert set(seeded.splits) == {"train", "validation", "test"}
    assert seeded.splits[4] == "train"
    assert split_by_hash(rows, Shares(), seeded.book).splits == seeded.splits
    assert split_by_hash(texts(("a", "a")), Shares(train=0.98, validation=0.01, test=0.01), {}).splits == ["train"]


def test_splits_by_uri_lose_what_resembles_test() -> None:
    rows = texts(("a", "g"), ("b", "g"), ("c", "h"), ("d", "h"), ("e", "e"), ("f", "f"), ("z", "z"))
    given_splits = ["train", "test", "train", "validation", "train", "test", "train"]
    assigned = split_as_given(rows, given_splits, known(z="test"))
    assert assigned.splits == [KEPT_OUT, "test", KEPT_OUT, "validation", "train", "test", KEPT_OUT]
    assert assigned.leaks == {"test": 2, "validation": 1}
    assert {key: entry.split for key, entry in assigned.book.items()} == {
        "b": "test", "d": "validation", "e": "train", "f": "test", "z": "test",
    }  # fmt: skip


def test_a_text_in_several_splits_by_uri_is_remembered_by_the_strongest() -> None:
    rows = texts(("a", "a"), ("a", "a"), ("b", "b"), ("b", "b"))
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        given_splits = ["test", "train", "validation", "train"]
        assigned = split_as_given(rows, [given_splits[n] for n in order], {})
        assert [assigned.splits[n] for n in order] == ["test", KEPT_OUT, "validation", KEPT_OUT]
        assert {key: entry.split for key, entry in assigned.book.items()} == {"a": "test", "b": "validation"}


def test_a_missing_validation_is_cut_from_train_for_good() -> None:
    keys = [(f"k{n}", f"k{n}") for n in range(1000)]
    first = split_as_given(texts(*keys), ["train"] * 900 + ["test"] * 100, {})
    counts = Counter(first.splits)
    assert counts["test"] == 100
    assert 60 <= counts["validation"] <= 120
    fewer = split_as_given(texts(*keys[:500]), ["train"] * 500, first.book)
    assert fewer.splits == first.splits[:500]
    tiny = split_as_given(texts(*keys[:4]), ["train", "train", "train", "test"], {})
    assert Counter(tiny.splits) == {"train": 2, "validation": 1, "test": 1}


def test_positions_and_group_keys_depend_on_content_alone() -> None:
    assert group_keys(["b", "a", "c"], [0, 0, 2]) == ["a", "a", "c"]
    assert position("a") == pytest.approx(0.283133, abs=1e-6)
    assert 0 <= position("") < 1


SNAPSHOT = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SNAPSHOT, min_size=2, max_size=6), st.booleans())
def test_no_text_once_in_test_ever_trains(growth: list[list[tuple[int, int]]], forget: bool) -> None:
    """Snapshots of texts 0..40 with links between them; groups merge as links come; rows may go away again."""
    book: Book = {}
    links: list[tuple[int, int]] = []
    ever_test: set[str] = set()
    for step in growth:
        links = step if forget else links + step
        numbers = sorted({number for pair in links for number in pair})
        groups = {number: number for number in numbers}
        for _ in numbers:
            for a, b in links:
                groups[a] = groups[b] = min(groups[a], groups[b])
        keys = [f"k{number}" for number in numbers]
        names = group_keys(keys, [groups[number] for number in numbers])
        rows = Texts(keys, ["x"] * len(keys), names, [None] * len(keys))
        assigned = split_by_hash(rows, SHARES, book)
        by_split: dict[str, set[str]] = {}
        for key, split in zip(keys, assigned.splits, strict=True):
            by_split.setdefault(split, set()).add(key)
        ever_test |= by_split.get("test", set())
        for name in ("train", "validation"):
            assert not by_split.get(name, set()) & ever_test
        # Nor does anything train that is in one group with a test row of now.
        tested = {name for name, split in zip(names, assigned.splits, strict=True) if split == "test"}
        trained = {name for name, split in zip(names, assigned.splits, strict=True) if split == "train"}
        assert not tested & trained
        assert split_by_hash(rows, SHARES, assigned.book)[:2] == assigned[:2]
        book = assigned.book
