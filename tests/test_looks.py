"""Looks at the same test rows are counted, at other rows not, and judging the same again is the same look."""

from __future__ import annotations

from mlops import looks
from mlops.judging.answers import Rows
from mlops.store import open_store
from mlops.types import ArtifactRef, Evaluation


def evaluation(sha256: str) -> Evaluation:
    ref = ArtifactRef(kind="scores", uri="file:///none", sha256="0" * 64, size_bytes=1)
    return Evaluation(model_sha256=sha256, snapshot_sha256="s", split="test", metrics={}, per_row=ref)


def rows(start: int, count: int = 1000) -> Rows:
    digests = tuple(hash_of(number) for number in range(start, start + count))
    ids = tuple(str(number) for number in range(count))
    return Rows(ids, ("a",) * count, ("a",) * count, digests=digests)


def hash_of(number: int) -> int:
    return (number * 0x9E3779B97F4A7C15 + 12345) % 2**64 ^ (number * 0xD1B54A32D192ED03 % 2**64)


def take(found: Rows, candidate: str, champion: str = "c") -> int:
    return looks.take("tiny", found, evaluation(candidate), evaluation(champion))


def test_each_candidate_is_a_look_and_the_same_one_is_not() -> None:
    assert [take(rows(0), name) for name in ("one", "two", "one", "three", "two")] == [1, 2, 1, 3, 2]
    assert take(rows(0), "one", "another champion") == 4
    assert looks.take("other", rows(0), evaluation("one"), None) == 1


def test_rows_that_are_mostly_new_are_another_set() -> None:
    assert take(rows(0), "one") == 1
    assert take(rows(300), "two") == 2  # 70% of these were looked at
    assert take(rows(900), "three") == 1  # a tenth, and four tenths
    assert take(rows(5000, 40), "four") == 1
    assert take(rows(5000, 40), "five") == 2


def test_a_look_that_got_lost_does_not_stop_the_next() -> None:
    assert [take(rows(0), name) for name in ("one", "two", "three")] == [1, 2, 3]
    lost = open_store().blobs.local("documents/looks/tiny/000002.json")
    assert lost is not None
    lost.unlink()
    assert [take(rows(0), name) for name in ("four", "five")] == [3, 4]


def test_a_small_part_of_a_large_set_is_a_look_at_it() -> None:
    assert take(rows(0, 20_000), "one") == 1
    assert [take(rows(start, 1000), f"part {start}") for start in (0, 7000, 15_000)] == [2, 2, 2]
