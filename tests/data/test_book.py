from __future__ import annotations

from mlops.data.book import Entry, merge, publish, put_book, read_book
from mlops.store import open_store
from mlops.types import ArtifactRef


def pointer() -> ArtifactRef:
    return ArtifactRef.model_validate(open_store().read_document("splits/tiny"))


def test_a_book_is_the_same_artifact_in_whatever_order() -> None:
    store = open_store()
    one = {"a": Entry("test", "a", "ann"), "b": Entry("train", "a")}
    ref = put_book(store, one)
    assert put_book(store, dict(reversed(one.items()))) == ref
    assert read_book(store, ref) == one
    assert read_book(store, None) == {}


def test_what_was_in_test_once_wins() -> None:
    one = {"a": Entry("train", "a"), "b": Entry("test", "b"), "c": Entry("kept_out", "c")}
    other = {"a": Entry("test", "x"), "b": Entry("train", "x"), "c": Entry("validation", "x"), "d": Entry("train", "d")}
    merged = merge(one, other)
    assert {key: entry.split for key, entry in merged.items()} == {
        "a": "test", "b": "test", "c": "kept_out", "d": "train",
    }  # fmt: skip


def test_two_runs_at_once_lose_nothing_and_a_repeat_changes_nothing() -> None:
    store = open_store()
    first = publish(store, "tiny", None, {"a": Entry("train", "a")})
    assert pointer() == first
    mine = publish(store, "tiny", first, {"a": Entry("train", "a"), "b": Entry("test", "b")})
    assert pointer() == mine
    theirs = publish(
        store, "tiny", first, {"a": Entry("train", "a"), "b": Entry("train", "b"), "c": Entry("test", "c")}
    )
    assert theirs != pointer()
    both = read_book(store, pointer())
    assert {key: entry.split for key, entry in both.items()} == {"a": "train", "b": "test", "c": "test"}
    before = pointer()
    assert publish(store, "tiny", first, read_book(store, mine)) == mine
    assert pointer() == before
