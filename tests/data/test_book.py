from __future__ import annotations

import pyarrow as pa

from mlops.data.book import (
    CODES,
    NAMES,
    book_schema,
    empty_book,
    has_unit,
    known_splits,
    merge,
    publish,
    put_book,
    read_book,
    unit_splits,
    unseen_test_texts,
)
from mlops.store import open_store
from mlops.types import ArtifactRef


def key(name: str) -> bytes:
    return name.encode().ljust(16, b"-")


def book(**splits: str) -> pa.Table:
    """Entries NAME="split" or NAME="split/unit"."""
    rows = []
    for name, what in splits.items():
        split, _, unit = what.partition("/")
        text = f"text of {name}" if split == "test" else None
        rows.append({"key": key(name), "split": CODES[split], "unit": unit or None, "text": text})
    return pa.Table.from_pylist(rows, schema=book_schema())


def entries(table: pa.Table) -> dict[str, str]:
    return {row["key"].decode().rstrip("-"): NAMES[row["split"]] for row in table.to_pylist()}


def pointer() -> ArtifactRef:
    return ArtifactRef.model_validate(open_store().read_document("splits/tiny"))


def test_a_book_is_the_same_artifact_in_whatever_order() -> None:
    store = open_store()
    one = book(a="test/ann", b="train")
    ref = put_book(store, one)
    assert put_book(store, one.take([1, 0])) == ref
    assert read_book(store, ref).to_pylist() == one.to_pylist()
    assert read_book(store, None).num_rows == 0


def test_what_was_in_test_once_wins() -> None:
    one = book(a="train", b="test", c="kept_out")
    other = book(a="test", b="train", c="validation", d="train")
    assert entries(merge(one, other)) == {"a": "test", "b": "test", "c": "kept_out", "d": "train"}
    assert entries(merge(empty_book(), other)) == entries(other)


def test_a_text_keeps_every_unit_that_it_came_with() -> None:
    def units(table: pa.Table) -> list[tuple[str, str, str | None, str | None]]:
        names = [(row["key"].decode().rstrip("-"), NAMES[row["split"]]) for row in table.to_pylist()]
        return sorted((*name, row["unit"], row["text"]) for name, row in zip(names, table.to_pylist(), strict=True))

    unnamed = book(a="test", b="train", c="train")
    named = book(a="test/ann", b="train/bob", c="test/cid", d="kept_out/ann")
    once = merge(unnamed, named)
    assert units(once) == [
        ("a", "test", "ann", "text of a"),
        ("b", "train", "bob", None),
        ("c", "test", "cid", "text of c"),
        ("d", "kept_out", "ann", None),
    ]
    assert units(merge(named, unnamed)) == units(once)
    twice = merge(once, book(a="test/bea", b="train/bob", c="test"))
    assert [entry for entry in units(twice) if entry[0] == "a"] == [
        ("a", "test", "ann", "text of a"),
        ("a", "test", "bea", "text of a"),
    ]
    assert unit_splits(twice, pa.array(["ann", "bea", "bob"])).tolist() == [3, 3, 0]
    assert known_splits(twice, pa.array([key("a")], pa.binary(16))).tolist() == [3]
    store = open_store()
    assert put_book(store, twice) == put_book(store, twice.take(list(range(twice.num_rows))[::-1]))
    assert units(merge(twice, twice)) == units(twice)
    # Who only repeats a test text has none in test; who wrote one that another run trained on has.
    assert units(merge(book(a="test"), book(a="kept_out/bob"))) == [("a", "test", None, "text of a")]
    assert units(merge(book(a="test/ann"), book(a="train/bob")))[1][2] == "bob"


def test_texts_and_units_are_looked_up() -> None:
    one = book(a="train/ann", b="test/ann", c="kept_out/bob", d="validation")
    keys = pa.array([key("d"), key("new"), key("b")], pa.binary(16))
    assert known_splits(one, keys).tolist() == [CODES["validation"], -1, CODES["test"]]
    units = pa.array(["bob", None, "ann", "eve"])
    assert unit_splits(one, units).tolist() == [CODES["kept_out"], -1, CODES["test"], -1]
    assert unit_splits(book(a="train/bob", b="kept_out/bob"), units).tolist()[0] == CODES["train"]
    assert has_unit(one, keys).tolist() == [False, False, True]
    assert unit_splits(empty_book(), units).tolist() == [-1] * 4
    gone = unseen_test_texts(one, pa.array([key("a")], pa.binary(16)))
    assert gone["text"].to_pylist() == ["text of b"]
    assert unseen_test_texts(one, keys).num_rows == 0


def test_two_runs_at_once_lose_nothing_and_a_repeat_changes_nothing() -> None:
    store = open_store()
    first = publish(store, "tiny", None, book(a="train"))
    assert pointer() == first
    mine = publish(store, "tiny", first, book(a="train", b="test"))
    assert pointer() == mine
    theirs = publish(store, "tiny", first, book(a="train", b="train", c="test"))
    assert theirs != pointer()
    assert entries(read_book(store, pointer())) == {"a": "train", "b": "test", "c": "test"}
    before = pointer()
    assert publish(store, "tiny", first, read_book(store, mine)) == mine
    assert pointer() == before
