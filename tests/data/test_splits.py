from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.config_data import Shares
from mlops.data.book import CODES, NAMES, book_schema, empty_book, unseen_test_texts
from mlops.data.duplicates import join_units
from mlops.data.splits import Assigned, Texts, group_names, positions, split_as_given, split_by_hash
from mlops.data.text import digests

SHARES = Shares(train=0.5, validation=0.2, test=0.3)
OUT = "kept_out"


def texts(
    *rows: tuple[str, str], labels: Sequence[int] = (), unit: dict[str, str] | None = None, frozen: Sequence[str] = ()
) -> Texts:
    """Rows of (text, what it resembles); frozen: what test texts resemble that are no longer in the source."""
    names = pa.array([name for name, _ in rows], pa.string())
    first: dict[str, int] = {}
    near = np.array([first.setdefault(group, n) for n, group in enumerate([g for _, g in rows] + list(frozen))])
    units = pa.array([(unit or {}).get(name) for name, _ in rows], pa.string())
    return Texts(
        texts=names,
        keys=digests(names, folded=True),
        labels=np.array(labels or [0] * len(rows), dtype=np.int64),
        units=units,
        near=near.astype(np.int64),
        groups=join_units(near.astype(np.int64), pa.concat_arrays([units, pa.nulls(len(frozen), pa.string())])),
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


def test_new_texts_of_a_test_unit_join_test_unless_they_resemble_what_is_known() -> None:
    book = known({"old": "ann", "other": "bob"}, old="test", other="train")
    unit = {"n1": "ann", "n2": "bob", "copied": "ann", "taught": "ann", "theirs": "bob"}
    rows = texts(
        *(("n1", "n1"), ("n2", "n2"), ("copied", "old"), ("other", "other"), ("taught", "other"), ("theirs", "old")),
        unit=unit | {"other": "bob"},
        frozen=["old"],
    )
    assigned = split_by_hash(rows, SHARES, book)
    # A text that trains is not lost because somebody in test says the like, nor a user who says what test has said.
    assert named(assigned) == ["test", "train", OUT, "train", OUT, OUT]
    assert assigned.leaks == {"test": 2, "unit": 1}


def test_units_named_after_the_first_run_are_learned_from_what_the_book_has() -> None:
    book = known(a="test", b="train", c="train", d="validation")
    unit = {"a": "ann", "b": "ann", "c": "bob", "d": "cid", "new": "ann", "more": "cid"}
    assigned = split_by_hash(texts(*((name, name) for name in unit), unit=unit), SHARES, book)
    assert named(assigned) == ["test", OUT, "train", "validation", "test", "validation"]
    assert assigned.leaks == {"unit": 1}
    # What they wrote first has left the source: the book has their names now.
    later = split_by_hash(texts(("x", "x"), ("y", "y"), unit={"x": "ann", "y": "bob"}), SHARES, assigned.book)
    assert named(later) == ["test", "train"]


def test_who_repeats_a_test_text_stays_where_they_are() -> None:
    book = known({"thanks": "ann", "b": "bob"}, thanks="test", b="train")
    for name in ("bob", "cid"):
        rows = texts(("thanks", "t"), ("b", "b"), unit={"thanks": name, "b": "bob"})
        assigned = split_by_hash(rows, Shares(train=0.98, validation=0.01, test=0.01), book)
        assert named(assigned) == [OUT, "train"]
        assert assigned.leaks == {"test": 1}
        again = split_by_hash(texts(("z", "z"), unit={"z": "bob"}), SHARES, assigned.book)
        assert named(again) == ["train"]


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


USERS = st.one_of(st.none(), st.integers(0, 6))
WINDOW = st.lists(st.tuples(st.integers(0, 60), USERS), min_size=1, max_size=25, unique_by=lambda row: row[0])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WINDOW, min_size=2, max_size=8), st.integers(1, 4), st.booleans())
def test_units_and_resembling_texts_never_cross_however_the_window_slides(
    windows: list[list[tuple[int, int | None]]], alike: int, growing: bool
) -> None:
    """Texts 0..60, `alike` of which in a row resemble each other, by users who also say what others have said."""
    book = empty_book()
    rows: dict[int, int | None] = {}
    ever: dict[str, set[int]] = {"train": set(), "validation": set(), "test": set()}
    lived: dict[int, set[str]] = {}
    for window in windows:
        rows = rows | dict(window) if growing else dict(window)
        numbers = {f"k{number}": number for number in rows}
        gone = unseen_test_texts(book, digests(pa.array(list(numbers)), folded=True))["text"].to_pylist()
        held = texts(
            *((name, f"g{number // alike}") for name, number in numbers.items()),
            unit={name: f"u{rows[number]}" for name, number in numbers.items() if rows[number] is not None},
            frozen=[f"g{int(name[1:]) // alike}" for name in gone],
        )
        assigned = split_by_hash(held, SHARES, book)
        found = dict(zip(rows, named(assigned), strict=True))
        seen = {row["text"] for row in book.to_pylist()} | set(entries_of(book))
        for number, split in found.items():
            user = rows[number]
            if split != OUT:
                ever[split].add(number)
                lived.setdefault(user, set()).add(split) if user is not None else None
            relatives = [other for other in range(61) if other // alike == number // alike]
            unclaimed = not any(other in rows or f"k{other}" in seen for other in relatives if other != number)
            if user is not None and "test" in lived.get(user, ()) and unclaimed and f"k{number}" not in seen:
                assert split == "test"
        test = {number // alike for number in ever["test"]}
        assert not {number // alike for number, split in found.items() if split in ("train", "validation")} & test
        now = {name: {n // alike for n, split in found.items() if split == name} for name in ("train", "validation")}
        assert not now["train"] & now["validation"]
        # Whose texts were all kept out may train later, but nobody is ever in test who is not always.
        assert all(len(splits) == 1 or "test" not in splits for splits in lived.values()), lived
        assert all(len({found[n] for n in rows if rows[n] == user} - {OUT}) <= 1 for user in lived)
        again = split_by_hash(held, SHARES, assigned.book)
        assert [n for n, m in zip(found.values(), named(again), strict=True) if n not in (OUT, m)] == []
        book = assigned.book


def entries_of(book: pa.Table) -> list[str]:
    """The texts k0..k60 that a book has."""
    names = [f"k{number}" for number in range(61)]
    keys = digests(pa.array(names), folded=True).to_pylist()
    known_keys = set(book["key"].to_pylist())
    return [name for name, key in zip(names, keys, strict=True) if key in known_keys]


def test_a_fixed_population_keeps_its_test_set_for_ever() -> None:
    book, counts = empty_book(), []
    everything: dict[str, str] = {}
    for month in range(24):
        names = {f"m{month} n{n}": f"u{n % 100}" for n in range(300)}
        gone = unseen_test_texts(book, digests(pa.array(list(names)), folded=True))["text"].to_pylist()
        # A few say each month what somebody has said before.
        said = {name: f"said {n % 7}" if n % 50 == month % 50 else name for n, name in enumerate(names)}
        everything |= said
        rows = texts(*said.items(), unit=names, frozen=[everything[name] for name in gone])
        assigned = split_by_hash(rows, Shares(), book)
        counts.append(Counter(named(assigned)))
        book = assigned.book
    assert all(
        count["test"] > 0.5 * counts[0]["test"] and count["train"] > 0.9 * counts[0]["train"] for count in counts
    )
