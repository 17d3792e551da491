"""Near-duplicate groups: MinHash over word shingles, LSH bands for candidates, Jaccard verified on each.

Two views are compared. In one, texts of five or more words are sets of 5-word shingles. In the other, texts of up to
24 words are sets of 2-word shingles (a headline with one word changed shares few 5-word ones). What either finds is
linked; groups are what hangs together. Nothing here depends on the order of the texts or on Python's hash seed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

PERMUTATIONS = 128
_LONG, _SHORT = 5, 2  # words in a shingle
_SHORT_TEXT = 24  # words up to which a text is also compared by its short shingles
_MISS = 1e-4  # most that the bands may miss of the pairs that are exactly at the threshold
_NEIGHBOURS = 200  # comparisons per text within one bucket; only a boilerplate corpus comes near it
_CHUNK = 1 << 18  # shingles hashed at a time: 256 MB
# Scripts without spaces between words count each character as a word.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")


class _Sets(NamedTuple):
    """Shingle sets, one after another: those of set i are values[starts[i]:starts[i + 1]], sorted and distinct."""

    values: Hashes
    starts: Indices


def near_duplicate_groups(texts: Sequence[str], threshold: float) -> Indices:
    """Group number per text, [n] int64: the index of the group's first text.

    texts: normalised; upper and lower case are the same. threshold: Jaccard similarity, 0 < threshold <= 1, from which
    two texts are linked. Time is about a millisecond per text of 400 words.
    """
    forest = _Forest(len(texts))
    words, starts = _word_hashes(texts)
    lengths = np.diff(starts)
    views = ((_LONG, lengths >= _LONG), (_SHORT, lengths <= _SHORT_TEXT))
    for size, chosen in views:
        members = np.flatnonzero(chosen)
        if len(members) > 1:
            _link_similar(_shingle_sets(words, starts, members, size), threshold, forest, members)
    return forest.roots()


def _word_hashes(texts: Sequence[str]) -> tuple[Hashes, Indices]:
    """A 64-bit hash per word of all texts, and where each text starts; a text without a word is one word itself."""
    numbers: dict[str, int] = {}
    ids: list[int] = []
    starts = np.zeros(len(texts) + 1, dtype=np.int64)
    for position, text in enumerate(texts):
        lowered = text.casefold()
        words = _WORDS.findall(lowered) or [lowered]
        ids.extend([numbers.setdefault(word, len(numbers)) for word in words])
        starts[position + 1] = len(ids)
    digests = b"".join(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest() for word in numbers)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)[np.array(ids, dtype=np.int64)], starts


def _shingle_sets(words: Hashes, starts: Indices, members: Indices, size: int) -> _Sets:
    """The sets of `size` words in a row of the texts `members`; a text shorter than that is one shingle."""
    lengths = starts[members + 1] - starts[members]
    counts = np.maximum(lengths - size + 1, 1)
    owner = np.repeat(np.arange(len(members)), counts)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    first, last = starts[members][owner] + offset, starts[members + 1][owner] - 1
    values = np.zeros(len(owner), dtype=np.uint64)
    for step in range(size):
        place = first + step
        # Past the end of a short text there is no word: zero, so that its length is part of its shingle.
        word = np.where(place <= last, words[np.minimum(place, last)], np.uint64(0))
        values = _mix(values * np.uint64(0x9E3779B97F4A7C15) + word)
    order = np.lexsort((values, owner))
    owner, values = owner[order], values[order]
    fresh = np.ones(len(values), dtype=bool)
    fresh[1:] = (owner[1:] != owner[:-1]) | (values[1:] != values[:-1])
    ends = np.searchsorted(owner[fresh], np.arange(len(members) + 1))
    return _Sets(values[fresh], ends.astype(np.int64))


def _mix(values: Hashes) -> Hashes:
    """A bijection of 64-bit numbers that spreads every bit over all (splitmix64's finish)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _signatures(sets: _Sets) -> npt.NDArray[np.uint32]:
    """MinHash signatures [n, PERMUTATIONS]: the smallest of each set under each of as many hash functions."""
    seeds = np.random.default_rng(20240229).integers(0, 2**64, size=(2, PERMUTATIONS), dtype=np.uint64)
    multiply, add = seeds[0] | np.uint64(1), seeds[1]
    count = len(sets.starts) - 1
    signatures = np.empty((count, PERMUTATIONS), dtype=np.uint32)
    first = 0
    while first < count:
        last = int(np.searchsorted(sets.starts, sets.starts[first] + _CHUNK, side="right")) - 1
        last = min(max(last, first + 1), count)
        values = sets.values[sets.starts[first] : sets.starts[last]]
        cuts = sets.starts[first:last] - sets.starts[first]
        for number in range(PERMUTATIONS):
            hashed = ((values * multiply[number] + add[number]) >> np.uint64(32)).astype(np.uint32)
            signatures[first:last, number] = np.minimum.reduceat(hashed, cuts)
        first = last
    return signatures


def _rows_per_band(threshold: float) -> int:
    """The longest band that still misses less than _MISS of the pairs at the threshold."""
    for rows in range(PERMUTATIONS, 1, -1):
        if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= _MISS:
            return rows
    return 1


def _link_similar(sets: _Sets, threshold: float, forest: _Forest, members: Indices) -> None:
    """Joins, by text number, all members whose Jaccard similarity is at least the threshold.

    Pairs that hang together already are passed over: they could add nothing.
    """
    signatures = _signatures(sets)
    # An estimate five standard errors too low does not happen to a pair that is similar enough.
    least = threshold - 5 * np.sqrt(max(threshold * (1 - threshold), 0.01) / PERMUTATIONS)
    rows = _rows_per_band(threshold)
    rank = _ranks(signatures)
    failed: set[tuple[int, int]] = set()
    roots = forest.roots()[members]
    for start in range(0, PERMUTATIONS - rows + 1, rows):
        for left, right in _bucket_pairs(signatures[:, start : start + rows], rank):
            apart = roots[left] != roots[right]
            one, other = left[apart], right[apart]
            likely = (signatures[one] == signatures[other]).mean(axis=1) >= least if len(one) else apart[:0]
            joined = False
            for a, b in zip(one[likely].tolist(), other[likely].tolist(), strict=True):
                if (a, b) in failed or forest.find(int(members[a])) == forest.find(int(members[b])):
                    continue
                if _jaccard(sets, a, b) >= threshold:
                    forest.join(int(members[a]), int(members[b]))
                    joined = True
                else:
                    failed.add((a, b))
            if joined:
                roots = forest.roots()[members]


def _ranks(signatures: npt.NDArray[np.uint32]) -> Indices:
    """The place of each set in an order that depends on the signatures alone, not on the order of the texts."""
    blocks = np.ascontiguousarray(signatures).view(f"V{signatures.shape[1] * 4}").ravel()
    rank = np.empty(len(blocks), dtype=np.int64)
    rank[np.argsort(blocks, kind="stable")] = np.arange(len(blocks))
    return rank


def _bucket_pairs(band: npt.NDArray[np.uint32], rank: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Candidates: sets that agree in the whole band; in a bucket, each with the next _NEIGHBOURS by rank."""
    keys = np.zeros(len(band), dtype=np.uint64)
    for column in range(band.shape[1]):
        keys = _mix(keys * np.uint64(0x9E3779B97F4A7C15) + band[:, column])
    order = np.lexsort((rank, keys))
    ordered = keys[order]
    for distance in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
        same = ordered[distance:] == ordered[:-distance]
        if not same.any():
            return
        left, right = order[:-distance][same], order[distance:][same]
        yield np.minimum(left, right), np.maximum(left, right)


def _jaccard(sets: _Sets, a: int, b: int) -> float:
    one = sets.values[sets.starts[a] : sets.starts[a + 1]]
    other = sets.values[sets.starts[b] : sets.starts[b + 1]]
    both = len(np.intersect1d(one, other, assume_unique=True))
    return float(both / (len(one) + len(other) - both))


class _Forest:
    """Union-find; a tree's root is its smallest number."""

    def __init__(self, size: int) -> None:
        self.parents: list[int] = list(range(size))

    def find(self, item: int) -> int:
        while self.parents[item] != item:
            self.parents[item] = self.parents[self.parents[item]]
            item = self.parents[item]
        return item

    def join(self, one: int, other: int) -> None:
        one, other = self.find(one), self.find(other)
        self.parents[max(one, other)] = min(one, other)

    def roots(self) -> Indices:
        return np.array([self.find(item) for item in range(len(self.parents))], dtype=np.int64)


def join_groups(groups: Sequence[Any], units: Sequence[Any]) -> list[int]:
    """Group number per row, where rows of one group or one unit are together; a unit that is none joins nothing."""
    forest = _Forest(len(groups))
    first: dict[tuple[str, Any], int] = {}
    for position, (group, unit) in enumerate(zip(groups, units, strict=True)):
        forest.join(position, first.setdefault(("group", group), position))
        if unit is not None:
            forest.join(position, first.setdefault(("unit", unit), position))
    return [int(root) for root in forest.roots()]
