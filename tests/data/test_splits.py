from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.config_data import Shares
from mlops.data.book import CODES, NAMES, book_schema, empty_book
from mlops.data.splits import Assigned, Texts, group_names, positions, split_as_given, split_by_hash
from mlops.data.text import digests

SHARES = Shares(train=0.5, validation=0.2, test=0.3)
OUT = "kept_out"


def texts(
    *rows: tuple[str, str], labels: Sequence[int] = (), unit: dict[str, str] | None = None, frozen: Sequence[str] = ()
) -> Texts:
    """Rows of (text, group); frozen: the groups of test texts that are no longer in the source."""
    names = pa.array([name for name, _ in rows], pa.string())
    first: dict[str, int] = {}
    groups = [first.setdefault(group, number) for number, group in enumerate([g for _, g in rows] + list(frozen))]
    return Texts(
        texts=names,
        keys=digests(names, folded=True),
        labels=np.array(labels or [0] * len(rows), dtype=np.int64),
        units=pa.array([(unit or {}).get(name) for name, _ in rows], pa.string()),
        groups=np.array(groups, dtype=np.int64),
    )


def known(units: dict[str, str] | None = None, **splits: str) -> pa.Table:
    names = pa.array(list(splits), pa.string())
    columns = [digests(names, folded=True), pa.array([CODES[split] for split in splits.values()], pa.int8())]
    columns += [pa.array([(units or {}).get(name) for name in splits], pa.string()), pa.nulls(len(splits), pa.string())]
    return pa.Table.from_arrays(columns, schema=book_schema())


def named(assigned: Assigned) -> list[str]:
    return [NAMES[int(code)] for code in assigned.splits]


def entries(assigned: Assigned, names: Sequence[str]) -> dict[str, str]:
    of = dict(zip(digests(pa.array(names), folded=True).to_pylist(), names, strict=True))
    return {of[row["key"]]: NAMES[row["split"]] for row in assigned.book.to_pylist()}


def codes(splits: Sequence[str]) -> np.ndarray:
    return np.array([CODES[split] for split in splits], dtype=np.int8)


def test_shares_are_met_and_a_group_is_never_parted() -> None:
    rows = texts(*((f"k{n}", f"g{n // 2}") for n in range(6000)))
    assigned = split_by_hash(rows, Shares(), empty_book())
    splits = named(assigned)
    counts = Counter(splits)
    for name, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert abs(counts[name] / 6000 - share) < 0.02, counts
    assert all(splits[n] == splits[n + 1] for n in range(0, 6000, 2))
    assert assigned.leaks == {}


def test_a_text_keeps_its_split_whatever_the_shares_become() -> None:
    rows = texts(*((f"k{n}", f"k{n}") for n in range(300)))
    first = split_by_hash(rows, SHARES, empty_book())
    again = split_by_hash(rows, Shares(train=0.1, validation=0.1, test=0.8), first.book)
    assert named(again) == named(first)
    assert again.book.sort_by("key").to_pylist() == first.book.sort_by("key").to_pylist()


def test_a_new_row_that_bridges_train_and_test_trains_nothing() -> None:
    book = known(a="train", b="test", c="validation")
    rows = texts(("a", "g"), ("b", "g"), ("c", "g"), ("new", "g"))
    assigned = split_by_hash(rows, SHARES, book)
    assert named(assigned) == [OUT, "test", OUT, OUT]
    assert assigned.leaks == {"test": 3}
    # The bridge goes again: what was found to resemble test stays out, also its new relatives.
    later = split_by_hash(texts(("a", "a"), ("newer", "a"), ("b", "b")), SHARES, assigned.book)
    assert named(later) == [OUT, OUT, "test"]


def test_a_test_text_that_left_the_source_still_keeps_its_relatives_out() -> None:
    rows = texts(("near", "g"), ("train", "t"), ("far", "f"), frozen=["g"])
    assigned = split_by_hash(rows, Shares(train=0.98, validation=0.01, test=0.01), known(train="train"))
    assert named(assigned)[:2] == [OUT, "train"]
    assert assigned.leaks == {"test": 1}
    by_uri = split_as_given(rows, codes(["train", "train", "validation"]), known(train="train"))
    assert named(by_uri) == [OUT, "train", "validation"]


def test_new_relatives_of_train_and_validation_join_them() -> None:
    book = known(a="train", c="validation", d="train", e="validation")
    rows = texts(("a", "g"), ("n1", "g"), ("c", "h"), ("n2", "h"), ("d", "i"), ("e", "i"), ("n3", "i"))
    assigned = split_by_hash(rows, SHARES, book)
    assert named(assigned) == ["train", "train", "validation", "validation", OUT, "validation", "validation"]
    assert assigned.leaks == {"validation": 1}


def test_a_unit_that_was_in_test_sends_nothing_new_to_train() -> None:
    book = known({"old": "ann", "other": "bob"}, old="test", other="train")
    assigned = split_by_hash(texts(("n1", "n1"), ("n2", "n2"), unit={"n1": "ann", "n2": "bob"}), SHARES, book)
    assert named(assigned) == [OUT, "train"]


def test_a_few_rows_fill_every_split_and_no_label_loses_its_last_row_of_train() -> None:
    rows = texts(*((name, name) for name in "abcde"), labels=[0, 0, 0, 0, 1])
    seeded = split_by_hash(rows, Shares(train=0.98, validation=0.01, test=0.01), empty_book())
    assert set(named(seeded)) == {"train", "validation", "test"}
    assert named(seeded)[4] == "train"
    assert named(split_by_hash(rows, Shares(), seeded.book)) == named(seeded)
    lonely = split_by_hash(texts(("a", "a")), Shares(train=0.98, validation=0.01, test=0.01), empty_book())
    assert named(lonely) == ["train"]


def test_splits_by_uri_lose_what_resembles_test() -> None:
    rows = texts(("a", "g"), ("b", "g"), ("c", "h"), ("d", "h"), ("e", "e"), ("f", "f"), ("z", "z"))
    given_splits = codes(["train", "test", "train", "validation", "train", "test", "train"])
    assigned = split_as_given(rows, given_splits, known(z="test"))
    assert named(assigned) == [OUT, "test", OUT, "validation", "train", "test", OUT]
    assert assigned.leaks == {"test": 2, "validation": 1}
    assert entries(assigned, "abcdefz") == {"b": "test", "d": "validation", "e": "train", "f": "test", "z": "test"}


def test_a_text_in_several_splits_by_uri_is_remembered_by_the_strongest() -> None:
    rows = texts(("a", "a"), ("a", "a"), ("b", "b"), ("b", "b"))
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        given_splits = ["test", "train", "validation", "train"]
        assigned = split_as_given(rows, codes([given_splits[n] for n in order]), empty_book())
        splits = named(assigned)
        assert [splits[n] for n in order] == ["test", OUT, "validation", OUT]
        assert entries(assigned, "ab") == {"a": "test", "b": "validation"}


def test_a_missing_validation_is_cut_from_train_for_good() -> None:
    keys = [(f"k{n}", f"k{n}") for n in range(1000)]
    first = split_as_given(texts(*keys), codes(["train"] * 900 + ["test"] * 100), empty_book())
    counts = Counter(named(first))
    assert counts["test"] == 100
    assert 60 <= counts["validation"] <= 120
    fewer = split_as_given(texts(*keys[:500]), codes(["train"] * 500), first.book)
    assert named(fewer) == named(first)[:500]
    tiny = split_as_given(texts(*keys[:4]), codes(["train", "train", "train", "test"]), empty_book())
    assert Counter(named(tiny)) == {"train": 2, "validation": 1, "test": 1}


def test_positions_and_group_names_depend_on_content_alone() -> None:
    keys = pa.array([b"b" * 16, b"a" * 16, b"c" * 16], pa.binary(16))
    names = group_names(keys, np.array([0, 0, 2]))
    assert names[0] == names[1] == int.from_bytes(b"a" * 8, "big")
    assert names[2] == int.from_bytes(b"c" * 8, "big")
    assert positions(names).tolist() == pytest.approx([0.170703, 0.170703, 0.170703], abs=1)
    assert (group_names(keys.slice(1), np.array([0, 1])) == names[[1, 2]]).all()
    assert len(group_names(keys.slice(0, 0), np.zeros(0, dtype=np.int64))) == 0


SNAPSHOT = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SNAPSHOT, min_size=2, max_size=6), st.booleans())
def test_no_text_once_in_test_ever_trains(growth: list[list[tuple[int, int]]], forget: bool) -> None:
    """Snapshots of texts 0..40 with links between them; groups merge as links come; rows may go away again."""
    book = empty_book()
    links: list[tuple[int, int]] = []
    ever_test: set[str] = set()
    for step in growth:
        links = step if forget else links + step
        numbers = sorted({number for pair in links for number in pair})
        groups = {number: number for number in numbers}
        for _ in numbers:
            for a, b in links:
                groups[a] = groups[b] = min(groups[a], groups[b])
        names = [f"k{number}" for number in numbers]
        rows = texts(*((name, f"g{groups[number]}") for name, number in zip(names, numbers, strict=True)))
        assigned = split_by_hash(rows, SHARES, book)
        splits = named(assigned)
        by_split: dict[str, set[str]] = {}
        for name, split in zip(names, splits, strict=True):
            by_split.setdefault(split, set()).add(name)
        ever_test |= by_split.get("test", set())
        for name in ("train", "validation"):
            assert not by_split.get(name, set()) & ever_test
        # Nor does anything train that is in one group with a test row of now.
        of = rows.groups.tolist()
        tested = {group for group, split in zip(of, splits, strict=True) if split == "test"}
        trained = {group for group, split in zip(of, splits, strict=True) if split == "train"}
        assert not tested & trained
        again = split_by_hash(rows, SHARES, assigned.book)
        assert (named(again), again.leaks) == (splits, assigned.leaks)
        book = assigned.book
