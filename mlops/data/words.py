"""Texts as sets of words: what near-duplicates are told by."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

# Scripts without spaces between words count each character as a word.
_CJK = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PARTS = re.compile(rf"[{_CJK}]|[^{_CJK}]+")
_CORE = re.compile(r"[^\W_]+")
_CHUNK = 1 << 16  # texts split at a time


class WordSets(NamedTuple):
    """Sets one after another: that of text i is values[starts[i]:starts[i + 1]], sorted and distinct.

    A value stands for a word and how often it came before in its text, so that "no no" is not "no". hashes[values] are
    the same for the same words in any corpus; the values themselves are not.
    """

    values: npt.NDArray[np.uint32]
    starts: Indices
    hashes: Hashes

    @property
    def sizes(self) -> Indices:
        """Elements per set."""
        return np.diff(self.starts)


def words_of(token: str) -> list[str]:
    """The words of a piece of text without white space: case and the marks around it do not count."""
    words = []
    for part in _PARTS.findall(token.casefold()):
        word = part if part.isalnum() else _without_edges(part)
        if word:
            words.append(word)
    return words


def _without_edges(part: str) -> str:
    """A part from its first letter or digit to its last, in time that grows with its length alone: "[\\W_]+$" begins anew
    at every mark of a run that is not at the end."""
    first = _CORE.search(part)
    if first is None:
        return ""
    last = len(part)
    while not _CORE.match(part, last - 1):
        last -= 1
    return part[first.start() : last]


def word_sets(texts: pa.Array) -> WordSets:
    """The word sets of normalised texts [n]; a text without any word is one word itself."""
    vocabulary: dict[str, int] = {}
    known: dict[str, tuple[int, ...]] = {}
    counts, values = [], []
    for start in range(0, len(texts), _CHUNK):
        sizes, ids = _numbered(texts.slice(start, _CHUNK), known, vocabulary)
        counts.append(sizes)
        values.append(ids)
    sizes = np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)
    flat = np.concatenate(values) if values else np.zeros(0, dtype=np.int64)
    return _sets(flat, sizes, list(vocabulary))


def _numbered(
    texts: pa.Array, known: dict[str, tuple[int, ...]], vocabulary: dict[str, int]
) -> tuple[Indices, Indices]:
    """(words per text, word numbers of all texts); `known` remembers the words of every token, `vocabulary` grows."""
    import pyarrow.compute as pc

    lists = pc.split_pattern(texts, " ")
    tokens = pc.list_flatten(lists).dictionary_encode()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers = []
    for token in tokens.dictionary.to_pylist():
        found = known.get(token)
        if found is None:
            found = tuple(vocabulary.setdefault(word, len(vocabulary)) for word in words_of(token))
            known[token] = found
        numbers.append(found)
    per_token = np.fromiter(map(len, numbers), dtype=np.int64, count=len(numbers))
    offsets = np.concatenate([[0], np.cumsum(per_token)])
    table = np.fromiter((number for found in numbers for number in found), dtype=np.int64, count=int(offsets[-1]))
    codes = tokens.indices.to_numpy().astype(np.int64)
    values = table[spread(offsets[codes], per_token[codes])]
    # Words per text: how far the running count of words comes by the text's last token.
    ends = np.concatenate([[0], np.cumsum(per_token[codes])])
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    sizes = ends[bounds[1:]] - ends[bounds[:-1]]
    if (sizes == 0).any():
        return _with_wordless(texts, sizes, values, vocabulary)
    return sizes, values


def _with_wordless(
    texts: pa.Array, sizes: Indices, values: Indices, vocabulary: dict[str, int]
) -> tuple[Indices, Indices]:
    empty = np.flatnonzero(sizes == 0)
    whole = [vocabulary.setdefault(f" {text.casefold()}", len(vocabulary)) for text in texts.take(empty).to_pylist()]
    places = np.concatenate([[0], np.cumsum(sizes)])[empty]
    sizes = sizes.copy()
    sizes[empty] = 1
    return sizes, np.insert(values, places, whole)


def spread(first: Indices, counts: Indices) -> Indices:
    """The ranges first[i], first[i] + 1, … of counts[i] numbers each, one after another."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(first - (ends - counts), counts) + np.arange(total)


def _sets(flat: Indices, sizes: Indices, vocabulary: list[str]) -> WordSets:
    """Words numbered by (word, which time in its text), sorted within each text."""
    owner = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
    packed = np.sort((owner << np.uint64(32)) | flat.astype(np.uint64))
    del owner
    words = (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    fresh = np.ones(len(packed), dtype=bool)
    fresh[1:] = packed[1:] != packed[:-1]
    base = _word_hashes(vocabulary)
    if fresh.all():
        return WordSets(words.astype(np.uint32), _bounds(sizes), base)
    first = np.maximum.accumulate(np.where(fresh, np.arange(len(packed)), 0))
    times = np.arange(len(packed)) - first
    # Repeats get numbers of their own behind the vocabulary's.
    again = np.flatnonzero(times)
    pairs, numbers = np.unique(times[again] * len(vocabulary) + words[again], return_inverse=True)
    words[again] = len(vocabulary) + numbers
    repeats = mix(base[pairs % len(vocabulary)] + (pairs // len(vocabulary)).astype(np.uint64))
    return WordSets(words.astype(np.uint32), _bounds(sizes), np.concatenate([base, repeats]))


def _bounds(sizes: Indices) -> Indices:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _word_hashes(vocabulary: list[str]) -> Hashes:
    digests = b"".join(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest() for word in vocabulary)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def mix(values: Hashes) -> Hashes:
    """A bijection of 64-bit numbers that spreads every bit over all (splitmix64's finish)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
