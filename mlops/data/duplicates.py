"""Near-duplicate groups: MinHash bands for candidates, a bitmap that rules most of them out, Jaccard verified on the rest.

Texts are compared as sets of words in which a repeated word counts again (`mlops.data.words`): a share of words replaced
costs a short headline and a long article the same similarity, which shingles do not give. Groups are what hangs together.
Nothing here depends on the order of the texts or on Python's hash seed.

MinHash and banding: Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3. The bitmap: Sandes,
Teodoro, Melo, Bitmap filter: speeding up exact set similarity joins, 2018.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops.data.words import Hashes, Indices, WordSets, mix, spread, word_sets

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("evergreen")

Signatures = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]

_MISS = 2e-4  # most that the bands may miss of the pairs that are exactly at the threshold
_MOST_HASHES = 192
_NEIGHBOURS = 200  # comparisons per text within one bucket; only a boilerplate corpus comes near it
_CHUNK = 1 << 18  # words hashed at a time: they stay in the processor's cache
_PAIRS = 1 << 20  # candidates verified at a time
_MARKED_PAIRS = 1 << 28  # comparisons of marked texts with all of their large buckets: half a minute


def near_duplicate_groups(texts: pa.Array, threshold: float, marked: Flags | None = None) -> Indices:
    """Group number per text, [n] int64: the index of the group's first text.

    texts: normalised, none missing; upper and lower case are the same. threshold: Jaccard similarity of the word sets,
    0 < threshold <= 1, from which two texts are linked. marked [n]: texts, such as those of a test set, none of whose pairs
    may be missed where very many texts are much alike. About 40,000 short texts a second on two cores.
    """
    sets = word_sets(texts)
    roots = np.arange(len(texts), dtype=np.int64)
    if len(texts) < 2:
        return roots
    bands, rows = bands_for(threshold)
    signatures = _signatures(sets, bands * rows)
    keys = np.stack([_band_key(signatures[band * rows : (band + 1) * rows]) for band in range(bands)])
    rank = mix(keys.sum(axis=0, dtype=np.uint64))
    del signatures
    links = _Links(sets, threshold, roots, np.zeros(len(texts), dtype=bool) if marked is None else marked)
    for key in keys:
        links.follow(key, rank)
    if links.crowded:
        log.warning(
            "near-duplicates: up to %s texts have the same boilerplate; each is compared with %s of them%s, so that a few "
            "pairs may be missed; leave out of the text what all of them say",
            f"{links.crowded:,}", _NEIGHBOURS, ", a known test text with all" if marked is not None and not links.short else "",
        )  # fmt: skip
    return links.roots


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, rows per band): the longest bands, of at most _MOST_HASHES in all, that miss less than _MISS at the threshold."""
    for rows in range(_MOST_HASHES, 0, -1):
        chance = threshold**rows
        bands = 1 if chance >= 1 else int(np.ceil(np.log(_MISS) / np.log1p(-chance)))
        if bands * rows <= _MOST_HASHES // (2 if rows > 4 else 1):
            return bands, rows
    return _MOST_HASHES, 1


def _signatures(sets: WordSets, hashes: int) -> Signatures:
    """MinHash signatures [hashes, n]: the smallest of each set under each of as many hash functions."""
    seeds = np.random.default_rng(20240229).integers(0, 2**32, size=(2, hashes), dtype=np.uint32)
    multiply, add = seeds[0] | np.uint32(1), seeds[1]
    # Multiplication alone keeps the low bits of what it is given; the words' own hashes are spread over all 32 bits.
    words = (sets.hashes >> np.uint64(32)).astype(np.uint32)
    count = len(sets.sizes)
    signatures = np.empty((hashes, count), dtype=np.uint32)

    def fill(first: int, last: int) -> None:
        values = words[sets.values[sets.starts[first] : sets.starts[last]]]
        cuts = sets.starts[first:last] - sets.starts[first]
        hashed = np.empty_like(values)
        for number in range(hashes):
            np.multiply(values, multiply[number], out=hashed)
            np.add(hashed, add[number], out=hashed)
            np.right_shift(hashed, 15, out=(low := np.empty_like(hashed)))
            np.bitwise_xor(hashed, low, out=hashed)
            np.multiply(hashed, np.uint32(0x2C1B3C6D), out=hashed)
            signatures[number, first:last] = np.minimum.reduceat(hashed, cuts)

    with ThreadPoolExecutor(_cores()) as pool:
        for done in [pool.submit(fill, first, last) for first, last in _chunks(sets.starts, _CHUNK)]:
            done.result()
    return signatures


def _cores() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _chunks(starts: Indices, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of sets with about `size` elements each, one set at least."""
    first, count = 0, len(starts) - 1
    while first < count:
        last = int(np.searchsorted(starts, starts[first] + size, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last


def _band_key(rows: Signatures) -> Hashes:
    """One 64-bit number per set from the rows of a band: equal where all of them are."""
    keys = np.zeros(rows.shape[1], dtype=np.uint64)
    for row in rows:
        keys = mix(keys * np.uint64(0x9E3779B97F4A7C15) + row)
    return keys


class _Links:
    """What hangs together so far. roots: per text, the smallest number of its group. crowded: texts in the largest bucket
    whose texts were not all compared; short: marked ones were too many to be compared with all."""

    def __init__(self, sets: WordSets, threshold: float, roots: Indices, marked: Flags) -> None:
        self.sets, self.threshold, self.roots, self.marked = sets, threshold, roots, marked
        self.crowded, self.short, self._left = 0, False, _MARKED_PAIRS
        self._bitmaps = _bitmaps(sets)
        self._sizes = sets.sizes
        self._waiting: list[tuple[Indices, Indices]] = []

    def follow(self, keys: Hashes, rank: Hashes) -> None:
        """Verifies the pairs that share a key; in a bucket, each text with the next _NEIGHBOURS by rank, marked ones with all."""
        order = np.lexsort((rank, keys))
        ordered = keys[order]
        # Most texts are alone in their bucket: only the others are gone through, and ever fewer of them.
        places = np.flatnonzero(ordered[1:] == ordered[:-1])
        waiting = 0
        for distance in range(1, _NEIGHBOURS + 1):
            if distance > 1:
                places = places[places + distance < len(ordered)]
                places = places[ordered[places] == ordered[places + distance]]
            if not len(places):
                break
            waiting += self._consider(order[places], order[places + distance])
            # The nearest ones first: what they join needs no further look.
            if distance <= 2 or waiting > _PAIRS:
                self._settle()
                waiting = 0
        else:
            places = places[places + _NEIGHBOURS + 1 < len(ordered)]
            for key in np.unique(ordered[places][ordered[places] == ordered[places + _NEIGHBOURS + 1]]):
                first, last = np.searchsorted(ordered, key, "left"), np.searchsorted(ordered, key, "right")
                self._crowd(order[first:last])
        self._settle()

    def _crowd(self, members: Indices) -> None:
        """Compares the marked texts of a large bucket with all others in it, as long as that takes no hours."""
        self.crowded = max(self.crowded, len(members))
        marks = members[self.marked[members]]
        some_left = self._left // len(members)
        self.short |= len(marks) > some_left
        marks = marks[:some_left]
        self._left -= len(marks) * len(members)
        step = max(1, _PAIRS // len(members))
        for start in range(0, len(marks), step):
            some = marks[start : start + step]
            self._consider(np.repeat(some, len(members)), np.tile(members, len(some)))
            self._settle()

    def _consider(self, left: Indices, right: Indices) -> int:
        """Keeps the pairs that are not together already and that their sizes and bitmaps allow; how many."""
        apart = self.roots[left] != self.roots[right]
        left, right = left[apart], right[apart]
        # Jaccard >= t means that at most (1 - t) / (1 + t) of both sizes differ; the bitmaps differ in no more bits.
        share = (1 - self.threshold) / (1 + self.threshold) + 1e-9
        most = (self._sizes[left] + self._sizes[right]) * share
        differing = np.zeros(len(left), dtype=np.uint16)
        for bitmap in self._bitmaps:
            differing += np.bitwise_count(bitmap[left] ^ bitmap[right])
        likely = (differing <= most) & (np.abs(self._sizes[left] - self._sizes[right]) <= most)
        if likely.any():
            self._waiting.append((left[likely], right[likely]))
        return int(likely.sum())

    def _settle(self) -> None:
        """Verifies what waits, joins what is similar."""
        if not self._waiting:
            return
        left, right = (np.concatenate(side) for side in zip(*self._waiting, strict=True))
        self._waiting = []
        for start in range(0, len(left), _PAIRS):
            one, other = left[start : start + _PAIRS], right[start : start + _PAIRS]
            apart = self.roots[one] != self.roots[other]
            one, other = one[apart], other[apart]
            if not len(one):
                continue
            similar = _jaccard(self.sets, one, other) >= self.threshold - 1e-9
            if similar.any():
                self.roots = joined(self.roots, one[similar], other[similar])


def _bitmaps(sets: WordSets) -> list[Hashes]:
    """Two 64-bit words per set: bit b is the parity of the elements whose hash says b."""
    found = []
    for shift in (0, 6):
        bits = np.uint64(1) << ((sets.hashes >> np.uint64(shift)) & np.uint64(63))
        # Half of the elements in each word: 128 bits in all.
        bits[((sets.hashes >> np.uint64(12)) & np.uint64(1)) == (shift == 0)] = 0
        found.append(np.bitwise_xor.reduceat(bits[sets.values], sets.starts[:-1]))
    return found


def _jaccard(sets: WordSets, left: Indices, right: Indices) -> npt.NDArray[np.float64]:
    """Jaccard similarity per pair [m]."""
    sizes = sets.sizes
    similarity = np.empty(len(left))
    elements = np.concatenate([[0], np.cumsum(sizes[left] + sizes[right])])
    for first, last in _chunks(elements, 1 << 23):
        one, other = left[first:last], right[first:last]
        pair = np.arange(last - first, dtype=np.uint64) << np.uint64(32)
        both = [
            np.repeat(pair, sizes[side]) | sets.values[spread(sets.starts[side], sizes[side])] for side in (one, other)
        ]
        packed = np.sort(np.concatenate(both))
        twice = packed[1:][packed[1:] == packed[:-1]] >> np.uint64(32)
        shared = np.bincount(twice.astype(np.int64), minlength=last - first)
        similarity[first:last] = shared / (sizes[one] + sizes[other] - shared)
    return similarity


def joined(roots: Indices, left: Indices, right: Indices) -> Indices:
    """Roots after joining the groups of left[i] and right[i]: again the smallest number of each group."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    one, other = roots[left], roots[right]
    # Only the roots that take part: the rest keeps its own.
    members, places = np.unique(np.concatenate([one, other]), return_inverse=True)
    edges = places[: len(one)], places[len(one) :]
    graph = coo_matrix((np.ones(len(one), dtype=np.int8), edges), shape=(len(members), len(members)))
    count, component = connected_components(graph, directed=False)
    smallest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(smallest, component, members)
    renamed = np.arange(len(roots), dtype=np.int64)
    renamed[members] = smallest[component]
    return renamed[roots]


def join_units(roots: Indices, units: pa.Array) -> Indices:
    """Roots where also rows of one unit [n] are together; a unit that is missing joins nothing."""
    codes = units.dictionary_encode()
    known = np.flatnonzero(codes.is_valid().to_numpy(zero_copy_only=False))
    if not len(known):
        return roots
    numbers = codes.indices.drop_null().to_numpy()
    _, first = np.unique(numbers, return_index=True)
    return joined(roots, known, known[first[np.searchsorted(np.unique(numbers), numbers)]])
