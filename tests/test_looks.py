"""Looks at the same test rows are counted, at other rows not, and judging the same again is the same look."""

from __future__ import annotations

from mlops import looks
from mlops.judging.answers import Rows
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
